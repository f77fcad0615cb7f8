import type { Client } from 'pg';
import type { Selection } from './archive/selection.js';
import type { TocEntry } from './archive/toc.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { describeConnection } from './postgres/connection.js';
import { type ArchiveSource, type OpenedArchive, openArchive } from './restore-archive.js';
import { existingObjects } from './restore-existing.js';
import {
  assertMayCreate,
  assertMayFill,
  assertMayMakeSchemas,
  assertOwns,
  freeBytesAt,
  modesOf,
  type ModesOfSource,
  ownedByOthers,
} from './restore-modes.js';
import { lockNeeds } from './restore-one-transaction.js';
import { canCreateRoles } from './restore-globals.js';
import { missingRoles } from './restore-roles.js';
import { choose, isWhole } from './restore-selection.js';
import { leftBehind, maintenanceOf, sessionsIn } from './restore-swap.js';
import { assertDatabaseName, assertEmpty, databaseOid, type RestoreTarget, serverOf, targetExists } from './restore-target.js';

/** Plain bytes a second, where no earlier restore tells better. */
const USUAL_RATE = 30_000_000;
const DISK_PER_BYTE = 1.5;

export interface PlanRequest extends ArchiveSource {
  target: RestoreTarget;
  selection: Selection;
  createRoles: boolean;
}

/** What a restore would do, and what stands against it. */
export interface RestorePlan extends ModesOfSource {
  /** Objects that would be made, by kind. */
  objects: Record<string, number>;
  tables: number;
  rows: number;
  /** Bytes of the dump that would be read. */
  plainBytes: number;
  /** Bytes of rows that would be loaded. */
  dataBytes: number;
  /** Disk that it takes at the target, roughly, and what is free there; null where the server does not tell. */
  space: { neededBytes: number; freeBytes: number | null };
  estimatedMs: number;
  clientProgram: string;
  archiveServerVersion: string;
  targetServerVersion: string;
  missingRoles: string[];
  missingExtensions: string[];
  /** Tablespaces of the source; what lay in them goes to the default one. */
  tablespaces: string[];
  /** Only for the modes that work in one transaction. */
  locks: { needed: number; capacity: number } | null;
  /** Relations that would be dropped and made anew, a hundred at most. */
  wouldReplace: string[];
  /** What depends on these and is not in the backup. */
  dependents: string[];
  /** Sessions that would be ended, or that hold what is replaced. */
  sessions: string[];
  /** What keeps the restore from being done, as sentences with how to mend it. */
  problems: string[];
  /** What does not, yet should be known. */
  warnings: string[];
}

/**
 * Looks at archive and target, and changes nothing.
 * @throws EngineError when the archive can't be opened or the target can't be entered at all
 */
export async function planRestore(request: PlanRequest): Promise<RestorePlan> {
  const { target, signal } = request;
  const archive = await openArchive(request);
  const oneTransaction = !('server' in target);
  const replace = target.mode === 'in-place';
  const problems: string[] = [];
  const warnings: string[] = [];
  const connection = serverOf(target);
  const session = { applicationName: 'backstay:preflight', signal };
  const existing = replace ? await withClient(connection, session, existingObjects) : undefined;
  const chosen = choose(archive, request.selection, existing);
  const entries = archive.toc.entries.filter((entry) => chosen.dumpIds === null || chosen.dumpIds.has(entry.dumpId));
  const facts = await withClient(connection, session, async (client) => {
    const version = await serverVersion(client);
    const locks = oneTransaction ? await lockNeeds(client, archive.toc, chosen.dumpIds, replace) : null;
    const roles = [...(await missingRoles(client, archive))].sort();
    const mayCreateRoles = await canCreateRoles(client);
    const extensions = await missingExtensions(client, archive, entries);
    const relations = replace ? await relationsOf(client, entries) : { there: [], dependents: [], ofOthers: [] };
    problems.push(...(await problemsOf(() => lookAtTarget(client, request, archive, entries))));
    const freeBytes = await freeBytesAt(client);
    const sessions = replace ? await sessionsIn(connection, connection.database) : [];
    return { version, locks, roles, mayCreateRoles, extensions, relations, freeBytes, sessions };
  });
  const dataBytes = request.selection.schemaOnly ? 0 : chosen.tables.reduce((bytes, table) => bytes + table.bytes, 0);
  if (facts.freeBytes !== null && facts.freeBytes < dataBytes) {
    problems.push(
      `The disk of ${describeConnection(connection)} has ${facts.freeBytes} bytes free, and the rows alone are ${dataBytes}: free space there, or restore by mode url into another server.`,
    );
  }
  const modes = await modesOf(connection, session);
  if (facts.locks && facts.locks.needed > facts.locks.capacity)
    problems.push(tooManyLocks(facts.locks, describeConnection(connection)));
  for (const name of facts.extensions)
    problems.push(`The extension ${name} is not installed on the target's server: install its package there.`);
  if (facts.relations.ofOthers.length > 0) problems.push(sentencesOf(ownedByOthers(facts.relations.ofOthers)));
  if (request.createRoles && facts.roles.length > 0 && !facts.mayCreateRoles)
    problems.push(
      `The role of the target may not create ${facts.roles.map((role) => JSON.stringify(role)).join(', ')}: ALTER ROLE … CREATEROLE, create them before, or leave createRoles out.`,
    );
  if (facts.relations.dependents.length > 0) {
    problems.push(
      `${facts.relations.dependents.slice(0, 5).join(', ')} ${facts.relations.dependents.length === 1 ? 'depends' : 'depend'} on what would be replaced and is not in the backup: drop it first, or restore by another mode.`,
    );
  }
  if (Number.parseInt(facts.version, 10) < Number.parseInt(archive.manifest.source.serverVersion, 10)) {
    warnings.push(
      `The target runs PostgreSQL ${facts.version}, older than the source's ${archive.manifest.source.serverVersion}: what is new since then can't be made there.`,
    );
  }
  if (!request.createRoles) {
    for (const role of facts.roles)
      warnings.push(
        `The role ${JSON.stringify(role)} does not exist at the target: what it owns falls to the role that restores, and its rights are left out. Create it before, or ask for createRoles.`,
      );
  }
  for (const name of archive.manifest.source.tablespaces)
    warnings.push(`What lay in the tablespace ${name} goes to the target's default one.`);
  const swap = target.mode === 'swap' ? await lookAtSwap(request, target, problems) : { sessions: [], warnings: [] };
  return {
    objects: countBy(entries.map((entry) => entry.desc)),
    tables: chosen.tables.length,
    rows: chosen.tables.reduce((rows, table) => rows + table.rows, 0),
    plainBytes: archive.artifact.plainBytes,
    dataBytes,
    // Indexes and row headers come on top of the rows.
    space: { neededBytes: Math.ceil(dataBytes * DISK_PER_BYTE), freeBytes: facts.freeBytes },
    ...modes,
    estimatedMs: Math.round((archive.artifact.plainBytes / USUAL_RATE) * 1000),
    clientProgram: `pg_restore ${archive.programs.version}`,
    archiveServerVersion: archive.manifest.source.serverVersion,
    targetServerVersion: facts.version,
    missingRoles: facts.roles,
    missingExtensions: facts.extensions,
    tablespaces: archive.manifest.source.tablespaces,
    locks: facts.locks ? { needed: facts.locks.needed, capacity: facts.locks.capacity } : null,
    wouldReplace: facts.relations.there,
    dependents: facts.relations.dependents,
    sessions: [...facts.sessions, ...swap.sessions],
    problems,
    warnings: [...chosen.notes, ...warnings, ...swap.warnings],
  };
}

/** What each mode asks of the target itself. @throws EngineError */
async function lookAtTarget(
  client: Client,
  { target, selection }: PlanRequest,
  archive: OpenedArchive,
  entries: readonly TocEntry[],
): Promise<void> {
  switch (target.mode) {
    case 'new-database':
      assertDatabaseName(target.database);
      if ((await databaseOid(client, target.database)) !== null) throw targetExists(target.database);
      return assertMayCreate(client);
    case 'url':
      if (selection.dataOnly) return undefined;
      await assertEmpty(client, target.connection);
      return assertMayFill(client, entries, describeConnection(target.connection));
    case 'swap':
      if (!isWhole(selection))
        throw refused(
          'A swap replaces the whole database; it can not take a part of a backup.',
          'Restore the part by mode in-place or new-database.',
        );
      if (archive.manifest.exclusions.schemas.length + archive.manifest.exclusions.tables.length > 0) {
        throw refused(
          'The backup leaves out schemas or tables, which a swap would lose.',
          'Restore by mode in-place or new-database.',
        );
      }
      await assertOwns(client, target.server.database);
      return assertMayCreate(client);
    case 'side-schema':
      if (isWhole(selection) || selection.dataOnly)
        throw refused('A side schema takes tables or schemas with their structure.', 'Choose some by tables or schemas.');
      return assertMayMakeSchemas(client, target.connection.database);
    case 'in-place':
      if (selection.dataOnly || selection.schemaOnly)
        throw refused(
          'In place, structure and data are replaced together.',
          'Leave schemaOnly and dataOnly out, or restore by mode url or new-database.',
        );
  }
}

async function lookAtSwap(
  request: PlanRequest,
  { server }: RestoreTarget & { mode: 'swap' },
  problems: string[],
): Promise<{ sessions: string[]; warnings: string[] }> {
  try {
    const session = { applicationName: 'backstay:preflight', signal: request.signal };
    const maintenance = await maintenanceOf(server, session);
    const warnings = await withClient(maintenance, session, (client) => leftBehind(client, server.database));
    return { sessions: await sessionsIn(maintenance, server.database), warnings };
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    problems.push(sentencesOf(error));
    return { sessions: [], warnings: [] };
  }
}

function sentencesOf({ message, hint }: EngineError): string {
  return `${message} ${hint}`;
}

async function problemsOf(look: () => Promise<void>): Promise<string[]> {
  try {
    await look();
    return [];
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return [sentencesOf(error)];
  }
}

function refused(message: string, hint: string): EngineError {
  return new EngineError('TARGET_REFUSED', message, hint);
}

async function serverVersion(client: Client): Promise<string> {
  const { rows } = await client.query<{ version: string }>("SELECT current_setting('server_version') AS version");
  return rows[0]?.version.split(' ')[0] ?? '';
}

async function missingExtensions(
  client: Client,
  archive: OpenedArchive,
  entries: OpenedArchive['toc']['entries'],
): Promise<string[]> {
  const wanted = new Set(entries.filter((entry) => entry.desc === 'EXTENSION').map((entry) => entry.tag));
  const { rows } = await client.query<{ name: string }>('SELECT name::text FROM pg_catalog.pg_available_extensions');
  const available = new Set(rows.map((row) => row.name));
  return archive.manifest.source.extensions.map(({ name }) => name).filter((name) => wanted.has(name) && !available.has(name));
}

/** Which of the archive's relations are there to be replaced, and what else depends on them. */
async function relationsOf(
  client: Client,
  entries: OpenedArchive['toc']['entries'],
): Promise<{ there: string[]; dependents: string[]; ofOthers: string[] }> {
  const kinds = new Set(['TABLE', 'VIEW', 'MATERIALIZED VIEW', 'SEQUENCE', 'FOREIGN TABLE']);
  const mine = entries.filter((entry) => kinds.has(entry.desc) && entry.schema !== null);
  const { rows: there } = await client.query<{ oid: string; name: string; owns: boolean }>(
    `SELECT c.oid::text, format('%I.%I', n.nspname, c.relname) AS name, pg_has_role(current_user, c.relowner, 'USAGE') AS owns FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       JOIN unnest($1::text[], $2::text[]) AS w(schema, name) ON w.schema = n.nspname AND w.name = c.relname WHERE c.relkind IN ('r','p','v','m','S','f')`,
    [mine.map((entry) => entry.schema), mine.map((entry) => entry.tag)],
  );
  const oids = there.map((row) => row.oid);
  const { rows: dependents } = await client.query<{ what: string }>(
    `SELECT DISTINCT what FROM (
       SELECT format('the foreign key %I of %s', conname, conrelid::regclass) AS what FROM pg_catalog.pg_constraint
        WHERE contype = 'f' AND confrelid = ANY($1::oid[]) AND NOT conrelid = ANY($1::oid[])
       UNION ALL SELECT format('the view %s', r.ev_class::regclass) FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY($1::oid[]) AND NOT r.ev_class = ANY($1::oid[])
       UNION ALL SELECT format('the table %s, which inherits', inhrelid::regclass) FROM pg_catalog.pg_inherits WHERE inhparent = ANY($1::oid[]) AND NOT inhrelid = ANY($1::oid[])
         AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = inhrelid AND c.relkind IN ('r','p','f'))
     ) AS found ORDER BY what LIMIT 100`,
    [oids],
  );
  return {
    there: there
      .map((row) => row.name)
      .sort()
      .slice(0, 100),
    dependents: dependents.map((row) => row.what),
    ofOthers: there
      .filter((row) => !row.owns)
      .map((row) => row.name)
      .sort(),
  };
}

function tooManyLocks(
  { needed, capacity, perTransaction }: { needed: number; capacity: number; perTransaction: number },
  where: string,
): string {
  const wanted = Math.ceil((perTransaction * needed * 1.1) / capacity);
  return `A restore into ${where} in one transaction takes about ${needed} locks, and its server has room for ${capacity}: raise max_locks_per_transaction to ${wanted} and restart that server, or restore by mode new-database or swap.`;
}

function countBy(kinds: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of kinds) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}
