import { Injectable } from '@nestjs/common';
import { Settings } from '../config/settings.js';
import type { ChannelKind } from './channel.dto.js';
import type { ChannelRow } from './channels.repository.js';
import { ChannelsService } from './channels.service.js';
import { type Message, messageOf, type ToldEvent } from './message.js';
import type { ChannelSender } from './senders/channel-sender.js';
import { EmailSender } from './senders/email-sender.js';
import { DiscordSender, JsonSender, PingSender, SlackSender } from './senders/http-senders.js';

/** Sends a message by a channel, whatever its kind. */
@Injectable()
export class Notifier {
  private readonly senders: Readonly<Record<ChannelKind, ChannelSender>>;

  constructor(
    private readonly channels: ChannelsService,
    private readonly settings: Settings,
    email: EmailSender,
    slack: SlackSender,
    discord: DiscordSender,
    json: JsonSender,
    ping: PingSender,
  ) {
    this.senders = { email, slack, discord, json, ping };
  }

  messageOf(event: ToldEvent): Message {
    return messageOf(event, this.settings.notifications.publicUrl);
  }

  /** @param body the event as outbound webhooks get it @throws NotDelivered */
  async send(channel: ChannelRow, event: ToldEvent, body: string): Promise<void> {
    const target = { addresses: channel.addresses, urls: this.channels.urls(channel) };
    await this.senders[channel.kind as ChannelKind].send(target, this.messageOf(event), body);
  }
}
