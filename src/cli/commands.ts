import { randomBytes } from 'node:crypto';
import { parsePostgresUrl, type PgConnection } from '../engine/postgres/connection.js';
import type { Progress } from '../engine/progress.js';
import { EngineError } from '../engine/errors.js';
import { restoreBackup } from '../engine/restore.js';
import { assertDatabaseName, type RestoreTarget } from '../engine/restore-target.js';
import { verifyBackup } from '../engine/verify.js';
import { UsageError } from './exit-codes.js';
import type { Options } from './options.js';
import { chosen, look, openPlace, readKeys, type SeenBackup } from './place.js';

/** What a command has to say: for people and, with --json, for programs. */
export interface Outcome {
  lines: string[];
  data: object;
  /** What went wrong all the same. */
  failure: EngineError | null;
}

export interface Surroundings {
  env: NodeJS.ProcessEnv;
  signal: AbortSignal;
  onProgress: (progress: Progress) => void;
}

/** Lists every backup, and whether its manifest is to be trusted. */
export async function inspect(options: Options, { env, signal }: Surroundings): Promise<Outcome> {
  const keys = await readKeys(options, env);
  const seen = await look(await openPlace(options.location, env), keys, options.trustUnsigned, signal);
  const problem = seen.find((each) => each.problem !== null)?.problem;
  return {
    lines: [
      counted(seen.length),
      ...seen.map(({ ids, manifest, problem: why }) =>
        manifest
          ? `${ids.backup}  ${manifest.source.name}  PostgreSQL ${manifest.source.serverVersion}  ${manifest.totals.tableCount} tables  ${manifest.totals.rowCount} rows  ${bytesOf(manifest.artifacts)} MB`
          : `${ids.backup}  ${why?.message ?? ''}`,
      ),
    ],
    data: { backups: seen.map(toJson) },
    failure: problem
      ? new EngineError(
          problem.code as EngineError['code'],
          'Not every manifest is to be trusted.',
          'Give the recovery kit by --kit, or see above.',
        )
      : null,
  };
}

/** Proves a backup, level after level. */
export async function verify(options: Options, { env, signal, onProgress }: Surroundings): Promise<Outcome> {
  const { source, keys, seen } = await opened(options, env, signal);
  const level = options.level ?? (keys.identities.length > 0 ? 2 : 1);
  const result = await verifyBackup({ ...source, assertions: [], level, runId: runId('verification'), onProgress });
  return {
    lines: [
      ...result.checks.map(({ level: at, name, ok, detail }) => `${ok ? 'ok  ' : 'FAIL'} ${at} ${name}: ${detail}`),
      `${seen.ids.backup}: proof level ${result.provenLevel ?? 'none'}`,
    ],
    data: { backup: toJson(seen), requestedLevel: level, provenLevel: result.provenLevel, checks: result.checks },
    failure: result.failure ?? result.impossible,
  };
}

/** Restores a backup's database into an empty database, or into a new one. */
export async function restore(options: Options, { env, signal, onProgress }: Surroundings): Promise<Outcome> {
  const target = targetOf(options, env);
  const { source, seen } = await opened(options, env, signal);
  const startedAt = Date.now();
  const outcome = await restoreBackup({
    ...source,
    runId: runId('restore'),
    target,
    selection: {},
    createRoles: options.createRoles,
    jobs: options.jobs,
    attempt: 1,
    onProgress,
    beforeChange: async () => undefined,
    onFinished: async () => undefined,
    onCommitting: async () => undefined,
  });
  const durationMs = Date.now() - startedAt;
  const database =
    target.mode === 'new-database' ? target.database : (target as { connection: PgConnection }).connection.database;
  return {
    lines: [
      ...outcome.warnings.map((warning) => `warning: ${warning}`),
      ...outcome.differences.map((difference) => `DIFFERS: ${JSON.stringify(difference)}`),
      `${seen.ids.backup} is restored into ${database} in ${(durationMs / 1000).toFixed(1)} s; row counts ${outcome.countsEqual ? 'equal' : 'DO NOT equal'} the manifest.`,
    ],
    data: { backup: toJson(seen), database, durationMs, ...outcome },
    failure: outcome.countsEqual
      ? null
      : new EngineError(
          'RESTORE_FAILED',
          'Row counts of the restored database differ from the manifest.',
          'See the differences.',
        ),
  };
}

async function opened(options: Options, env: NodeJS.ProcessEnv, signal: AbortSignal) {
  const keys = await readKeys(options, env);
  const place = await openPlace(options.location, env);
  const seen = chosen(await look(place, keys, options.trustUnsigned, signal), options);
  const programs = { binDirs: (env['PG_BIN_DIRS'] ?? '').split(':').filter((folder) => folder !== ''), requirePatched: false };
  const source = {
    ids: seen.ids,
    store: place.store,
    verifyingKeys: keys.verifyingKeys,
    trustedManifestSha256: options.trustUnsigned ? (seen.manifestSha256 ?? undefined) : undefined,
    identities: keys.identities,
    programs,
    signal,
  };
  return { source, keys, seen };
}

/** @throws UsageError, EngineError CONNECTION_INVALID */
function targetOf({ target, newDatabase }: Options, env: NodeJS.ProcessEnv): RestoreTarget {
  if (target === undefined)
    throw new UsageError('Name the target by --target postgresql://user@host:5432/database or TARGET_URL.');
  const parsed = parsePostgresUrl(target, { allowUnixSockets: true });
  const password = parsed.password ?? env['PGPASSWORD'];
  const connection: PgConnection = password === undefined ? parsed : { ...parsed, password };
  if (newDatabase === undefined) return { mode: 'url', connection };
  assertDatabaseName(newDatabase);
  return { mode: 'new-database', server: connection, database: newDatabase };
}

function toJson({ ids, prefix, manifest, manifestSha256, signedBy, problem }: SeenBackup): object {
  return {
    id: ids.backup,
    ids,
    prefix,
    trusted: manifest !== null,
    signedBy,
    manifestSha256,
    problem,
    source: manifest?.source.name ?? null,
    createdAt: manifest?.createdAt ?? null,
    serverVersion: manifest?.source.serverVersion ?? null,
    totals: manifest?.totals ?? null,
    artifacts: manifest?.artifacts ?? null,
    recipients: manifest?.recipients ?? null,
  };
}

/** So many backups, in words. */
export function counted(backups: number): string {
  return `${backups} backup${backups === 1 ? '' : 's'}`;
}

function bytesOf(artifacts: readonly { storedBytes: number }[]): string {
  return (artifacts.reduce((sum, { storedBytes }) => sum + storedBytes, 0) / 1e6).toFixed(1);
}

function runId(kind: string): string {
  return `${kind}_cli_${randomBytes(4).toString('hex')}`;
}
