import { Injectable } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import type { Trx } from '../catalog/catalog.js';
import type { RunErrorColumn } from '../catalog/tables.js';
import { CacheService } from '../common/cache/cache.service.js';
import { EventBus } from '../common/events/event-bus.js';
import type { EventName } from '../common/events/event-map.js';
import { Outbox } from '../outbox/outbox.js';
import type { RunHandler } from './run-handler.js';
import { RUN_TABLES, type RunKind } from './run.js';

export type RunEventVerb = 'queued' | 'started' | 'completed' | 'failed' | 'canceled' | 'requeued';

/** A run that was just queued, and what is told of it. */
export interface QueuedRun {
  id: string;
  organizationId: string;
  backupId: string;
  source: { id: string; name: string } | null;
  /** In the shapes that the API answers with. */
  data: object;
}

/** Tells caches and the bus what became of a run, with the same fields for every kind. */
@Injectable()
export class RunEvents {
  constructor(
    private readonly bus: EventBus,
    private readonly cache: CacheService,
    private readonly outbox: Outbox,
    private readonly audit: AuditService,
  ) {}

  /** Writes down, in the transaction that makes it so, what has become of a run: those who are told by webhook or mail must not miss it. */
  async record(
    trx: Trx,
    kind: RunKind,
    verb: Exclude<RunEventVerb, 'requeued'>,
    runId: string,
    handler: Pick<RunHandler, 'describe'>,
  ): Promise<void> {
    const { organizationId, backupId, data, actor, target } = await handler.describe(runId, trx);
    await this.outbox.record(trx, { organizationId, type: `${kind}.${verb}`, subject: backupId, data });
    // The auditor asks not only who wanted a database overwritten, but what came of it; that it was canceled, who canceled it notes.
    if (!actor || !target || (verb !== 'completed' && verb !== 'failed')) return;
    const result = verb === 'failed' ? 'failed' : 'ok';
    const entry = { organizationId, actor, action: `${kind}.${verb}`, resource: { kind, id: runId }, result } as const;
    await this.audit.record(trx, { ...entry, changes: { backupId, target } });
  }

  /** As `record`, for many runs at once; the caller knows what is to be told of each. */
  async recordAll(trx: Trx, kind: RunKind, verb: Exclude<RunEventVerb, 'requeued'>, runs: readonly QueuedRun[]): Promise<void> {
    const type = `${kind}.${verb}` as const;
    await this.outbox.recordAll(
      trx,
      runs.map(({ organizationId, backupId, data }) => ({ organizationId, type, subject: backupId, data })),
    );
  }

  /** As `tell`, of many queued runs whose rows the caller has at hand. */
  async tellQueued(kind: RunKind, runs: readonly QueuedRun[]): Promise<void> {
    for (const organizationId of new Set(runs.map((run) => run.organizationId)))
      await this.cache.invalidate(organizationId, [RUN_TABLES[kind]]);
    for (const { id, data: _, ...run } of runs)
      this.bus.emit(`${kind}.queued`, { runId: id, ...run, attempt: 0, durationMs: null, error: null });
  }

  /** Tells those in this process, once it has committed. */
  async tell(
    kind: RunKind,
    verb: RunEventVerb,
    runId: string,
    handler: Pick<RunHandler, 'describe'>,
    error: RunErrorColumn | null,
  ): Promise<void> {
    const name: EventName = `${kind}.${verb}`;
    const { data: _, ...described } = await handler.describe(runId);
    const event = { runId, ...described, error };
    // What handlers forget earlier may have been read again, and kept, before the run's new state was written.
    await this.cache.invalidate(event.organizationId, [RUN_TABLES[kind]]);
    this.bus.emit(name, event);
  }
}
