import { TOLD_EVENTS } from '../common/events/told-events.js';
import { matchesEvent } from '../common/events/event-patterns.js';
import { Errors } from '../common/errors.js';
import { OutboundError } from '../common/outbound/outbound-error.js';
import type { OutboundHttp } from '../common/outbound/outbound-http.js';
import type { ChannelKind, CreateChannelDto } from './channel.dto.js';
import type { ChannelUrls } from './senders/channel-sender.js';

const URL_FIELDS = ['url', 'startUrl', 'failureUrl'] as const;

/** The events of a channel that names none. */
export function defaultEvents(kind: ChannelKind): string[] {
  return [...(kind === 'ping' ? ['backup.started'] : []), 'backup.completed', 'backup.failed'];
}

/** @throws VALIDATION_ERROR for a pattern that stands for no event */
export function assertEventsExist(patterns: readonly string[]): void {
  const names = Object.keys(TOLD_EVENTS);
  const unknown = patterns.filter((pattern) => !names.some((name) => matchesEvent([pattern], name)));
  if (unknown.length > 0)
    throw Errors.validation({ events: `has ${unknown.join(', ')}, which is no event; there are ${names.join(', ')}` });
}

/**
 * The URLs of a request over those that are stored.
 * @throws VALIDATION_ERROR where one is missing, does not belong to the kind, or must not be reached
 */
export async function urlsOf(
  kind: ChannelKind,
  dto: Pick<Partial<CreateChannelDto>, (typeof URL_FIELDS)[number] | 'to'>,
  stored: ChannelUrls,
  http: OutboundHttp,
): Promise<ChannelUrls> {
  const foreign = [
    ...(kind === 'email' ? [] : dto.to === undefined ? [] : ['to']),
    ...URL_FIELDS.filter((name) => dto[name] !== undefined && (kind === 'email' || (name !== 'url' && kind !== 'ping'))),
  ];
  if (foreign.length > 0)
    throw Errors.validation(Object.fromEntries(foreign.map((name) => [name, `does not belong to a channel of kind ${kind}`])));
  const urls: ChannelUrls = { ...stored };
  for (const name of URL_FIELDS) {
    const url = dto[name];
    if (url !== undefined) urls[name] = await checked(name, url, http);
  }
  if (kind !== 'email' && urls.url === undefined && (kind !== 'ping' || !(urls.startUrl ?? urls.failureUrl)))
    throw Errors.validation({ url: `is needed for a channel of kind ${kind}` });
  return urls;
}

async function checked(name: string, url: string, http: OutboundHttp): Promise<string> {
  try {
    return (await http.checkTarget(url)).href;
  } catch (error) {
    if (error instanceof OutboundError)
      throw Errors.validation({ [name]: error.message.replace(/^The URL /, '').replace(/\.$/, '') });
    throw error;
  }
}

export function hostOf(urls: ChannelUrls): string | null {
  const url = urls.url ?? urls.startUrl ?? urls.failureUrl;
  return url === undefined ? null : new URL(url).host;
}

/** What a channel's sealed URLs are bound to. */
export function urlsOwner(channelId: string): string {
  return `notification-channel:${channelId}:urls`;
}
