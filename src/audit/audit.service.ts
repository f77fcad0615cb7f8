import { Injectable } from '@nestjs/common';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import { type Actor, requestContext } from '../common/http/request-context.js';

/** One thing that somebody did, or tried. */
export interface AuditEntry {
  organizationId: string;
  actor: Actor;
  /** `resource.verb`, such as `source.created`. */
  action: string;
  resource: { kind: string; id: string };
  result?: 'ok' | 'denied' | 'failed';
  /** What changed; never a secret. */
  changes?: object;
}

/** Where every change is written down, in the transaction that makes it. */
@Injectable()
export class AuditService {
  constructor(private readonly catalog: Catalog) {}

  /** Writes one entry; without a transaction, in one of its own. */
  async record(trx: Trx | undefined, entry: AuditEntry): Promise<void> {
    const context = requestContext();
    await (trx ?? this.catalog.db)
      .insertInto('audit_entries')
      .values({
        organization_id: entry.organizationId,
        actor_kind: entry.actor.kind,
        actor_id: entry.actor.id,
        actor_name: entry.actor.name,
        action: entry.action,
        resource_kind: entry.resource.kind,
        resource_id: entry.resource.id,
        result: entry.result ?? 'ok',
        address: context?.address ?? null,
        user_agent: context?.userAgent ?? null,
        request_id: context?.requestId ?? null,
        changes: json(entry.changes ?? null),
      })
      .execute();
  }
}
