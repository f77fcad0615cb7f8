import { PGlite } from '@electric-sql/pglite';
import { Kysely } from 'kysely';
import pg from 'pg';
import type { Db } from '../catalog.js';
import { EmbeddedDialect } from '../embedded-dialect.js';

export interface OpenPglite {
  pglite: PGlite;
  db: Db;
  close(): Promise<void>;
}

/** Opens PGlite's folder, or makes it; a new one has checksums on every page, as PostgreSQL 18 does it by default. */
export async function openPglite(folder: string): Promise<OpenPglite> {
  const pglite = await PGlite.create(folder, { parsers: { [pg.types.builtins.INT8]: Number } });
  await pglite.exec(`SET search_path = backstay; SET timezone = 'UTC'`);
  const db: Db = new Kysely({ dialect: new EmbeddedDialect({ pglite }) });
  return { pglite, db, close: () => db.destroy() };
}
