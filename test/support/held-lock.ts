import { Client } from 'pg';
import type { PgConnection } from '../../src/engine/postgres/connection.js';

/** Locks a table so that a dump of it waits. @returns how to let go */
export async function holdLock(connection: PgConnection, table: string, mode = 'ACCESS EXCLUSIVE'): Promise<() => Promise<void>> {
  const { host, port, database, user, password } = connection;
  const client = new Client({ host, port, database, user, password });
  // Whoever drops the database ends this session too.
  client.on('error', () => undefined);
  await client.connect();
  await client.query(`BEGIN; LOCK TABLE ${table} IN ${mode} MODE`);
  return () => client.end();
}
