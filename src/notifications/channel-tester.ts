import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import { newId } from '../common/identifiers.js';
import type { ChannelTestDto } from './channel.dto.js';
import { ChannelsRepository, type ChannelRow } from './channels.repository.js';
import { Notifier } from './notifier.js';
import { NotDelivered } from './senders/channel-sender.js';

/** Sends a message that says that it is a test, at once and once. */
@Injectable()
export class ChannelTester {
  constructor(
    private readonly notifier: Notifier,
    private readonly channels: ChannelsRepository,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
  ) {}

  async test(caller: Identity, channel: ChannelRow): Promise<ChannelTestDto> {
    const startedAt = performance.now();
    const error = await this.send(channel);
    await this.channels.noteOutcome(channel.id, error);
    await this.catalog.transaction((trx) =>
      this.changes.record(trx, caller, 'notification-channel.tested', channel.id, { name: channel.name, ok: error === null }),
    );
    await this.changes.committed(caller, 'notification-channel', channel.id, ['notifications']);
    return { ok: error === null, error, durationMs: Math.round(performance.now() - startedAt) };
  }

  private async send(channel: ChannelRow): Promise<string | null> {
    const occurredAt = new Date();
    const data = { test: { message: `The channel ${channel.name} works.` } };
    const event = { id: newId('evt'), type: 'test.message', occurredAt, data };
    try {
      await this.notifier.send(channel, event, JSON.stringify({ type: event.type, timestamp: occurredAt.toISOString(), data }));
      return null;
    } catch (error) {
      if (error instanceof NotDelivered) return error.message;
      throw error;
    }
  }
}
