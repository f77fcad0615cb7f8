import { Injectable } from '@nestjs/common';
import { Gauge, Registry, collectDefaultMetrics } from 'prom-client';
import { sql } from 'kysely';
import { BackupTrash } from '../backups/backup-trash.js';
import { Catalog } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { JobQueue } from '../jobs/job-queue.js';
import { Outbox } from '../outbox/outbox.js';
import { VERSION } from '../version.js';

interface SourceFigures {
  source: string;
  organization: string;
  newest_completed: Date | null;
  proof_level: number | null;
  broken: number;
}

/** Figures in Prometheus's text format, read from the catalog when they are asked for. */
@Injectable()
export class Metrics {
  private readonly registry = new Registry();
  private readonly backups = this.gauge('backstay_backups', 'Backups outside the trash by status', ['status']);
  private readonly storedBytes = this.gauge('backstay_stored_bytes', 'Bytes of completed backups at the destinations');
  private readonly newest = this.gauge(
    'backstay_source_newest_completed_timestamp_seconds',
    "End of a source's newest completed, unbroken backup",
    ['organization', 'source'],
  );
  private readonly proof = this.gauge('backstay_source_newest_proof_level', "Proof level of a source's newest completed backup", [
    'organization',
    'source',
  ]);
  private readonly broken = this.gauge('backstay_source_broken_backups', "A source's backups that a check found damaged", [
    'organization',
    'source',
  ]);
  private readonly purges = this.gauge('backstay_purges', 'Backups whose removal has begun and has not ended, by state', [
    'state',
  ]);
  private readonly jobs = this.gauge('backstay_jobs', 'Jobs by queue and state', ['queue', 'state']);
  private readonly events = this.gauge('backstay_events_waiting', 'Events that wait to be told to webhooks and notifications');
  private readonly oldestEvent = this.gauge('backstay_events_oldest_seconds', 'For how long the oldest of them waits');
  private readonly cacheHitRatio = this.gauge(
    'backstay_cache_hit_ratio',
    'Answered from the cache among all looked up, since the start',
  );
  private readonly cacheLookups = this.gauge('backstay_cache_lookups', 'Look-ups in the cache since the start', ['result']);

  constructor(
    private readonly catalog: Catalog,
    private readonly queue: JobQueue,
    private readonly cache: CacheService,
    private readonly trash: BackupTrash,
    private readonly outbox: Outbox,
  ) {
    collectDefaultMetrics({ register: this.registry });
    this.gauge('backstay_info', 'Version of the server', ['version']).set({ version: VERSION }, 1);
  }

  private last: Promise<unknown> = Promise.resolve();

  readonly contentType = this.registry.contentType;

  /**
   * One after another, for the gauges are shared.
   * @param organizationId whose backups and sources are told of; those of all when left out
   */
  text(organizationId?: string): Promise<string> {
    const text = this.last.catch(() => undefined).then(() => this.read(organizationId));
    this.last = text;
    return text;
  }

  private async read(organizationId: string | undefined): Promise<string> {
    await this.readBackups(organizationId);
    await this.readSources(organizationId);
    const { open, failing } = await this.trash.purgeState();
    this.purges.set({ state: 'open' }, open - failing);
    this.purges.set({ state: 'failing' }, failing);
    for (const { name, waiting, active } of await this.queue.depths()) {
      this.jobs.set({ queue: name, state: 'waiting' }, waiting);
      this.jobs.set({ queue: name, state: 'active' }, active);
    }
    const { waiting, oldestMs } = await this.outbox.backlog();
    this.events.set(waiting);
    this.oldestEvent.set(oldestMs / 1000);
    const { hits, misses, hitRatio } = this.cache.statistics();
    this.cacheHitRatio.set(hitRatio);
    this.cacheLookups.set({ result: 'hit' }, hits);
    this.cacheLookups.set({ result: 'miss' }, misses);
    return this.registry.metrics();
  }

  private async readBackups(organizationId: string | undefined): Promise<void> {
    const within = organizationId === undefined ? sql`` : sql`AND organization_id = ${organizationId}`;
    const { rows } = await sql<{ status: string; count: number; bytes: number }>`SELECT status, count(*) AS count,
      coalesce(sum(stored_bytes) FILTER (WHERE status = 'completed'), 0)::bigint AS bytes
      FROM backups WHERE deleted_at IS NULL ${within} GROUP BY status`.execute(this.catalog.db);
    this.backups.reset();
    for (const status of ['queued', 'running', 'completed', 'failed', 'canceled'])
      this.backups.set({ status }, Number(rows.find((row) => row.status === status)?.count ?? 0));
    this.storedBytes.set(rows.reduce((bytes, row) => bytes + Number(row.bytes), 0));
  }

  private async readSources(organizationId: string | undefined): Promise<void> {
    const within = organizationId === undefined ? sql`` : sql`AND s.organization_id = ${organizationId}`;
    const { rows } =
      await sql<SourceFigures>`SELECT s.name AS source, o.name AS organization, n.finished_at AS newest_completed, n.proof_level,
        (SELECT count(*) FROM backups b WHERE b.source_id = s.id AND b.broken AND b.deleted_at IS NULL) AS broken
      FROM sources s JOIN organizations o ON o.id = s.organization_id
      LEFT JOIN LATERAL (SELECT finished_at, proof_level FROM backups b WHERE b.organization_id = s.organization_id AND b.source_id = s.id AND b.status = 'completed'
        AND NOT b.broken AND b.deleted_at IS NULL ORDER BY created_at DESC LIMIT 1) n ON true
      WHERE s.deleted_at IS NULL ${within}`.execute(this.catalog.db);
    for (const gauge of [this.newest, this.proof, this.broken]) gauge.reset();
    for (const { source, organization, newest_completed, proof_level, broken } of rows) {
      this.broken.set({ organization, source }, Number(broken));
      if (newest_completed) this.newest.set({ organization, source }, newest_completed.getTime() / 1000);
      if (proof_level !== null) this.proof.set({ organization, source }, proof_level);
    }
  }

  private gauge(name: string, help: string, labelNames: string[] = []): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }
}
