import { Client } from 'pg';
import type { PgConnection } from '../../src/engine/postgres/connection.js';

/** Locks a table so that a dump of it waits. @returns how to let go */
export async function holdLock({ tls: _, ...connection }: PgConnection, table: string): Promise<() => Promise<void>> {
  const client = new Client(connection);
  await client.connect();
  await client.query(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`);
  return () => client.end();
}
