import { Query, type Client } from 'pg';
import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { ArchiveInspector } from './archive/archive-inspector.js';
import { withoutRoles } from './archive/archive-roles.js';
import { readToc } from './archive/header-only.js';
import { ArchiveReader, type ArchiveSummary, type ArchiveTable } from './archive/archive-reader.js';
import { type RowMultiset, RowMultisetDigest } from './archive/row-multiset.js';
import { schemaDifference } from './archive/schema-difference.js';
import type { ArchiveToc, TocEntry } from './archive/toc.js';
import { readArtifactPlain } from './artifact/artifact-reader.js';
import { withClient } from './postgres/client.js';
import type { PgConnection } from './postgres/connection.js';
import { databaseArgument, withPgEnvironment } from './postgres/environment.js';
import { programError } from './postgres/program-error.js';
import { quoteName } from './postgres/relations.js';
import { startProgram } from './postgres/run-program.js';
import type { ArchiveSource, OpenedArchive } from './restore-archive.js';
import { withoutRowsOf } from './restore-selection.js';

/** Something of the restored database that is not as the backup has it. */
export interface DrillDifference {
  kind: 'table' | 'sequence' | 'large objects' | 'schema';
  name: string;
  detail: string;
}

/** What could not be restored, and so is not compared. */
export interface LeftOut {
  /** Roles whose rights were not restored, and whose objects belong to another: owners are then not compared. */
  roles?: ReadonlySet<string>;
  /** Entries of the archive, by dump id. */
  entries?: ReadonlySet<number>;
}

const SESSION = 'backstay:drill';

/**
 * Dumps the restored database as the source was dumped, and holds the two archives against each other: rows and SHA-256 of each table,
 * large objects, where each sequence stands, and the schema entry by entry. A table whose bytes differ is compared row by row, in
 * whatever order, by the archive's own list of columns: a restore may lay rows and inherited columns out anew.
 * @param onBytes is told how many bytes of the second dump have passed
 */
export async function differencesOf(
  source: ArchiveSource,
  archive: OpenedArchive,
  restored: PgConnection,
  { roles = new Set(), entries = new Set() }: LeftOut = {},
  onBytes: (bytes: number) => void = () => undefined,
): Promise<DrillDifference[]> {
  const dumped = await dumpAgain(source, archive, restored, onBytes);
  const base = roles.size === 0 ? archive.toc : await tocWithout(archive, roles);
  // An extension that is there may make by itself what was left out with that of another one.
  const names = new Set(archive.toc.entries.filter(({ dumpId }) => entries.has(dumpId)).map(entryKey));
  const isKept = (entry: TocEntry) => !names.has(entryKey(entry));
  const kept = { ...archive, tables: withoutRowsOf(archive.toc, archive.tables, entries) };
  const copy = { ...dumped, tables: withoutRowsOf(archive.toc, dumped.tables, entries) };
  const [wanted, found] = [base, copy.toc].map((toc) => ({ ...toc, entries: toc.entries.filter(isKept) })) as [
    ArchiveToc,
    ArchiveToc,
  ];
  return [
    ...(await tableDifferences(source, kept, copy, restored)),
    ...largeObjectDifferences(archive, copy),
    ...sequenceDifferences(wanted, found),
    ...schemaDifferences(wanted, found, roles.size > 0),
  ];
}

/** What the table of contents would be without some roles. */
async function tocWithout({ header, toc }: OpenedArchive, roles: ReadonlySet<string>): Promise<ArchiveToc> {
  const adapted = withoutRoles(header, toc, roles).header;
  return (await readToc(Readable.from([adapted]))).toc;
}

async function dumpAgain(
  { signal }: ArchiveSource,
  archive: OpenedArchive,
  restored: PgConnection,
  onBytes: (bytes: number) => void,
): Promise<ArchiveSummary> {
  const inspector = new ArchiveInspector();
  inspector.on('data', () => onBytes(inspector.bytes));
  await withPgEnvironment(restored, { applicationName: SESSION }, async (env) => {
    const args = ['--format=custom', '--compress=0', '--no-password', `--encoding=${archive.manifest.source.encoding}`];
    const program = startProgram(archive.programs.pgDump, [...args, '-d', databaseArgument(restored.database)], { env, signal });
    program.stdout.once('error', (error) => inspector.destroy(error));
    program.stdout.pipe(inspector);
    const read = finished(inspector).then(
      () => undefined,
      (error: unknown) => error,
    );
    await program.done.catch((failed: unknown) => {
      inspector.destroy();
      throw programError('pg_dump', failed, { connection: restored });
    });
    const failure = await read;
    if (failure) throw failure;
  });
  return inspector.summary();
}

async function tableDifferences(
  source: ArchiveSource,
  archive: OpenedArchive,
  copy: ArchiveSummary,
  restored: PgConnection,
): Promise<DrillDifference[]> {
  const copies = new Map(copy.tables.map((table) => [keyOf(table), table]));
  const differences: DrillDifference[] = [];
  const differing = archive.tables.filter((table) => {
    const twin = copies.get(keyOf(table));
    if (twin) return twin.rows !== table.rows || twin.sha256 !== table.sha256;
    differences.push({ kind: 'table', name: nameOf(table), detail: 'It was not restored.' });
    return false;
  });
  const wanted = new Set(archive.tables.map(keyOf));
  for (const table of copy.tables)
    if (!wanted.has(keyOf(table)))
      differences.push({ kind: 'table', name: nameOf(table), detail: 'It is only in the restored database.' });
  if (differing.length === 0) return differences;
  const originals = await multisetsOf(source, archive, new Set(differing.map(keyOf)));
  return [...differences, ...(await compareRows(source, restored, originals, differing.map(nameOf)))];
}

interface Original {
  table: ArchiveTable;
  multiset: RowMultiset;
}

/** Reads the archive once more, and adds up the rows of some tables. */
async function multisetsOf(
  source: ArchiveSource,
  archive: OpenedArchive,
  keys: ReadonlySet<string>,
): Promise<Map<string, Original>> {
  const digests = new Map<string, RowMultisetDigest>();
  const found = new Map<string, Original>();
  const reader = new ArchiveReader({
    onRows: (entry, bytes) => {
      const key = keyOf({ schema: entry.schema ?? '', name: entry.tag });
      if (!keys.has(key)) return;
      let digest = digests.get(key);
      if (!digest) digests.set(key, (digest = new RowMultisetDigest()));
      digest.write(bytes);
    },
    onTable: (table) => {
      const digest = digests.get(keyOf(table));
      if (digest) found.set(nameOf(table), { table, multiset: digest.digest() });
    },
  });
  const plain = await readArtifactPlain({
    store: source.store,
    key: archive.key,
    name: archive.artifact.name,
    identities: source.identities,
    expected: archive.artifact,
    signal: source.signal,
  });
  for await (const chunk of plain as AsyncIterable<Buffer>) reader.write(chunk);
  reader.end();
  return found;
}

async function compareRows(
  { signal }: ArchiveSource,
  restored: PgConnection,
  originals: ReadonlyMap<string, Original>,
  names: readonly string[],
): Promise<DrillDifference[]> {
  const settings = { row_security: 'off' };
  return withClient(restored, { applicationName: SESSION, signal, settings }, async (client) => {
    const differences: DrillDifference[] = [];
    for (const name of names) {
      const original = originals.get(name);
      const columns = original?.table.columns;
      if (!original || !columns) {
        differences.push({ kind: 'table', name, detail: 'Its bytes differ, and its columns are not known.' });
        continue;
      }
      const { schema, name: table } = original.table;
      const list = columns.length === 0 ? '' : ` (${columns.map(quoteName).join(', ')})`;
      const copy = await copyOut(client, `COPY ${quoteName(schema)}.${quoteName(table)}${list} TO STDOUT`);
      if (copy.rows === original.multiset.rows && copy.sum === original.multiset.sum) continue;
      const detail =
        copy.rows === original.multiset.rows
          ? `${copy.rows} rows on both sides, and some of them are other ones.`
          : `${copy.rows} rows instead of ${original.multiset.rows}.`;
      differences.push({ kind: 'table', name, detail });
    }
    return differences;
  });
}

async function copyOut(client: Client, statement: string): Promise<RowMultiset> {
  const digest = new RowMultisetDigest();
  const query = new Query(statement) as Query & { handleCopyData: (message: { chunk: Buffer }) => void };
  query.handleCopyData = ({ chunk }) => digest.write(chunk);
  await new Promise<void>((resolve, reject) => {
    query.once('end', () => resolve()).once('error', reject);
    client.query(query);
  });
  return digest.digest();
}

function largeObjectDifferences({ manifest, largeObjectsSha256 }: OpenedArchive, copy: ArchiveSummary): DrillDifference[] {
  const restored = copy.largeObjects ?? { count: 0, bytes: 0, sha256: null };
  if (restored.sha256 === largeObjectsSha256 && restored.count === manifest.largeObjects.count) return [];
  const detail = `${restored.count} with ${restored.bytes} bytes instead of ${manifest.largeObjects.count} with ${manifest.largeObjects.bytes}, or other ones.`;
  return [{ kind: 'large objects', name: 'large objects', detail }];
}

function sequenceDifferences(base: ArchiveToc, copy: ArchiveToc): DrillDifference[] {
  const [wanted, found] = [base, copy].map(
    (toc) =>
      new Map(
        toc.entries.filter(({ desc }) => desc === 'SEQUENCE SET').map((entry) => [`${entry.schema}.${entry.tag}`, entry.defn]),
      ),
  ) as [Map<string, string>, Map<string, string>];
  return [...wanted].flatMap(([name, defn]) =>
    found.get(name) === defn ? [] : [{ kind: 'sequence' as const, name, detail: 'It stands elsewhere, or is not there.' }],
  );
}

function schemaDifferences(base: ArchiveToc, copy: ArchiveToc, withoutOwners: boolean): DrillDifference[] {
  return schemaDifference(base, copy)
    .changes.filter((change) => {
      // What is said of the database as a whole belongs to its name, and a restore gives it another.
      if (change.schema === null && change.name.startsWith('DATABASE ')) return false;
      // A restore leaves tablespaces out unless it is asked for them.
      const aspects = change.aspects.filter((aspect) => aspect !== 'tablespace' && !(withoutOwners && aspect === 'owner'));
      if (change.change !== 'changed' || aspects.length === 0) return change.change !== 'changed';
      const isDefinition = aspects.length === 1 && aspects[0] === 'definition';
      return !isDefinition || meaningOf(change.base) !== meaningOf(change.head);
    })
    .map(({ change, kind, schema, name, aspects }) => ({
      kind: 'schema' as const,
      name: `${kind} ${schema === null ? '' : `${schema}.`}${name}`,
      detail:
        change === 'removed'
          ? 'It was not restored.'
          : change === 'added'
            ? 'It is only in the restored database.'
            : `Another ${aspects.join(', ')}.`,
    }));
}

/**
 * What a definition says, but for what PostgreSQL writes in another way each time: casts and brackets in expressions, and the order of a
 * table's columns, which inheritance lays out anew.
 */
function meaningOf(sql: string | null): string {
  return (sql ?? '')
    .replace(/::"?[a-z_][\w ."]*?"?(?:\(\d+(?:,\s*\d+)?\))?(?:\[\])*(?=[\s,()\]=<>;:+*/|-]|$)/gi, '')
    .replace(/[()]/g, '')
    .split('\n')
    .map((line) => line.replace(/\s+/g, '').replace(/,$/, ''))
    .filter((line) => line !== '')
    .sort()
    .join('\n');
}

function entryKey({ desc, schema, tag }: TocEntry): string {
  return JSON.stringify([desc, schema, tag]);
}

function keyOf({ schema, name }: { schema: string; name: string }): string {
  return JSON.stringify([schema, name]);
}

function nameOf({ schema, name }: { schema: string; name: string }): string {
  return `${schema}.${name}`;
}
