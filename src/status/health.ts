import { Injectable } from '@nestjs/common';
import { statfs } from 'node:fs/promises';
import { sql } from 'kysely';
import type { Identity } from '../auth/identity.js';
import { CopyLocks } from '../backups/copy-locks.js';
import { BackupTrash } from '../backups/backup-trash.js';
import { Catalog } from '../catalog/catalog.js';
import { rebuiltSentence } from '../catalog/embedded/rebuild.js';
import { Stores } from '../destinations/stores.js';
import { redact } from '../common/logging/redaction.js';
import { Settings } from '../config/settings.js';
import { EngineError } from '../engine/errors.js';
import { findClientPrograms } from '../engine/postgres/client-programs.js';
import { JobQueue } from '../jobs/job-queue.js';
import { Outbox } from '../outbox/outbox.js';
import { KeysService } from '../keys/keys.service.js';
import { ServerKeys } from '../keys/server-keys.js';
import type { HealthPartDto, HealthPartsDto, HealthState } from './status.dto.js';

const PART_TIMEOUT_MS = 4_000;
const DESTINATION_TIMEOUT_MS = 3_000;
const LOW_DISK_BYTES = 1024 ** 3;
const LOW_DISK_SHARE = 0.05;
/** Events are handed over within seconds. */
const EVENTS_LATE_MS = 5 * 60_000;
const REBUILD_SHOWN_MS = 7 * 86_400_000;

/** Looks at each part of the server; a part that does not answer in time counts as unhealthy. */
@Injectable()
export class Health {
  constructor(
    private readonly catalog: Catalog,
    private readonly queue: JobQueue,
    private readonly stores: Stores,
    private readonly settings: Settings,
    private readonly keys: ServerKeys,
    private readonly keysService: KeysService,
    private readonly trash: BackupTrash,
    private readonly locks: CopyLocks,
    private readonly outbox: Outbox,
  ) {}

  async look(): Promise<{ status: HealthState; parts: HealthPartsDto }> {
    const [catalog, queue, destinations, tools, disk, sources, notifications, keys] = await Promise.all([
      inTime(() => this.lookAtCatalog()),
      inTime(() => this.lookAtQueue()),
      inTime(() => this.lookAtDestinations()),
      inTime(() => this.lookAtTools()),
      inTime(() => this.lookAtDisk()),
      inTime(() => this.lookAtSources()),
      inTime(() => this.lookAtNotifications()),
      inTime(() => this.lookAtKeys()),
    ]);
    const parts: HealthPartsDto = { catalog, queue, destinations, tools, disk, sources, notifications, keys };
    return { status: worst(Object.values(parts) as HealthPartDto[]), parts };
  }

  private async lookAtCatalog(): Promise<HealthPartDto> {
    await this.catalog.ping();
    const damage = await this.lookAtRebuild();
    if (damage) return damage;
    return well(this.catalog.embedded ? 'The embedded catalog answers.' : 'The catalog answers.', {
      kind: this.catalog.embedded ? 'embedded' : 'postgres',
    });
  }

  /** A catalog that had to be rebuilt lacks something, and somebody has to see it: for a week, or until the note is removed. */
  private async lookAtRebuild(): Promise<HealthPartDto | undefined> {
    const { home } = this.catalog;
    const note = await home?.lastRebuild();
    if (note && Date.now() - Date.parse(note.at) < REBUILD_SHOWN_MS)
      return { status: 'degraded', message: rebuiltSentence(note), details: { kind: 'embedded', rebuild: { ...note } } };
    if (!home?.snapshots.failure) return undefined;
    return {
      status: 'degraded',
      message: `No snapshot of the embedded catalog could be taken (${redact(home.snapshots.failure)}): see the log for catalog.snapshot-failed.`,
      details: { kind: 'embedded' },
    };
  }

  private async lookAtQueue(): Promise<HealthPartDto> {
    const queues = await this.queue.depths();
    const events = await this.outbox.backlog();
    const details = { ...Object.fromEntries(queues.map(({ name, waiting, active }) => [name, { waiting, active }])), events };
    if (events.oldestMs > EVENTS_LATE_MS)
      return {
        status: 'degraded',
        message: `${events.waiting} events wait to be told to webhooks and notifications, the oldest for ${Math.round(events.oldestMs / 60_000)} minutes: see the log for outbox.not-taken, and that a process with ROLE=worker or all runs.`,
        details,
      };
    return well('The queue answers.', details);
  }

  private async lookAtDestinations(): Promise<HealthPartDto> {
    const all = await this.stores.everywhere();
    const failures = await Promise.all(
      all.map(({ store }) =>
        store.check({ signal: AbortSignal.timeout(DESTINATION_TIMEOUT_MS) }).then(
          () => null,
          (error: unknown) => redact((error as Error).message),
        ),
      ),
    );
    const details = {
      local: { freeBytes: await this.stores.local.freeBytes() },
      destinations: all.map(({ id, name, organizationId }, i) => ({ id, name, ok: failures[i] === null, organizationId })),
    };
    const failing = all.filter((_, i) => failures[i] !== null);
    if (failures[0]) throw new Error(failures[0]);
    if (failing.length > 0)
      return {
        status: 'degraded',
        message: `${failing.length} of ${all.length} destinations can't be written and read: see POST /api/destinations/:id/test.`,
        details,
      };
    const { failing: notRemoved, error } = await this.trash.purgeState();
    if (notRemoved > 0)
      return {
        status: 'degraded',
        message: `The objects of ${notRemoved} removed backups can't be removed (${redact(error ?? '')}); it is tried again each hour.`,
        details: { ...details, notRemoved },
      };
    const unlocked = await this.locks.state();
    if (unlocked.failing > 0)
      return {
        status: 'degraded',
        message: `${unlocked.failing} copies of backups are not locked yet, though their destination asks for it (${redact(unlocked.error ?? '')}); it is tried again within the hour.`,
        details: { ...details, notLocked: unlocked.failing },
      };
    return well('Every destination can be written and read.', details);
  }

  private async lookAtTools(): Promise<HealthPartDto> {
    const programs = await findClientPrograms({ binDirs: this.settings.pgBinDirs });
    const details = { clientPrograms: programs.map(({ version, binDir, knownHoles }) => ({ version, binDir, knownHoles })) };
    if (programs.length === 0)
      return {
        status: 'unhealthy',
        message:
          'No pg_dump was found: install the PostgreSQL client programs (apt-get install postgresql-client) or set PG_BIN_DIRS.',
        details,
      };
    if (programs.every((program) => program.knownHoles))
      return {
        status: 'degraded',
        message: 'Every pg_dump found has known security holes: update the PostgreSQL client programs.',
        details,
      };
    return well(`Client programs: ${programs.map((program) => program.version).join(', ')}.`, details);
  }

  private async lookAtDisk(): Promise<HealthPartDto> {
    const { bavail, blocks, bsize } = await statfs(this.settings.dataDir);
    const [free, total] = [bavail * bsize, blocks * bsize];
    const details = { freeBytes: free, totalBytes: total };
    if (free < LOW_DISK_BYTES && free < total * LOW_DISK_SHARE)
      return { status: 'degraded', message: 'The disk of DATA_DIR is nearly full: free space or delete old backups.', details };
    return well('The disk of DATA_DIR has room.', details);
  }

  /** By the newest run of each source; sources are not entered for it. */
  private async lookAtSources(): Promise<HealthPartDto> {
    const { rows } = await sql<{ sources: number; failing: number; broken: number }>`
      WITH newest AS (SELECT DISTINCT ON (source_id) source_id, status, broken FROM backups
        WHERE status IN ('completed','failed') AND deleted_at IS NULL ORDER BY source_id, created_at DESC)
      SELECT count(*) AS sources, count(*) FILTER (WHERE n.status = 'failed') AS failing, count(*) FILTER (WHERE n.broken) AS broken
      FROM sources s LEFT JOIN newest n ON n.source_id = s.id WHERE s.deleted_at IS NULL`.execute(this.catalog.db);
    const { sources = 0, failing = 0, broken = 0 } = rows[0] ?? {};
    const details = { sources: Number(sources), failing: Number(failing), broken: Number(broken) };
    if (details.failing + details.broken > 0)
      return {
        status: 'degraded',
        message: `The newest backup of ${details.failing + details.broken} of ${details.sources} sources failed or is broken: see GET /api/backups/stats.`,
        details,
      };
    return well(`No newest backup of the ${details.sources} sources failed.`, details);
  }

  private async lookAtNotifications(): Promise<HealthPartDto> {
    const { rows } = await sql<{ channels: number; failing: number }>`SELECT count(*) AS channels,
        count(*) FILTER (WHERE failing_since IS NOT NULL) AS failing FROM notification_channels WHERE enabled`.execute(
      this.catalog.db,
    );
    const details = { channels: Number(rows[0]?.channels ?? 0), failing: Number(rows[0]?.failing ?? 0) };
    if (details.failing > 0)
      return {
        status: 'degraded',
        message: `Messages do not get through to ${details.failing} of ${details.channels} notification channels: see GET /api/notifications/channels.`,
        details,
      };
    return well(details.channels === 0 ? 'No notification channel is turned on.' : 'No notification channel fails.', details);
  }

  private async lookAtKeys(): Promise<HealthPartDto> {
    if (!this.keys.holdsIdentity) return well('Backups are encrypted to keys of yours (BACKUP_RECIPIENTS).');
    if (await this.keysService.savedAt()) return well("The server's keys are confirmed to be kept elsewhere too.");
    return {
      status: 'degraded',
      message: `Nobody has confirmed that the server's keys (${this.keys.keptIn}) are kept elsewhere too; without them no backup can be read. Save GET /api/keys/recovery-kit, then POST /api/keys/confirm-saved.`,
    };
  }
}

/** What somebody may see of the parts: the instance owner all, others no destination of another organization. */
export function partsFor({ instanceOwner, organizationId }: Identity, parts: HealthPartsDto): HealthPartsDto {
  const { destinations, ...details } = parts.destinations.details ?? {};
  if (!Array.isArray(destinations)) return parts;
  const shown = (destinations as { organizationId?: string }[])
    .filter((each) => instanceOwner || each.organizationId === undefined || each.organizationId === organizationId)
    .map((each) => ({ ...each, organizationId: undefined }));
  return { ...parts, destinations: { ...parts.destinations, details: { ...details, destinations: shown } } };
}

/** The worst state of all. */
function worst(parts: readonly { status: HealthState }[]): HealthState {
  if (parts.some((part) => part.status === 'unhealthy')) return 'unhealthy';
  return parts.some((part) => part.status === 'degraded') ? 'degraded' : 'healthy';
}

function well(message: string, details?: Record<string, unknown>): HealthPartDto {
  return details ? { status: 'healthy', message, details } : { status: 'healthy', message };
}

async function inTime(look: () => Promise<HealthPartDto>): Promise<HealthPartDto> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<HealthPartDto>((resolve) => {
    timer = setTimeout(
      () => resolve({ status: 'unhealthy', message: `No answer within ${PART_TIMEOUT_MS / 1000} s.` }),
      PART_TIMEOUT_MS,
    );
  });
  try {
    return await Promise.race([look().catch(failed), late]);
  } finally {
    clearTimeout(timer);
  }
}

function failed(error: unknown): HealthPartDto {
  const message =
    error instanceof EngineError ? `${error.message} ${error.hint}` : redact((error as Error).message || String(error));
  return { status: 'unhealthy', message };
}
