import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { Settings } from '../config/settings.js';
import { resolveConfigPaths } from '../engine/config-files.js';
import { EngineError } from '../engine/errors.js';
import { chooseClientPrograms, findClientPrograms } from '../engine/postgres/client-programs.js';
import { withClient } from '../engine/postgres/client.js';
import type { PgConnection } from '../engine/postgres/connection.js';
import { inspectSource, lockShortage, type SourceInspection } from '../engine/postgres/inspect-source.js';
import { countBuckets } from '../engine/storage/pack-storage.js';
import type { SourceTestDto } from './source.dto.js';
import { modesOf } from '../engine/restore-modes.js';
import { exclusionsOf } from './source-values.js';
import type { SourceRow } from './sources.repository.js';
import { SourcesRepository } from './sources.repository.js';
import { SourcesService } from './sources.service.js';

const TEST_TIMEOUT_MS = 60_000;

/** Reaches a source and says whether a backup can be made. */
@Injectable()
export class SourceTester {
  constructor(
    private readonly sources: SourcesService,
    private readonly repository: SourcesRepository,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly cache: CacheService,
  ) {}

  /** @throws EngineError (as 422) when the database can't be entered at all */
  async test(row: SourceRow): Promise<SourceTestDto> {
    const begun = performance.now();
    const connection = this.sources.connectionOf(row);
    const signal = AbortSignal.timeout(TEST_TIMEOUT_MS);
    await this.refuseCatalog(connection, signal);
    const inspection = await inspectSource(connection, { signal, exclusions: exclusionsOf(row.options) });
    await this.noteServerVersion(row, inspection.serverVersion);
    const program = await this.clientProgram(inspection.serverMajor);
    const problems = [...program.problems, ...problemsOf(inspection), ...(await this.fileProblems(row.options.configPaths))];
    const storage = await this.storage(row, signal);
    problems.push(...storage.problems);
    const modes = await modesOf(connection, { applicationName: 'backstay:inspect', signal });
    return {
      ...modes,
      ok: problems.length === 0,
      serverVersion: inspection.serverVersion,
      sizeBytes: inspection.sizeBytes,
      tableCount: inspection.tableCount,
      bucketCount: storage.bucketCount,
      extensions: inspection.extensions.map(({ name, version }) => ({ name, version })),
      clientProgram: program.name,
      missingPrivileges: inspection.missingPrivileges,
      pooler: inspection.poolerSuspected,
      problems,
      warnings: [
        ...program.warnings,
        ...inspection.subscriptions.map((name) => `The subscription ${name} is part of a dump; a restored one stays disabled.`),
      ],
      durationMs: Math.round(performance.now() - begun),
    };
  }

  private async storage(row: SourceRow, signal: AbortSignal): Promise<{ bucketCount: number | null; problems: string[] }> {
    if (row.kind !== 'supabase') return { bucketCount: null, problems: [] };
    try {
      const access = this.sources.storageOf(row);
      if (!access) return { bucketCount: null, problems: ['The project has no URL or key; give the source both.'] };
      return { bucketCount: await countBuckets(access, signal), problems: [] };
    } catch (error) {
      if (error instanceof EngineError) return { bucketCount: null, problems: [`${error.message} ${error.hint}`] };
      throw error;
    }
  }

  /** Keeps what the source's server said of its version. */
  async noteServerVersion(row: SourceRow, version: string): Promise<void> {
    if (row.server_version === version) return;
    await this.repository.setServerVersion(row.organization_id, row.id, version);
    await this.cache.invalidate(row.organization_id, ['sources']);
  }

  /**
   * Refuses the catalog's own database under whatever name it is reached: the same server start and database are the same database.
   * @throws EngineError TARGET_REFUSED
   */
  async refuseCatalog(connection: PgConnection, signal: AbortSignal): Promise<void> {
    if (this.catalog.embedded) return;
    const identity = `SELECT pg_postmaster_start_time()::text AS started, current_database() AS database, (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database()) AS oid`;
    const own = (await sql.raw<{ started: string; oid: string }>(identity).execute(this.catalog.db)).rows[0];
    const other = await withClient(
      connection,
      { applicationName: 'backstay:inspect', signal },
      async (client) => (await client.query<{ started: string; oid: string }>(identity)).rows[0],
    );
    if (own?.started !== other?.started || own?.oid !== other?.oid) return;
    throw new EngineError(
      'TARGET_REFUSED',
      "This is the catalog's own database (DATABASE_URL).",
      'Name another database; the server keeps its own backups of the catalog.',
    );
  }

  /** A process that only answers requests may have other files than the one that makes the backups. */
  private async fileProblems(configPaths: readonly string[]): Promise<string[]> {
    if (this.settings.role === 'api') return [];
    try {
      await resolveConfigPaths(configPaths, this.settings.configRoots);
      return [];
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      return [`${error.message} ${error.hint}`];
    }
  }

  private async clientProgram(serverMajor: number): Promise<{ name: string | null; problems: string[]; warnings: string[] }> {
    try {
      const all = await findClientPrograms({ binDirs: this.settings.pgBinDirs });
      const chosen = chooseClientPrograms(all, serverMajor, { requirePatched: this.settings.pgRequirePatched });
      const warning = `pg_dump ${chosen.version} has known security holes: update the PostgreSQL client programs.`;
      return { name: `pg_dump ${chosen.version}`, problems: [], warnings: chosen.knownHoles ? [warning] : [] };
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      return { name: null, problems: [`${error.message} ${error.hint}`], warnings: [] };
    }
  }
}

function problemsOf(inspection: SourceInspection): string[] {
  const { missingPrivilegeCount, missingPrivileges, poolerSuspected } = inspection;
  const more = missingPrivilegeCount - missingPrivileges.length;
  return [
    ...(missingPrivilegeCount > 0
      ? [
          `The role may not read ${missingPrivileges.slice(0, 10).join(', ')}${missingPrivilegeCount > 10 ? ` and ${more + missingPrivileges.length - 10} more` : ''}. Grant it these rights (pg_read_all_data gives most), or leave them out of the backup.`,
        ]
      : []),
    ...(poolerSuspected ? [poolerSuspected] : []),
    ...[lockShortage(inspection)].filter((sentence) => sentence !== null),
  ];
}
