import { Injectable } from '@nestjs/common';
import { OutboundError } from '../../common/outbound/outbound-error.js';
import { OutboundHttp, type OutboundRequest, type OutboundResponse } from '../../common/outbound/outbound-http.js';
import { type Message, stateOf } from '../message.js';
import { discordPayload } from '../templates/discord.js';
import { slackPayload } from '../templates/slack.js';
import { ChannelSender, type ChannelTarget, NotDelivered } from './channel-sender.js';

const TIMEOUT_MS = 15_000;
const EXCERPT = 200;
const LONGEST_WAIT_MS = 3_600_000;
const JSON_TYPE = { 'content-type': 'application/json' } as const;

@Injectable()
export class SlackSender extends ChannelSender {
  constructor(private readonly http: OutboundHttp) {
    super();
  }

  async send({ urls }: ChannelTarget, message: Message): Promise<void> {
    await deliver(this.http, {
      method: 'POST',
      url: urls.url ?? '',
      headers: JSON_TYPE,
      body: JSON.stringify(slackPayload(message)),
    });
  }
}

@Injectable()
export class DiscordSender extends ChannelSender {
  constructor(private readonly http: OutboundHttp) {
    super();
  }

  async send({ urls }: ChannelTarget, message: Message): Promise<void> {
    await deliver(this.http, {
      method: 'POST',
      url: urls.url ?? '',
      headers: JSON_TYPE,
      body: JSON.stringify(discordPayload(message)),
    });
  }
}

/** The event as outbound webhooks get it, without their signature. */
@Injectable()
export class JsonSender extends ChannelSender {
  constructor(private readonly http: OutboundHttp) {
    super();
  }

  async send({ urls }: ChannelTarget, { eventId, type }: Message, body: string): Promise<void> {
    const headers = { ...JSON_TYPE, 'x-backstay-event': type, 'x-backstay-event-id': eventId };
    await deliver(this.http, { method: 'POST', url: urls.url ?? '', headers, body });
  }
}

/** A dead-man's switch: someone else's clock that raises the alarm when it is not called. */
@Injectable()
export class PingSender extends ChannelSender {
  constructor(private readonly http: OutboundHttp) {
    super();
  }

  async send({ urls }: ChannelTarget, message: Message): Promise<void> {
    const url = message.type.endsWith('.started') ? urls.startUrl : stateOf(message.type) === 'bad' ? urls.failureUrl : urls.url;
    // Nobody asked to be called at this moment.
    if (url !== undefined) await deliver(this.http, { method: 'GET', url });
  }
}

async function deliver(http: OutboundHttp, request: OutboundRequest): Promise<void> {
  const { status, headers, body } = await send(http, request);
  if (status >= 200 && status < 300) return;
  // Slack says in a word what it did not like.
  const said = body.subarray(0, EXCERPT).toString('utf8').replace(/\s+/g, ' ').trim();
  const isFinal = status >= 300 && status < 500 && status !== 408 && status !== 429;
  throw new NotDelivered(
    `The receiver answered ${status}${said === '' ? '' : `: ${said}`}.`,
    isFinal,
    waitOf(headers['retry-after']),
  );
}

async function send(http: OutboundHttp, request: OutboundRequest): Promise<OutboundResponse> {
  try {
    return await http.request({ ...request, timeoutMs: TIMEOUT_MS, beyond: 'cut' });
  } catch (error) {
    if (!(error instanceof OutboundError)) throw error;
    const isFinal = error.code === 'URL_REFUSED' || error.code === 'ADDRESS_REFUSED';
    throw new NotDelivered(error.message, isFinal, null, { cause: error });
  }
}

/** Seconds or a date, as HTTP has it. */
function waitOf(retryAfter: string | undefined): number | null {
  if (retryAfter === undefined) return null;
  const ms = /^\d+(\.\d+)?$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), LONGEST_WAIT_MS) : null;
}
