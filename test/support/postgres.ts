import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll } from '@jest/globals';
import type { QueryResultRow } from 'pg';
import { withClient } from '../../src/engine/postgres/client.js';
import { findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import type { PgConnection } from '../../src/engine/postgres/connection.js';
import { ThrowawayCluster } from '../../src/engine/postgres/throwaway-cluster.js';

const ROOT = process.cwd();
/** The engine's own sessions have an empty search path; the SQL of tests is easier to read with the usual one. */
const SESSION = { applicationName: 'test', settings: { search_path: 'public' } };

/** A private PostgreSQL for the tests of one file. */
export class TestPostgres {
  private databases = 0;

  private constructor(readonly cluster: ThrowawayCluster) {}

  static async start(settings: Readonly<Record<string, string>> = {}): Promise<TestPostgres> {
    // Tests dump what is in it, so it must not be newer than the newest pg_dump of the machine.
    const programs = await findClientPrograms({ binDirs: [] });
    const maxMajor = Math.max(...programs.map(({ major }) => major));
    return new TestPostgres(await ThrowawayCluster.start({ settings, ...(programs.length === 0 ? {} : { maxMajor }) }));
  }

  connection(database = 'postgres', as?: { user: string; password: string }): PgConnection {
    return this.cluster.connection(database, as);
  }

  /** Makes an empty database from template0 and gives its name; `options` is SQL, such as `ENCODING 'LATIN1'`. */
  async createDatabase(name = `test_${++this.databases}`, options = ''): Promise<string> {
    await this.exec('postgres', `CREATE DATABASE "${name.replaceAll('"', '""')}" TEMPLATE template0 ${options}`);
    return name;
  }

  /** Makes a role that may log in, and gives what `connection` takes. */
  async createUser(user: string, options = ''): Promise<{ user: string; password: string }> {
    const password = `password-of-${user}`;
    await this.exec('postgres', `CREATE ROLE "${user}" LOGIN PASSWORD '${password}' ${options}`);
    return { user, password };
  }

  /** Runs one statement and gives its rows. */
  async query<Row extends QueryResultRow>(database: string, sql: string, params: unknown[] = []): Promise<Row[]> {
    return withClient(this.connection(database), SESSION, async (client) => (await client.query<Row>(sql, params)).rows);
  }

  /** Runs a text of one or many statements, in one transaction as far as SQL lets it. */
  async exec(database: string, sql: string): Promise<void> {
    await withClient(this.connection(database), SESSION, (client) => client.query(sql));
  }

  /** Makes a database with the awkward sample (scripts/sample-database.sql), large objects and all, and gives its name. */
  async createSampleDatabase(name?: string): Promise<string> {
    const database = await this.createDatabase(name);
    await this.exec(database, await readFile(join(ROOT, 'scripts/sample-database.sql'), 'utf8'));
    return database;
  }

  stop(): Promise<void> {
    return this.cluster.stop();
  }
}

const dependents: (() => unknown)[] = [];

/** What uses a private PostgreSQL is stopped before it is: hooks at the end run in the order in which those at the beginning do. */
export function stopBeforePostgres(stop: () => unknown): void {
  dependents.push(stop);
}

/** Starts a private PostgreSQL before the tests of a describe block (or file) and stops it after them. */
export function usePostgres(settings: Readonly<Record<string, string>> = {}): { readonly current: TestPostgres } {
  let postgres: TestPostgres | undefined;
  beforeAll(async () => {
    postgres = await TestPostgres.start(settings);
  });
  afterAll(async () => {
    await Promise.all(dependents.splice(0).map((stop) => stop()));
    await postgres?.stop();
  });
  return {
    get current() {
      if (postgres === undefined) throw new Error('the private PostgreSQL is there only while tests run');
      return postgres;
    },
  };
}
