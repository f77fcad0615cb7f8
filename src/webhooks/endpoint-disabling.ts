import { Injectable } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import type { Trx } from '../catalog/catalog.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { Outbox } from '../outbox/outbox.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { EndpointsRepository } from './endpoints.repository.js';
import { type EndpointRow, toEndpoint } from './webhook-view.js';

const FAILING_DAYS = 5;
const DAY_MS = 86_400_000;

/** Why the server stops to send to an endpoint; undefined while it goes on. */
export function reasonToDisable(endpoint: EndpointRow, isGone: boolean, now: Date): string | undefined {
  if (isGone) return 'The receiver answered 410: it is gone.';
  if (endpoint.failing_since && now.getTime() - endpoint.failing_since.getTime() >= FAILING_DAYS * DAY_MS)
    return `Nothing could be delivered since ${endpoint.failing_since.toISOString()}.`;
  return undefined;
}

/** Takes an endpoint out of service, and lets its owner know. */
@Injectable()
export class EndpointDisabling {
  constructor(
    private readonly endpoints: EndpointsRepository,
    private readonly deliveries: DeliveriesRepository,
    private readonly outbox: Outbox,
    private readonly audit: AuditService,
  ) {}

  /** The caller has locked the endpoint. */
  async disable(trx: Trx, endpoint: EndpointRow, reason: string): Promise<void> {
    const organizationId = endpoint.organization_id;
    const disabled = await this.endpoints.update(trx, organizationId, endpoint.id, { enabled: false, disabled_reason: reason });
    if (!disabled) return;
    await this.deliveries.failPending(trx, endpoint.id, `The endpoint is disabled. ${reason}`);
    const resource = { kind: 'webhook', id: endpoint.id };
    await this.audit.record(trx, {
      organizationId,
      actor: SYSTEM_ACTOR,
      action: 'webhook.disabled',
      resource,
      changes: { reason },
    });
    const data = { endpoint: toEndpoint(disabled), reason };
    await this.outbox.record(trx, { organizationId, type: 'webhook.disabled', subject: endpoint.id, data });
  }
}
