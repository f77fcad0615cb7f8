import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { newId } from '../common/identifiers.js';
import { Settings } from '../config/settings.js';
import { Installation } from '../installation/installation.js';
import { defaultEvents } from './channel-values.js';
import type { ChannelKind } from './channel.dto.js';
import { type ChannelRow, ChannelsRepository } from './channels.repository.js';

interface WantedChannel {
  setting: string;
  kind: ChannelKind;
  addresses: readonly string[];
  host: string | null;
}

/** Keeps the channels that settings make: SLACK_WEBHOOK_URL, DISCORD_WEBHOOK_URL and SMTP_URL, in the first organization. */
@Injectable()
export class SettingChannels implements OnApplicationBootstrap {
  constructor(
    private readonly channels: ChannelsRepository,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly installation: Installation,
  ) {}

  /** The URLs themselves stay in the settings; the catalog knows only of the channel. */
  async onApplicationBootstrap(): Promise<void> {
    const wanted = this.wanted();
    await this.catalog.transaction(async (trx) => {
      const there = await this.channels.madeBySettings(trx);
      for (const row of there) if (!wanted.some(({ setting }) => setting === row.made_by_setting)) await this.remove(trx, row);
      for (const channel of wanted) {
        const row = there.find(({ made_by_setting }) => made_by_setting === channel.setting);
        if (row) await this.renew(trx, row, channel);
        else await this.add(trx, channel);
      }
    });
  }

  private wanted(): WantedChannel[] {
    const { slackWebhookUrl, discordWebhookUrl, smtp } = this.settings.notifications;
    const found: WantedChannel[] = [];
    const host = (url: string) => new URL(url).host;
    if (slackWebhookUrl !== null)
      found.push({ setting: 'SLACK_WEBHOOK_URL', kind: 'slack', addresses: [], host: host(slackWebhookUrl) });
    if (discordWebhookUrl !== null)
      found.push({ setting: 'DISCORD_WEBHOOK_URL', kind: 'discord', addresses: [], host: host(discordWebhookUrl) });
    if (smtp) found.push({ setting: 'SMTP_URL', kind: 'email', addresses: smtp.to, host: null });
    return found;
  }

  private async add(trx: Trx, { setting, kind, addresses, host }: WantedChannel): Promise<void> {
    const organizationId = this.installation.defaultOrganizationId;
    const isTaken = (await this.channels.find(organizationId, kind, trx)) !== undefined;
    const values = {
      name: isTaken ? setting : kind,
      kind,
      events: defaultEvents(kind),
      source_ids: [],
      min_severity: 'info',
      only_changes: false,
      enabled: true,
      addresses: [...addresses],
      sealed_urls: null,
      host,
    };
    await this.channels.insert(trx, organizationId, newId('chan'), values, setting);
  }

  private async renew(trx: Trx, row: ChannelRow, { addresses, host }: WantedChannel): Promise<void> {
    if (row.host === host && row.addresses.join() === addresses.join()) return;
    const { name, kind, events, source_ids, min_severity, only_changes, enabled } = row;
    await this.channels.update(trx, row.organization_id, row.id, {
      name,
      kind,
      events,
      source_ids,
      min_severity,
      only_changes,
      enabled,
      addresses: [...addresses],
      sealed_urls: null,
      host,
    });
  }

  private remove(trx: Trx, row: ChannelRow): Promise<void> {
    return this.channels.delete(trx, row.organization_id, row.id);
  }
}
