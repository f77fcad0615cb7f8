import { join } from 'node:path';
import { OutboundAllow } from '../common/outbound/outbound-allow.js';
import { webhookSettings, type WebhookSettings } from './webhook-settings.js';
import { issuerSettings, type IssuerSettings } from './issuer-settings.js';
import { notificationSettings, type NotificationSettings } from './notification-settings.js';
import { AGE_RECIPIENT } from '../engine/artifact/keys.js';
import { EngineError } from '../engine/errors.js';
import { parsePostgresUrl } from '../engine/postgres/connection.js';
import { s3Settings, type S3Settings, supabaseSettings, type SupabaseSettings } from './destination-settings.js';
import { checkCatalogUrl } from './catalog-url.js';
import { fault, reader, type EnvironmentReader } from './environment-reader.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

const ROLES = ['all', 'api', 'worker'] as const;
export type ProcessRole = (typeof ROLES)[number];
export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export const LOG_FORMATS = ['json', 'pretty'] as const;
const RATE_TIERS = ['default', 'strict', 'lenient'] as const;
/** A process of PostgreSQL maps its shared memory and libraries before it does anything. */
const LEAST_DRILL_MEMORY = 536_870_912;
export type RateTier = (typeof RATE_TIERS)[number];

/** Everything that an operator can set, read once from the environment at start. The class is also Nest's token. */
export abstract class Settings {
  /** `PORT`: TCP port of the HTTP server; 0 takes a free one. */
  abstract readonly port: number;
  /** `HOST`: address to listen on; empty listens on every address. */
  abstract readonly host: string;
  /** `DATA_DIR`: absolute path of the folder for the embedded catalog, keys and local backups. */
  abstract readonly dataDir: string;
  /** `DATABASE_URL`: the catalog's PostgreSQL, `sslmode` as libpq understands it; undefined selects the embedded catalog. */
  abstract readonly databaseUrl: string | undefined;
  /** `DATABASE_POOL_SIZE`: most connections this process opens to the catalog. */
  abstract readonly databasePoolSize: number;
  /** `ROLE`: what this process does. */
  abstract readonly role: ProcessRole;
  /** `BOOTSTRAP_API_KEY`: the instance owner's first key. */
  abstract readonly bootstrapApiKey: string | undefined;
  /** `SECRET_KEY`: 32 bytes that encrypt stored credentials; undefined in the embedded profile, which keeps its own. */
  abstract readonly secretKey: Buffer | undefined;
  /** `SOURCE_DATABASE_URL`: creates the source `default` at first start. */
  abstract readonly sourceDatabaseUrl: string | undefined;
  /** `BACKUP_RECIPIENTS`: age public keys that replace the server's own. */
  abstract readonly backupRecipients: readonly string[];
  /** `PG_BIN_DIRS`: folders searched first for pg_dump and its siblings. */
  abstract readonly pgBinDirs: readonly string[];
  /** `PG_REQUIRE_PATCHED`: refuse client programs with known holes. */
  abstract readonly pgRequirePatched: boolean;
  /** `CONFIG_ROOTS`: absolute folders that a source's `configPaths` may name. */
  abstract readonly configRoots: readonly string[];
  /** `ALLOW_UNIX_SOCKETS`: sources may be reached by a socket folder. */
  abstract readonly allowUnixSockets: boolean;
  /** `WORKER_CONCURRENCY`: runs of each kind at the same time in this process. */
  abstract readonly workerConcurrency: number;
  /** `SPOOL_DIR`: absolute path of the folder in which the dumps of sources with a spool wait for slow destinations. */
  abstract readonly spoolDir: string;
  /** `SPOOL_MAX_BYTES`: what all of them may take there at the same time. */
  abstract readonly spoolMaxBytes: number;
  /** `SNAPSHOT_WARNING_SECONDS`: how long a dump may hold its snapshot before that is warned of; 0 for as long as it takes. */
  abstract readonly snapshotWarningSeconds: number;
  /** `CATALOG_BACKUPS`: save the server's own settings to every destination, daily and after changes. */
  abstract readonly catalogBackups: boolean;
  /** `TRASH_DAYS`: days that a deleted backup stays restorable. */
  abstract readonly trashDays: number;
  /** `VERIFY_SAMPLE_PERCENT`: share of the old backups that is verified each day; 0 leaves that out. */
  abstract readonly verifySamplePercent: number;
  /** `DRILL_DATABASE_URL`: a server on which drills make their databases; undefined starts private ones. */
  abstract readonly drillDatabaseUrl: string | undefined;
  /** `DRILL_CONCURRENCY`: restore drills at the same time in this process. */
  abstract readonly drillConcurrency: number;
  /** `DRILL_DISK_LIMIT_BYTES`: disk that a drill's private server may take; 0 for all that is free. */
  abstract readonly drillDiskLimitBytes: number;
  /** `DRILL_MEMORY_LIMIT_BYTES`: memory that each process of a drill's private server may ask for; 0 for no limit. */
  abstract readonly drillMemoryLimitBytes: number;
  /** `AUTH_ISSUERS`: whose tokens are trusted. */
  abstract readonly authIssuers: readonly IssuerSettings[];
  /** `AUDIT_RETENTION_DAYS`: days that audit entries are kept; 0 keeps them for good. */
  abstract readonly auditRetentionDays: number;
  /** `SHUTDOWN_GRACE_SECONDS`: how long running work may take to end at stop before it is given back. */
  abstract readonly shutdownGraceSeconds: number;
  /** `OUTBOUND_ALLOW`: what outbound HTTP may reach although it is private, and by plain http. */
  abstract readonly outboundAllow: OutboundAllow;
  /** `PUBLIC_URL`, `SMTP_URL`, `SLACK_WEBHOOK_URL`, `DISCORD_WEBHOOK_URL`: where and by what people are told. */
  abstract readonly notifications: NotificationSettings;
  /** `WEBHOOK_SECRET`, `WEBHOOK_SIGNATURE_MODES`: backups that are reported from elsewhere. */
  abstract readonly webhooks: WebhookSettings;
  /** `S3_BUCKET` and its siblings: the bucket that backups go to by default. */
  abstract readonly s3: S3Settings | null;
  /** `SUPABASE_URL`, `SUPABASE_SERVICE_ROLE_KEY` and their siblings: the project to whose Storage backups go by default. */
  abstract readonly supabase: SupabaseSettings | null;
  /** `CORS_ORIGINS`: origins that browsers may call from; empty turns CORS off. */
  abstract readonly corsOrigins: readonly string[];
  /** `TRUST_PROXY`: number of reverse proxies in front whose X-Forwarded-For counts. */
  abstract readonly trustProxy: number;
  /** `REQUIRE_HTTPS`: redirect to https, send HSTS. */
  abstract readonly requireHttps: boolean;
  /** `RATE_LIMIT_DEFAULT`, `RATE_LIMIT_STRICT`, `RATE_LIMIT_LENIENT`: requests per minute, client and route; 0 turns one off. */
  abstract readonly rateLimits: Readonly<Record<RateTier, number>>;
  /** `BODY_LIMIT_BYTES`: largest JSON body taken. */
  abstract readonly bodyLimitBytes: number;
  /** `LOG_LEVEL`. */
  abstract readonly logLevel: (typeof LOG_LEVELS)[number];
  /** `LOG_FORMAT`: `pretty` on a terminal, `json` elsewhere, unless set. */
  abstract readonly logFormat: (typeof LOG_FORMATS)[number];
  /** `DOCS_ENABLED`: serve Swagger UI and the OpenAPI document. */
  abstract readonly docsEnabled: boolean;
}

/** Every fault of the environment at once; the message lists them and holds no value of a secret. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';

  constructor(readonly faults: readonly string[]) {
    super(
      `The settings have ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n${faults.map((f) => `  - ${f}`).join('\n')}`,
    );
  }
}

/**
 * Reads and checks every setting.
 * @throws SettingsError that lists all faults together.
 */
export function loadSettings(env: NodeJS.ProcessEnv, terminal = process.stdout.isTTY === true): Settings {
  const read = reader(env);
  const settings: Settings = {
    port: read.integer('PORT', 3000, 0, 65_535),
    host: read.text('HOST') ?? '',
    dataDir: read.path('DATA_DIR', './data'),
    databaseUrl: read.postgresUrl('DATABASE_URL'),
    databasePoolSize: read.integer('DATABASE_POOL_SIZE', 10, 2, 200),
    role: read.oneOf('ROLE', ROLES, 'all'),
    bootstrapApiKey: apiKey(read),
    secretKey: secretKey(read),
    sourceDatabaseUrl: read.postgresUrl('SOURCE_DATABASE_URL'),
    backupRecipients: recipients(read),
    pgBinDirs: read.list('PG_BIN_DIRS', ':'),
    pgRequirePatched: read.boolean('PG_REQUIRE_PATCHED', false),
    configRoots: absolutePaths(read),
    allowUnixSockets: read.boolean('ALLOW_UNIX_SOCKETS', false),
    workerConcurrency: read.integer('WORKER_CONCURRENCY', 2, 1, 64),
    spoolDir: read.path('SPOOL_DIR', join(read.path('DATA_DIR', './data'), 'spool')),
    spoolMaxBytes: read.integer('SPOOL_MAX_BYTES', 10 * GIB, 16 * MIB, 1024 * 1024 * GIB),
    snapshotWarningSeconds: read.integer('SNAPSHOT_WARNING_SECONDS', 3600, 0, 604_800),
    catalogBackups: read.boolean('CATALOG_BACKUPS', true),
    trashDays: read.integer('TRASH_DAYS', 3, 0, 365),
    verifySamplePercent: read.integer('VERIFY_SAMPLE_PERCENT', 1, 0, 100),
    drillDatabaseUrl: read.postgresUrl('DRILL_DATABASE_URL'),
    drillConcurrency: read.integer('DRILL_CONCURRENCY', 1, 1, 64),
    drillDiskLimitBytes: read.integer('DRILL_DISK_LIMIT_BYTES', 0, 0, Number.MAX_SAFE_INTEGER),
    drillMemoryLimitBytes: memoryLimit(read),
    authIssuers: issuerSettings(read),
    auditRetentionDays: read.integer('AUDIT_RETENTION_DAYS', 0, 0, 36_500),
    shutdownGraceSeconds: read.integer('SHUTDOWN_GRACE_SECONDS', 20, 0, 3600),
    outboundAllow: outboundAllow(read),
    notifications: notificationSettings(read),
    webhooks: webhookSettings(read),
    s3: s3Settings(read),
    supabase: supabaseSettings(read),
    corsOrigins: origins(read),
    trustProxy: read.integer('TRUST_PROXY', 0, 0, 10),
    requireHttps: read.boolean('REQUIRE_HTTPS', false),
    rateLimits: {
      default: read.integer('RATE_LIMIT_DEFAULT', 10, 0, 1_000_000),
      strict: read.integer('RATE_LIMIT_STRICT', 3, 0, 1_000_000),
      lenient: read.integer('RATE_LIMIT_LENIENT', 60, 0, 1_000_000),
    },
    bodyLimitBytes: read.integer('BODY_LIMIT_BYTES', 1_048_576, 1024, 104_857_600),
    logLevel: read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    logFormat: read.oneOf('LOG_FORMAT', LOG_FORMATS, terminal ? 'pretty' : 'json'),
    docsEnabled: read.boolean('DOCS_ENABLED', true),
  };
  if (settings.sourceDatabaseUrl)
    checkConnection(read, 'SOURCE_DATABASE_URL', settings.sourceDatabaseUrl, settings.allowUnixSockets);
  if (settings.drillDatabaseUrl) checkConnection(read, 'DRILL_DATABASE_URL', settings.drillDatabaseUrl, true);
  if (settings.databaseUrl) checkCatalogUrl(read, settings.databaseUrl);
  if (settings.databaseUrl && !read.text('SECRET_KEY')) {
    read.faults.push(
      fault(
        'SECRET_KEY',
        'is needed with DATABASE_URL: every replica must decrypt the same credentials',
        'make one with `openssl rand -base64 32`',
      ),
    );
  }
  if (!settings.databaseUrl && settings.role !== 'all') {
    read.faults.push(
      fault(
        'ROLE',
        `is ${settings.role}, but the embedded catalog serves one process only`,
        'set DATABASE_URL, or leave ROLE out',
      ),
    );
  }
  if (read.faults.length > 0) throw new SettingsError(read.faults);
  return Object.freeze(settings);
}

/** As every source is checked; the URL itself is never repeated. */
function checkConnection(read: EnvironmentReader, name: string, url: string, allowUnixSockets: boolean): void {
  if (read.faults.some((found) => found.startsWith(name))) return;
  try {
    parsePostgresUrl(url, { allowUnixSockets });
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    read.faults.push(fault(name, `can't be used: ${error.message.replace(/\.$/, '')}`, error.hint.replace(/\.$/, '')));
  }
}

function apiKey(read: EnvironmentReader): string | undefined {
  const key = read.text('BOOTSTRAP_API_KEY');
  if (key !== undefined && !/^bsk_[\x21-\x7e]{28,508}$/.test(key)) {
    read.faults.push(
      fault(
        'BOOTSTRAP_API_KEY',
        'must begin with bsk_ and have 32 to 512 printable characters in all',
        'make one with `echo bsk_$(openssl rand -hex 32)`',
      ),
    );
  }
  return key;
}

function secretKey(read: EnvironmentReader): Buffer | undefined {
  const text = read.text('SECRET_KEY');
  if (text === undefined) return undefined;
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== 32 || bytes.toString('base64').replace(/=+$/, '') !== text.replace(/=+$/, '')) {
    read.faults.push(fault('SECRET_KEY', 'must be 32 bytes in base64', 'make one with `openssl rand -base64 32`'));
  }
  return bytes;
}

function memoryLimit(read: EnvironmentReader): number {
  const bytes = read.integer('DRILL_MEMORY_LIMIT_BYTES', 2_147_483_648, 0, Number.MAX_SAFE_INTEGER);
  if (bytes > 0 && bytes < LEAST_DRILL_MEMORY) {
    read.faults.push(
      fault(
        'DRILL_MEMORY_LIMIT_BYTES',
        'is too little for any PostgreSQL process',
        `give at least ${LEAST_DRILL_MEMORY}, or 0 for no limit`,
      ),
    );
  }
  return bytes;
}

function recipients(read: EnvironmentReader): string[] {
  const list = read.list('BACKUP_RECIPIENTS', ',');
  list.forEach((recipient, index) => {
    if (!AGE_RECIPIENT.test(recipient)) {
      read.faults.push(
        fault(
          'BACKUP_RECIPIENTS',
          `entry ${index + 1} is not an age public key (age1…, 62 characters)`,
          'print yours with `age-keygen -y key.txt`; never put the secret key here',
        ),
      );
    }
  });
  return list;
}

function absolutePaths(read: EnvironmentReader): string[] {
  const list = read.list('CONFIG_ROOTS', ':');
  for (const folder of list) {
    if (!folder.startsWith('/'))
      read.faults.push(fault('CONFIG_ROOTS', `holds "${folder}", which is not an absolute path`, 'begin each folder with /'));
  }
  return list;
}

function outboundAllow(read: EnvironmentReader): OutboundAllow {
  const entries = read.list('OUTBOUND_ALLOW', ',');
  const { allow, refused } = OutboundAllow.parse(entries);
  for (const index of refused) {
    read.faults.push(
      fault(
        'OUTBOUND_ALLOW',
        `holds "${entries[index]}", which is neither a host nor an address nor a CIDR`,
        'write such as hooks.internal, *.svc.cluster.local, 10.1.2.3 or 10.0.0.0/8, with commas between',
      ),
    );
  }
  return allow;
}

function origins(read: EnvironmentReader): string[] {
  const list = read.list('CORS_ORIGINS', ',');
  for (const [index, origin] of list.entries()) {
    const parsed = URL.canParse(origin) ? new URL(origin) : undefined;
    if (!parsed || parsed.origin !== origin) {
      read.faults.push(
        fault(
          'CORS_ORIGINS',
          `entry ${index + 1} is not an origin`,
          'write scheme and host only, such as https://console.example.org',
        ),
      );
    }
  }
  return list;
}
