import { parseArgs } from 'node:util';
import { UsageError } from './exit-codes.js';

const COMMANDS = ['inspect', 'verify', 'restore', 'adopt'] as const;
type Command = (typeof COMMANDS)[number];

export interface Options {
  command: Command;
  /** A folder, `s3://bucket/prefix`, or for adopt a destination's name. */
  location: string;
  kit: string[];
  identity: string[];
  signingKey: string[];
  trustUnsigned: boolean;
  backup: string;
  source: string | undefined;
  level: number | undefined;
  target: string | undefined;
  newDatabase: string | undefined;
  createRoles: boolean;
  jobs: number;
  from: string | undefined;
  settings: boolean;
  json: boolean;
}

export const USAGE = `backstay: look at backups and restore them without a server

  backstay inspect LOCATION              what lies there
  backstay verify  LOCATION [--level N]  read a backup and prove it, level 0 to 4
  backstay restore LOCATION --target postgresql://user@host:5432/empty_database
  backstay restore LOCATION --target postgresql://user@host:5432/postgres --new-database NAME
  backstay adopt   LOCATION              take backups into this server's catalog (the embedded one: while it is stopped)

LOCATION is a folder, s3://bucket/prefix?endpoint=https://…&region=… (credentials by AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY), or for adopt also the name of a destination.

  --kit FILE            the recovery kit: all keys at once
  --identity FILE       an age identity file (BACKSTAY_PASSPHRASE opens one that a passphrase protects)
  --signing-key FILE    public key that manifests are signed with, in PEM
  --trust-unsigned      the signing key is lost: go on without knowing who wrote the manifest
  --backup ID           newest when left out
  --source NAME         whose newest, by name or id
  --level N             what to prove; 2 when left out, 1 without an identity
  --target URL          or TARGET_URL; the password by PGPASSWORD, so that nobody reads it in the list of processes
  --create-roles        make the roles that the target lacks, without passwords
  --jobs N              parallel jobs for indexes and constraints of a new database; 2
  --from WHOSE          adopt: installation, organization, or installation/organization
  --no-settings         adopt: backups only
  --json                the result as JSON on stdout, no progress bar

Exit codes: 0 done, 1 failed otherwise, 2 wrong usage, 3 no such backup, 4 not trusted, 5 damaged, 6 no key fits,
7 the destination does not answer, 8 the target or its programs.
`;

/** @throws UsageError */
export function readOptions(args: string[], env: NodeJS.ProcessEnv): Options | 'help' {
  const { values, positionals } = parse(args);
  if (values.help === true || args.length === 0) return 'help';
  const [command, location, ...rest] = positionals;
  if (!COMMANDS.includes(command as Command))
    throw new UsageError(`There is no command "${command ?? ''}"; there are ${COMMANDS.join(', ')}.`);
  if (location === undefined || rest.length > 0)
    throw new UsageError(`${command} takes one location: a folder or s3://bucket/prefix.`);
  return {
    command: command as Command,
    location,
    kit: values.kit ?? [],
    identity: values.identity ?? [],
    signingKey: values['signing-key'] ?? [],
    trustUnsigned: values['trust-unsigned'] === true,
    backup: values.backup ?? 'newest',
    source: values.source,
    level: number('--level', values.level, 0, 4),
    target: values.target ?? env['TARGET_URL'],
    newDatabase: values['new-database'],
    createRoles: values['create-roles'] === true,
    jobs: number('--jobs', values.jobs, 1, 32) ?? 2,
    from: values.from,
    settings: values['no-settings'] !== true,
    json: values.json === true,
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        kit: { type: 'string', multiple: true },
        identity: { type: 'string', multiple: true, short: 'i' },
        'signing-key': { type: 'string', multiple: true },
        'trust-unsigned': { type: 'boolean' },
        backup: { type: 'string' },
        source: { type: 'string' },
        level: { type: 'string' },
        target: { type: 'string' },
        'new-database': { type: 'string' },
        'create-roles': { type: 'boolean' },
        jobs: { type: 'string' },
        from: { type: 'string' },
        'no-settings': { type: 'boolean' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function number(name: string, text: string | undefined, least: number, most: number): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,3}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value) || value < least || value > most)
    throw new UsageError(`${name} is a whole number from ${least} to ${most}.`);
  return value;
}
