import { Injectable } from '@nestjs/common';
import { actorOf, type Identity } from '../auth/identity.js';
import type { Trx } from '../catalog/catalog.js';
import type { CacheTopic } from '../common/cache/cache-keys.js';
import { CacheService } from '../common/cache/cache.service.js';
import { EventBus } from '../common/events/event-bus.js';
import { AuditService } from './audit.service.js';

/** What every write through the API does besides its work: it is written down with it, and told once it has committed. */
@Injectable()
export class Changes {
  constructor(
    private readonly audit: AuditService,
    private readonly cache: CacheService,
    private readonly bus: EventBus,
  ) {}

  /** Writes the audit entry in the transaction of the change. @param action `resource.verb` */
  async record(trx: Trx, caller: Identity, action: string, id: string, changes?: object): Promise<void> {
    const kind = action.split('.')[0] ?? action;
    const entry = { organizationId: caller.organizationId, actor: actorOf(caller), action, resource: { kind, id } };
    await this.audit.record(trx, changes ? { ...entry, changes } : entry);
  }

  /** After the commit and before the answer: kept answers are forgotten, and listeners hear of it. */
  async committed(caller: Identity, kind: string, id: string, topics: readonly CacheTopic[]): Promise<void> {
    await this.cache.invalidate(caller.organizationId, topics);
    const { organizationId } = caller;
    this.bus.emit('api.changed', { organizationId, actor: actorOf(caller), resourceKind: kind, resourceId: id });
  }
}
