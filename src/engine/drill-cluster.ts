import { randomBytes } from 'node:crypto';
import type { Client } from 'pg';
import { rolesOf } from './archive/archive-roles.js';
import { assertRoom, type DrillLimits, neededBytes } from './drill-limits.js';
import { type DrillPlace, impossible } from './drill-place.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { clusterParent } from './postgres/cluster-folder.js';
import { quoteName } from './postgres/relations.js';
import { ThrowawayCluster } from './postgres/throwaway-cluster.js';
import type { OpenedArchive } from './restore-archive.js';

const DATABASE = 'drill';
const SETTINGS = {
  // Enough for a few thousand tables in one transaction.
  max_locks_per_transaction: '1024',
  // Of the memory of this machine a drill takes no more than it needs, however much there is.
  shared_buffers: '64MB',
  work_mem: '4MB',
  maintenance_work_mem: '64MB',
  temp_buffers: '8MB',
  jit: 'off',
  // Nobody uses it long enough to gain by that.
  autovacuum: 'off',
};

export interface ClusterRequest {
  /** Folders with server programs that are looked at first. */
  serverBinDirs: readonly string[];
  /** Restore as a role without rights even where the server has a user of its own. */
  plainRole: boolean;
  limits: DrillLimits;
  signal: AbortSignal;
}

/**
 * Starts a server for one drill. Where it has a user of its own the restore may do everything in it; elsewhere the dump's code would
 * have our rights as its superuser, and so the restore has none: what one owner owns can still be proven whole.
 * @throws EngineError DRILL_IMPOSSIBLE; the signal's reason when aborted
 */
export async function startCluster(request: ClusterRequest, archive: OpenedArchive): Promise<DrillPlace> {
  await assertRoom(await clusterParent(), neededBytes(archive), request.limits);
  const superuser = `backstay_${randomBytes(6).toString('hex')}`;
  const isPlain = request.plainRole || process.getuid?.() !== 0;
  const cluster = await start(request, archive, isPlain ? superuser : undefined);
  try {
    const common = { database: DATABASE, version: cluster.version, folder: cluster.folder, leave: () => cluster.stop() };
    const enter = (database: string) => cluster.connection(database);
    const named = namedRoles(archive);
    const session = { applicationName: 'backstay:drill', signal: request.signal };
    if (!isPlain) {
      await withClient(enter('postgres'), session, (client) => createRoles(client, named));
      const isolation = { ...cluster.isolation, plainRole: false };
      return { ...common, server: enter('postgres'), isolation, leaveOut: new Set(), superuser: enter };
    }
    const owners = ownersOf(archive);
    const user = owners[0] ?? 'backstay_drill';
    const password = randomBytes(24).toString('base64url');
    await withClient(enter('postgres'), session, async (client) => {
      await client.query(`CREATE ROLE ${quoteName(user)} LOGIN CREATEDB BYPASSRLS PASSWORD '${password}'`);
      await createRoles(client, new Set([...named].filter((role) => !owners.includes(role))));
    });
    const leaveOut = new Set(owners.filter((owner) => owner !== user));
    const isolation = { ...cluster.isolation, plainRole: true };
    return { ...common, server: cluster.connection('postgres', { user, password }), isolation, leaveOut, superuser: enter };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

async function start(
  { serverBinDirs, limits, signal }: ClusterRequest,
  archive: OpenedArchive,
  superuser: string | undefined,
): Promise<ThrowawayCluster> {
  try {
    return await ThrowawayCluster.start({
      serverBinDirs,
      minMajor: Number.parseInt(archive.manifest.source.serverVersion, 10),
      maxMajor: archive.programs.major,
      listenTcp: false,
      untrusted: true,
      settings: SETTINGS,
      memoryBytes: limits.memoryBytes,
      ...(superuser === undefined ? {} : { superuser }),
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof EngineError) throw impossible(error.message, error.hint, error);
    throw error;
  }
}

function namedRoles({ toc, manifest }: OpenedArchive): Set<string> {
  return new Set([...rolesOf(toc), ...manifest.source.databaseSettings.flatMap(({ role }) => role ?? [])]);
}

/** Those who own anything, the one with the most first; predefined roles stay what they are. */
function ownersOf({ toc }: OpenedArchive): string[] {
  const counts = new Map<string, number>();
  for (const { owner } of toc.entries)
    if (owner !== '' && !owner.startsWith('pg_')) counts.set(owner, (counts.get(owner) ?? 0) + 1);
  return [...counts].toSorted((a, b) => b[1] - a[1]).map(([owner]) => owner);
}

/** Without any right: owners and grants can then be put back as they were. */
async function createRoles(client: Client, named: ReadonlySet<string>): Promise<void> {
  const { rows } = await client.query<{ rolname: string }>('SELECT rolname FROM pg_catalog.pg_roles');
  const there = new Set(rows.map(({ rolname }) => rolname));
  for (const role of named) {
    if (there.has(role)) continue;
    if (role.startsWith('pg_'))
      throw impossible(
        `The backup names the predefined role ${role}, which the throwaway PostgreSQL does not have.`,
        'Install newer server programs on this machine.',
      );
    await client.query(`CREATE ROLE ${quoteName(role)}`);
  }
}
