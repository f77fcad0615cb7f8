import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { withTemporaryFolder } from '../temporary-folder.js';
import type { PgConnection } from './connection.js';
import { startupOptions } from './settings.js';

const NOWHERE = '/nonexistent';

export interface PgEnvironmentOptions {
  /** Shown in pg_stat_activity; recovery finds our sessions by it. */
  applicationName: string;
  /** A file with the CA certificates that the server's certificate is checked against. */
  caFile?: string;
  /** A private, empty folder; a path that does not exist by default. */
  home?: string;
  /** More settings for the session, such as `session_replication_role`. */
  settings?: Readonly<Record<string, string>>;
  /** More variables. */
  extra?: Readonly<Record<string, string>>;
}

/**
 * The whole environment of a child process that connects to `connection`: nothing of our own environment passes (it holds keys),
 * and nothing in the user's home (passwords, services, client certificates) is looked at. Arguments show passwords to every
 * user of the machine, the environment does not; and libpq expands a database name in an argument, but not in PGDATABASE.
 */
export function pgEnvironment(connection: PgConnection, options: PgEnvironmentOptions): Record<string, string> {
  const { mode, ca } = connection.tls;
  return {
    ...bareEnvironment(options.home),
    PGHOST: connection.host,
    PGPORT: String(connection.port),
    PGDATABASE: connection.database,
    PGUSER: connection.user,
    ...(connection.password === undefined ? {} : { PGPASSWORD: connection.password }),
    // An older libpq takes `require` with a CA for verify-ca only in part of its versions; so it is said outright.
    PGSSLMODE: mode === 'require' && ca !== undefined ? 'verify-ca' : mode,
    PGSSLROOTCERT: options.caFile ?? `${NOWHERE}/root.crt`,
    PGSSLCRL: `${NOWHERE}/root.crl`,
    PGSSLCERT: `${NOWHERE}/client.crt`,
    PGSSLKEY: `${NOWHERE}/client.key`,
    PGGSSENCMODE: 'disable',
    PGPASSFILE: '/dev/null',
    PGSERVICEFILE: '/dev/null',
    PGSYSCONFDIR: NOWHERE,
    PGCONNECT_TIMEOUT: '10',
    PGAPPNAME: options.applicationName,
    PGOPTIONS: startupOptions(options.settings),
    ...options.extra,
  };
}

/** The environment of a child process that connects to nothing: a PATH, a home that is not ours, and messages in English. */
export function bareEnvironment(home: string = NOWHERE): Record<string, string> {
  return {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    HOME: home,
    TMPDIR: tmpdir(),
    LANG: 'C.UTF-8',
    LC_ALL: 'C.UTF-8',
    LC_MESSAGES: 'C',
    TZ: 'UTC',
  };
}

/**
 * Runs `fn` with an environment for child processes whose CA file and home are in a private temporary folder, which is removed after.
 * Where a mode asks for verification and no CA was uploaded, the public authorities that Node knows are used.
 */
export async function withPgEnvironment<T>(
  connection: PgConnection,
  options: Omit<PgEnvironmentOptions, 'caFile' | 'home'>,
  fn: (env: Record<string, string>) => Promise<T>,
): Promise<T> {
  return withTemporaryFolder(async (home) => {
    const { mode, ca } = connection.tls;
    const authorities = ca ?? (mode.startsWith('verify-') ? rootCertificates.join('\n') : undefined);
    if (authorities === undefined) return await fn(pgEnvironment(connection, { ...options, home }));
    const caFile = join(home, 'ca.pem');
    await writeFile(caFile, authorities, { mode: 0o600 });
    return await fn(pgEnvironment(connection, { ...options, home, caFile }));
  });
}

/** A database name as the argument of `-d` or `-l`, quoted so that libpq expands nothing in it. */
export function databaseArgument(database: string): string {
  return `dbname='${database.replace(/[\\']/g, (character) => `\\${character}`)}'`;
}
