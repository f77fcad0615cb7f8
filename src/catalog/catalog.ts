import { join } from 'node:path';
import { Kysely, PostgresDialect, sql, type Transaction } from 'kysely';
import { fromPglite } from 'pg-boss';
import pg from 'pg';
import { redact } from '../common/logging/redaction.js';
import { StartError } from '../common/start-error.js';
import type { Settings } from '../config/settings.js';
import { EmbeddedHome } from './embedded/home.js';
import { migrateCatalog } from './migrations.js';
import type { CatalogTables } from './tables.js';

export type Db = Kysely<CatalogTables>;
export type Trx = Transaction<CatalogTables>;

/** What pg-boss runs its SQL with. */
export interface RawSql {
  executeSql(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
}

const CONNECT_TIMEOUT_MS = 10_000;
const QUERY_TIMEOUT_MS = 60_000;

/** The server's own database: one Kysely over PGlite (embedded) or PostgreSQL (shared). Also Nest's token. */
export class Catalog {
  private constructor(
    readonly db: Db,
    /** The embedded catalog's folder; undefined for a shared catalog. */
    readonly home: EmbeddedHome | undefined,
    readonly rawSql: RawSql,
    /** The pool of the shared catalog, for LISTEN. */
    readonly pool: pg.Pool | undefined,
    private readonly closing: () => Promise<void>,
  ) {}

  /**
   * Opens the catalog that the settings name and brings it to this version.
   * @throws when another process holds the embedded catalog, the database can't be reached, or it is of a newer version
   */
  static async open(settings: Pick<Settings, 'dataDir' | 'databaseUrl' | 'databasePoolSize'>): Promise<Catalog> {
    const catalog = settings.databaseUrl
      ? Catalog.openShared(settings.databaseUrl, settings.databasePoolSize)
      : await Catalog.openEmbedded(settings.dataDir);
    try {
      await migrateCatalog(catalog.db);
    } catch (error) {
      await catalog.close();
      throw catalog.embedded ? error : unreachable(error);
    }
    return catalog;
  }

  private static async openEmbedded(dataDir: string): Promise<Catalog> {
    const { home, opened } = await EmbeddedHome.open(join(dataDir, 'catalog'));
    return new Catalog(opened.db, home, fromPglite(opened.pglite), undefined, () => home.close(opened));
  }

  private static openShared(url: string, max: number): Catalog {
    const types = {
      getTypeParser: ((oid: number, format?: 'text') =>
        oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
    };
    const pool = new pg.Pool({
      connectionString: withLibpqTls(url),
      max,
      types,
      application_name: 'backstay:catalog',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
      keepAlive: true,
      // As statements, since session poolers drop startup options.
      onConnect: async (client) => void (await client.query(`SET search_path = backstay; SET timezone = 'UTC'`)),
    });
    // An idle connection that breaks is replaced at the next use; without a listener it would end the process.
    pool.on('error', () => undefined);
    const db: Db = new Kysely({ dialect: new PostgresDialect({ pool }) });
    const rawSql: RawSql = { executeSql: async (text, values) => ({ rows: flatRows(await pool.query(text, values)) }) };
    return new Catalog(db, undefined, rawSql, pool, () => db.destroy());
  }

  /** True when this process alone owns the catalog. */
  get embedded(): boolean {
    return this.home !== undefined;
  }

  /** Runs `work` in one transaction; use `trx` alone inside, since the embedded catalog has one connection. */
  transaction<T>(work: (trx: Trx) => Promise<T>): Promise<T> {
    return this.db.transaction().execute(work);
  }

  /**
   * Runs `work` while no other session of a shared catalog holds the same name. No transaction is open and no row locked meanwhile, so that
   * it may take long. The embedded catalog has one process, which has to know by itself what it is doing.
   * @param work gets the session, for what it asks of the catalog: with one more for each, a pool could run dry
   */
  async holding<T>(name: string, work: (session: Db) => Promise<T>): Promise<T> {
    if (this.embedded) return work(this.db);
    return this.db.connection().execute(async (session) => {
      await sql`SELECT pg_advisory_lock(hashtextextended(${name}, 0))`.execute(session);
      try {
        return await work(session);
      } finally {
        // With its session gone, it is held no more.
        await sql`SELECT pg_advisory_unlock(hashtextextended(${name}, 0))`.execute(session).catch(() => undefined);
      }
    });
  }

  /** Whether nobody holds that name; nobody else will until the transaction ends. */
  async isFree(trx: Trx, name: string): Promise<boolean> {
    const { rows } = await sql<{ free: boolean }>`SELECT pg_try_advisory_xact_lock(hashtextextended(${name}, 0)) AS free`.execute(
      trx,
    );
    return rows[0]?.free ?? false;
  }

  /** One round trip, to see that the catalog answers. */
  async ping(): Promise<void> {
    await sql`SELECT 1`.execute(this.db);
  }

  async close(): Promise<void> {
    await this.closing();
  }
}

/** `sslmode` as libpq and a source's settings understand it: `require` encrypts, and checks the chain only with a CA. */
function withLibpqTls(text: string): string {
  const url = new URL(text);
  if (url.searchParams.has('sslmode')) url.searchParams.set('uselibpqcompat', 'true');
  return url.href;
}

/** Connecting is what fails, as long as the server has not answered with an error of a statement. */
function unreachable(error: unknown): unknown {
  const { code, message } = error as { code?: string; message?: string };
  if (!/^(E[A-Z]+|08|28|3D|57P)/.test(code ?? '') && !/timeout|does not support SSL/i.test(message ?? '')) return error;
  return new StartError(
    `The catalog's database can't be entered: ${redact(message ?? '')}. Check DATABASE_URL, and that its server runs.`,
    { cause: error },
  );
}

/** A text of several statements gives several results. */
function flatRows(result: pg.QueryResult | pg.QueryResult[]): unknown[] {
  return Array.isArray(result) ? result.flatMap((each) => each.rows) : result.rows;
}

/** A value for a jsonb column. */
export function json(value: object | null): string | null {
  return value === null ? null : JSON.stringify(value);
}
