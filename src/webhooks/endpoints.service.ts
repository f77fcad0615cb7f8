import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import type { PagingDto } from '../common/http/paging.dto.js';
import { newId } from '../common/identifiers.js';
import { OutboundError } from '../common/outbound/outbound-error.js';
import { OutboundHttp } from '../common/outbound/outbound-http.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { EndpointSecrets } from './endpoint-secrets.js';
import { EndpointsRepository } from './endpoints.repository.js';
import { checkOwnHeaders } from './own-headers.js';
import type { CreateEndpointDto, UpdateEndpointDto } from './webhook.dto.js';
import type { EndpointRow } from './webhook-view.js';

const MOST_ENDPOINTS = 100;
const DEFAULT_OVERLAP_HOURS = 24;
const HOUR_MS = 3_600_000;

/** Who is told of events by webhook. */
@Injectable()
export class EndpointsService {
  constructor(
    private readonly endpoints: EndpointsRepository,
    private readonly deliveries: DeliveriesRepository,
    private readonly secrets: EndpointSecrets,
    private readonly http: OutboundHttp,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
  ) {}

  async list(caller: Identity, { page, limit }: PagingDto): Promise<Page<EndpointRow>> {
    const { rows, total } = await this.endpoints.list(caller.organizationId, limit, (page - 1) * limit);
    return new Page(rows, { page, limit, total });
  }

  /** @throws NOT_FOUND */
  async get(organizationId: string, id: string): Promise<EndpointRow> {
    const row = await this.endpoints.find(organizationId, id);
    if (!row) throw Errors.notFound('webhook endpoint', id);
    return row;
  }

  /** @returns the endpoint with its secret, which nobody is shown again */
  async create(caller: Identity, dto: CreateEndpointDto): Promise<{ row: EndpointRow; secret: string }> {
    const id = newId('whe');
    const secret = dto.secret ?? this.secrets.make();
    const url = await this.checkUrl(dto.url);
    const headers = checkOwnHeaders(dto.headers ?? {});
    const row = await this.catalog.transaction(async (trx) => {
      if ((await this.endpoints.count(trx, caller.organizationId)) >= MOST_ENDPOINTS)
        throw Errors.conflict(`The organization has ${MOST_ENDPOINTS} webhook endpoints, the most there may be; delete one.`);
      const inserted = await this.endpoints.insert(trx, caller.organizationId, id, {
        url,
        description: dto.description || null,
        events: [...new Set(dto.events)],
        enabled: dto.enabled ?? true,
        sealed_secret: this.secrets.sealSecret(id, secret),
        sealed_headers: this.secrets.sealHeaders(id, headers),
        header_names: Object.keys(headers),
      });
      await this.changes.record(trx, caller, 'webhook.created', id, { host: new URL(url).host, events: dto.events });
      return inserted;
    });
    await this.committed(caller, id);
    return { row, secret };
  }

  async update(caller: Identity, id: string, dto: UpdateEndpointDto): Promise<EndpointRow> {
    const url = dto.url === undefined ? undefined : await this.checkUrl(dto.url);
    const headers = dto.headers === undefined ? undefined : checkOwnHeaders(dto.headers);
    const row = await this.change(caller, id, async (trx, old) => {
      if (dto.enabled === false && old.enabled) await this.deliveries.failPending(trx, id, 'The endpoint was disabled.');
      const updated = await this.endpoints.update(trx, caller.organizationId, id, {
        ...(url === undefined ? {} : { url }),
        ...(dto.events === undefined ? {} : { events: [...new Set(dto.events)] }),
        ...(dto.description === undefined ? {} : { description: dto.description || null }),
        ...(headers === undefined
          ? {}
          : { sealed_headers: this.secrets.sealHeaders(id, headers), header_names: Object.keys(headers) }),
        // Whoever enables it begins anew: what went wrong before does not count.
        ...(dto.enabled === undefined ? {} : { enabled: dto.enabled, disabled_reason: null, failing_since: null }),
      });
      const fields = Object.keys(dto).filter((name) => dto[name as keyof UpdateEndpointDto] !== undefined);
      await this.changes.record(trx, caller, 'webhook.updated', id, { fields });
      return updated;
    });
    return row;
  }

  /** Gives it a new secret; the old one signs too for a while, so that receivers can change over. */
  async rotate(
    caller: Identity,
    id: string,
    overlapHours = DEFAULT_OVERLAP_HOURS,
  ): Promise<{ row: EndpointRow; secret: string }> {
    const secret = this.secrets.make();
    const row = await this.change(caller, id, async (trx, old) => {
      const updated = await this.endpoints.update(trx, caller.organizationId, id, {
        sealed_secret: this.secrets.sealSecret(id, secret),
        sealed_previous_secret: overlapHours === 0 ? null : old.sealed_secret,
        previous_secret_until: overlapHours === 0 ? null : new Date(Date.now() + overlapHours * HOUR_MS),
      });
      await this.changes.record(trx, caller, 'webhook.secret-rotated', id, { overlapHours });
      return updated;
    });
    return { row, secret };
  }

  /** Its deliveries go with it. */
  async delete(caller: Identity, id: string): Promise<EndpointRow> {
    const row = await this.change(caller, id, async (trx) => {
      await this.changes.record(trx, caller, 'webhook.deleted', id);
      return this.endpoints.delete(trx, caller.organizationId, id);
    });
    return row;
  }

  private async change(
    caller: Identity,
    id: string,
    work: (trx: Trx, old: EndpointRow) => Promise<EndpointRow | undefined>,
  ): Promise<EndpointRow> {
    const row = await this.catalog.transaction(async (trx) => {
      const old = await this.endpoints.lock(trx, id);
      const changed = old?.organization_id === caller.organizationId ? await work(trx, old) : undefined;
      if (!changed) throw Errors.notFound('webhook endpoint', id);
      return changed;
    });
    await this.committed(caller, id);
    return row;
  }

  private committed(caller: Identity, id: string): Promise<void> {
    return this.changes.committed(caller, 'webhook', id, []);
  }

  /** @throws VALIDATION_ERROR with what is wrong with it */
  private async checkUrl(url: string): Promise<string> {
    try {
      return (await this.http.checkTarget(url)).href;
    } catch (error) {
      if (error instanceof OutboundError) throw Errors.validation({ url: error.message });
      throw error;
    }
  }
}
