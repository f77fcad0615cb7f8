import type { Client } from 'pg';
import { ArchiveReader } from './archive/archive-reader.js';
import { LargeObjectsDigest } from './archive/large-objects.js';
import { type Stage, StagePool } from './archive/stage.js';
import { type ArchiveToc, LARGE_OBJECT_DATA, TABLE_DATA, type TocEntry } from './archive/toc.js';
import type { TableDigest } from './artifact/manifest.js';
import { withClient } from './postgres/client.js';
import { relationKey } from './postgres/relations.js';
import { differsFromManifest, readArchive } from './restore-archive.js';
import { encodingOf, explained, TableCopy } from './restore-table-copy.js';
import type { Loading } from './restore-loading.js';

/** Below so many bytes of rows for each, one more lane costs more than it brings. */
const LEAST_BYTES_OF_A_LANE = 32 * 1024 * 1024;
/** All lanes are read in one thread; more would wait for it. */
const MOST_LANES = 4;

/** pg_restore's settings for values, which are not among the pinned ones; nobody looks before the whole is there, so no commit waits. */
const SETTINGS = { xmloption: 'content', synchronous_commit: 'off', default_transaction_read_only: 'off' };

/** Smaller ones may be part of what Node shares between buffers. */
const LEAST_RELEASED_BYTES = 512 * 1024;

/** Data of the archive: a table's rows, or large objects. */
interface Block {
  entry: TocEntry;
  /** null for large objects. */
  table: TableDigest | null;
}

/** What the lanes have in common. */
interface Work {
  loading: Loading;
  /** Blocks that no lane has taken yet, by dump id. */
  waiting: Map<number, Block>;
  largeObjects: LargeObjectsDigest;
  rowsLoaded(bytes: number): void;
  tableLoaded(): void;
}

/**
 * Loads rows by COPY, and large objects, without pg_restore, in several lanes at once: each reads the archive for itself, decrypting as it
 * goes, and loads what no other has taken when it comes to it. A table is committed only when its rows were found to be the manifest's;
 * the database as a whole must be one that can be dropped.
 *
 * @param wanted tables, and the dump ids of large objects
 * @param lanes at most; one more costs one more reading of the archive
 * @throws EngineError
 */
export async function loadData(
  loading: Loading,
  wanted: { tables: readonly TableDigest[]; dumpIds: ReadonlySet<number> | null },
  lanes: number,
): Promise<void> {
  const { source, archive, meter } = loading;
  const { tables, dumpIds } = wanted;
  const total = tables.reduce((sum, table) => sum + table.bytes, 0);
  const isWanted = (entry: TocEntry) => dumpIds === null || dumpIds.has(entry.dumpId);
  const groups = archive.toc.entries.filter((entry) => entry.hadDumper && entry.desc === LARGE_OBJECT_DATA);
  const waiting = blocksOf(archive.toc, archive.tables, tables);
  for (const entry of groups.filter(isWanted)) waiting.set(entry.dumpId, { entry, table: null });
  if (waiting.size === 0) return;
  meter.begin('data', total);
  meter.tables(0, tables.length);
  // One lane that fails ends the others, and is the one that is told of.
  const stop = new AbortController();
  let [bytes, done] = [0, 0];
  const work: Work = {
    loading: { ...loading, source: { ...source, signal: AbortSignal.any([source.signal, stop.signal]) } },
    waiting,
    largeObjects: new LargeObjectsDigest(),
    rowsLoaded: (more) => meter.passed((bytes += more)),
    tableLoaded: () => meter.tables((done += 1), tables.length),
  };
  let failure: { error: unknown } | undefined;
  const lane = () =>
    loadLane(work).catch((error: unknown) => {
      failure ??= { error };
      stop.abort();
    });
  const most = Math.min(lanes, MOST_LANES, tables.length, Math.floor(total / LEAST_BYTES_OF_A_LANE));
  await Promise.all(Array.from({ length: Math.max(1, most) }, lane));
  if (failure) throw failure.error;
  if (waiting.size > 0 || done < tables.length) throw differsFromManifest([...waiting.values()][0]?.entry.tag ?? '');
  if (groups.length > 0 && groups.every(isWanted) && work.largeObjects.summary().sha256 !== archive.largeObjectsSha256)
    throw differsFromManifest('of large objects');
}

/** Whether `loadData` can load an archive: where the encoding is not known, names may not be UTF-8, and all is left to pg_restore. */
export function canLoadData(toc: ArchiveToc): boolean {
  return encodingOf(toc) !== 'SQL_ASCII';
}

/** The blocks of tables, by dump id. @throws EngineError when table of contents and manifest name other tables */
function blocksOf(toc: ArchiveToc, all: readonly TableDigest[], wanted: readonly TableDigest[]): Map<number, Block> {
  const entries = toc.entries.filter((entry) => entry.hadDumper && entry.desc === TABLE_DATA);
  const names = new Set(wanted.map(relationKey));
  const blocks = new Map<number, Block>();
  for (const [index, entry] of entries.entries()) {
    const table = all[index];
    if (table?.name !== entry.tag || table.schema !== (entry.schema ?? '')) throw differsFromManifest(entry.tag);
    if (names.has(relationKey(table))) blocks.set(entry.dumpId, { entry, table });
  }
  return blocks;
}

/** A piece of a block; without a stage, the end of a table's rows. */
interface Piece {
  block: Block;
  stage: Stage | null;
  length: number;
  oid: number;
}

async function loadLane(work: Work): Promise<void> {
  const { source, archive, connection, applicationName, settings } = work.loading;
  const stages = new StagePool();
  const pieces: Piece[] = [];
  const last = archive.toc.entries.findLast((entry) => entry.hadDumper)?.dumpId;
  let mine: Block | undefined;
  let toTheEnd = false;
  const reader = new ArchiveReader({
    wants: ({ dumpId }) => {
      mine = work.waiting.get(dumpId);
      toTheEnd ||= mine !== undefined && dumpId === last;
      return work.waiting.delete(dumpId);
    },
    staged: { stages, take: (_entry, stage, length, oid) => pieces.push({ block: mine as Block, stage, length, oid }) },
    onToc: (toc) => assertSame(toc, archive.toc),
    onTable: (read) => {
      const block = mine as Block;
      mine = undefined;
      if (read.sha256 !== block.table?.sha256 || read.rows !== block.table.rows) throw differsFromManifest(read.name);
      pieces.push({ block, stage: null, length: 0, oid: 0 });
    },
    onLargeObject: (oid, digest) => work.largeObjects.add(oid, digest),
  });
  await withClient(
    connection,
    { applicationName, settings: { ...SETTINGS, ...settings }, signal: source.signal },
    async (client) => {
      const loader = new BlockLoader(client, work.loading, stages, work);
      const plain = await readArchive(source, archive);
      for await (const chunk of plain as AsyncIterable<Buffer>) {
        reader.write(chunk);
        release(chunk);
        for (const piece of pieces.splice(0)) await loader.load(piece);
        // Whoever has the archive's last block goes on to its end, where its hash is compared once more.
        if (work.waiting.size === 0 && mine === undefined && !toTheEnd) return;
      }
      reader.end();
    },
  );
}

/** Numbers of entries mean something in their own archive alone. @throws EngineError when another one is read than was opened */
function assertSame(read: ArchiveToc, opened: ArchiveToc): void {
  const isSame = ({ dumpId, tag, schema }: TocEntry, index: number) => {
    const other = opened.entries[index];
    return dumpId === other?.dumpId && tag === other.tag && schema === other.schema;
  };
  if (read.createdAt === opened.createdAt && read.entries.length === opened.entries.length && read.entries.every(isSame)) return;
  throw differsFromManifest('of contents');
}

/** Loads pieces, as they come, over one session. */
class BlockLoader {
  private copy: TableCopy | undefined;
  private object = { oid: 0, offset: 0 };

  constructor(
    private readonly client: Client,
    private readonly loading: Loading,
    private readonly stages: StagePool,
    private readonly work: Work,
  ) {}

  async load({ block, stage, length, oid }: Piece): Promise<void> {
    const { connection, archive } = this.loading;
    if (block.table === null) {
      if (stage) await explained('Loading large objects', connection, () => this.put(stage, length, oid));
    } else if (stage) {
      this.copy ??= await TableCopy.begin(this.client, connection, { ...block, table: block.table }, archive.toc);
      await this.copy.write(stage.buffer.subarray(0, length), () => this.stages.giveBack(stage));
      this.work.rowsLoaded(length);
    } else {
      await this.copy?.end();
      this.copy = undefined;
      this.work.tableLoaded();
    }
  }

  private async put(stage: Stage, length: number, oid: number): Promise<void> {
    const { offset } = this.object.oid === oid ? this.object : { offset: 0 };
    const bytes = stage.buffer.subarray(0, length);
    await this.client.query('SELECT pg_catalog.lo_put($1::oid, $2::bigint, $3::bytea)', [oid, offset, bytes]);
    this.stages.giveBack(stage);
    this.object = { oid, offset: offset + length };
  }
}

/**
 * Gives the memory of a batch that was read back at once, instead of leaving it to the collector, which would go through the whole heap
 * for every few dozen of them (docs/BENCHMARKS.md). zlib fills a batch by and by: it is done with it when it is full.
 */
function release(chunk: Buffer): void {
  const memory = chunk.buffer as ArrayBuffer;
  if (memory.byteLength >= LEAST_RELEASED_BYTES && chunk.byteOffset + chunk.length === memory.byteLength) memory.transfer(0);
}
