import type { Message } from '../message.js';

/** Where a channel sends to: addresses of mail, or URLs that are secrets. */
export interface ChannelTarget {
  addresses: readonly string[];
  urls: ChannelUrls;
}

export interface ChannelUrls {
  /** Slack, Discord and JSON; of a dead-man's switch, what is called when all went well. */
  url?: string;
  /** Of a dead-man's switch: called at the start. */
  startUrl?: string;
  /** Of a dead-man's switch: called when it went wrong. */
  failureUrl?: string;
}

/** A message that could not be delivered, and whether trying again makes sense. */
export class NotDelivered extends Error {
  override readonly name = 'NotDelivered';

  constructor(
    /** A sentence without secrets. */
    message: string,
    readonly isFinal: boolean,
    /** How long the receiver asked to wait, in milliseconds. */
    readonly retryAfterMs: number | null = null,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Delivers messages by one kind of channel. */
export abstract class ChannelSender {
  /**
   * @param body the event as outbound webhooks get it
   * @throws NotDelivered
   */
  abstract send(target: ChannelTarget, message: Message, body: string): Promise<void>;
}
