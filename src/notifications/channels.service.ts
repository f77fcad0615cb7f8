import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import type { PagingDto } from '../common/http/paging.dto.js';
import { newId } from '../common/identifiers.js';
import { OutboundHttp } from '../common/outbound/outbound-http.js';
import { Settings } from '../config/settings.js';
import { SecretBox } from '../keys/secret-box.js';
import { SourcesService } from '../sources/sources.service.js';
import { assertEventsExist, defaultEvents, hostOf, urlsOf, urlsOwner } from './channel-values.js';
import type { ChannelKind, CreateChannelDto, UpdateChannelDto } from './channel.dto.js';
import { type ChannelRow, ChannelsRepository, type ChannelValues } from './channels.repository.js';
import type { ChannelUrls } from './senders/channel-sender.js';

/** Channels: made, changed, listed and removed. */
@Injectable()
export class ChannelsService {
  constructor(
    private readonly channels: ChannelsRepository,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly secrets: SecretBox,
    private readonly sources: SourcesService,
    private readonly http: OutboundHttp,
    private readonly changes: Changes,
  ) {}

  async list(caller: Identity, { page, limit }: PagingDto): Promise<Page<ChannelRow>> {
    const { rows, total } = await this.channels.list(caller.organizationId, limit, (page - 1) * limit);
    return new Page(rows, { page, limit, total });
  }

  /** @throws NOT_FOUND */
  async get(organizationId: string, idOrName: string): Promise<ChannelRow> {
    const row = await this.channels.find(organizationId, idOrName);
    if (!row) throw Errors.notFound('notification channel', idOrName);
    return row;
  }

  /** @throws VALIDATION_ERROR, CONFLICT when the name is taken */
  async create(caller: Identity, dto: CreateChannelDto): Promise<ChannelRow> {
    const id = newId('chan');
    if (dto.kind === 'email') this.assertMail(dto.to);
    const values = await this.valuesOf(caller.organizationId, id, dto, {
      name: dto.name,
      kind: dto.kind,
      events: defaultEvents(dto.kind),
      source_ids: [],
      min_severity: 'info',
      only_changes: false,
      enabled: true,
      addresses: [],
      sealed_urls: null,
      host: null,
    });
    await this.catalog.transaction(async (trx) => {
      await this.channels.insert(trx, caller.organizationId, id, values);
      await this.changes.record(trx, caller, 'notification-channel.created', id, { name: dto.name, kind: dto.kind });
    });
    await this.changes.committed(caller, 'notification-channel', id, ['notifications']);
    return this.get(caller.organizationId, id);
  }

  async update(caller: Identity, idOrName: string, dto: UpdateChannelDto): Promise<ChannelRow> {
    const old = await this.get(caller.organizationId, idOrName);
    const where = [dto.to, dto.url, dto.startUrl, dto.failureUrl, dto.name].some((value) => value !== undefined);
    if (old.made_by_setting !== null && where)
      throw Errors.conflict(
        `The channel is made by the setting ${old.made_by_setting}, which says where it leads; change the setting, or make a channel of your own.`,
      );
    const values = await this.valuesOf(caller.organizationId, old.id, dto, old);
    await this.catalog.transaction(async (trx) => {
      await this.channels.update(trx, caller.organizationId, old.id, values);
      const changed = Object.keys(dto).filter((name) => dto[name as keyof UpdateChannelDto] !== undefined);
      await this.changes.record(trx, caller, 'notification-channel.updated', old.id, { name: values.name, changed });
    });
    await this.changes.committed(caller, 'notification-channel', old.id, ['notifications']);
    return this.get(caller.organizationId, old.id);
  }

  async delete(caller: Identity, idOrName: string): Promise<ChannelRow> {
    const old = await this.get(caller.organizationId, idOrName);
    if (old.made_by_setting !== null)
      throw Errors.conflict(
        `The channel is made by the setting ${old.made_by_setting} and would come back at the next start; take the setting away, or turn the channel off (enabled: false).`,
      );
    await this.catalog.transaction(async (trx) => {
      await this.channels.delete(trx, caller.organizationId, old.id);
      await this.changes.record(trx, caller, 'notification-channel.deleted', old.id, { name: old.name });
    });
    await this.changes.committed(caller, 'notification-channel', old.id, ['notifications']);
    return old;
  }

  /** Where the channel sends to. */
  urls(row: ChannelRow): ChannelUrls {
    const { slackWebhookUrl, discordWebhookUrl } = this.settings.notifications;
    if (row.made_by_setting === 'SLACK_WEBHOOK_URL') return slackWebhookUrl === null ? {} : { url: slackWebhookUrl };
    if (row.made_by_setting === 'DISCORD_WEBHOOK_URL') return discordWebhookUrl === null ? {} : { url: discordWebhookUrl };
    return row.sealed_urls === null ? {} : (JSON.parse(this.secrets.open(row.sealed_urls, urlsOwner(row.id))) as ChannelUrls);
  }

  private async valuesOf(
    organizationId: string,
    id: string,
    dto: UpdateChannelDto,
    old: ChannelValues & { made_by_setting?: string | null },
  ): Promise<ChannelValues> {
    const kind = old.kind as ChannelKind;
    if (dto.events) assertEventsExist(dto.events);
    const stored = old.sealed_urls === null ? {} : (JSON.parse(this.secrets.open(old.sealed_urls, urlsOwner(id))) as ChannelUrls);
    const urls = old.made_by_setting ? {} : await urlsOf(kind, dto, stored, this.http);
    return {
      name: dto.name ?? old.name,
      kind,
      events: dto.events ? [...new Set(dto.events)] : old.events,
      source_ids: dto.sources ? await this.sourceIds(organizationId, dto.sources) : old.source_ids,
      min_severity: dto.minSeverity ?? old.min_severity,
      only_changes: dto.onlyChanges ?? old.only_changes,
      enabled: dto.enabled ?? old.enabled,
      addresses: dto.to ? [...new Set(dto.to)] : old.addresses,
      sealed_urls: Object.keys(urls).length === 0 ? null : this.secrets.seal(JSON.stringify(urls), urlsOwner(id)),
      host: old.made_by_setting ? old.host : hostOf(urls),
    };
  }

  private async sourceIds(organizationId: string, names: readonly string[]): Promise<string[]> {
    const ids = new Set<string>();
    for (const name of names) ids.add((await this.sources.get(organizationId, name)).id);
    return [...ids];
  }

  private assertMail(to: readonly string[] | undefined): void {
    if (to === undefined) throw Errors.validation({ to: 'is needed for a channel of kind email' });
    if (!this.settings.notifications.smtp)
      throw Errors.precondition('The server has no mail server to send by; set SMTP_URL and start it again.');
  }
}
