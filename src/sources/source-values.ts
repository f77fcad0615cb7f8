import type { SourceOptions } from '../catalog/tables.js';
import { ApiError, Errors } from '../common/errors.js';
import { assertConfigPaths } from '../engine/config-files.js';
import { EngineError } from '../engine/errors.js';
import { parsePostgresUrl, type PgConnection, type TlsMode, validateConnection } from '../engine/postgres/connection.js';
import type { CreateSourceDto, SourceKind } from './source.dto.js';

/** Stands where an adopted source's host is not known: nothing answers there. */
export const UNKNOWN_HOST = 'unknown.invalid';

const HOUR_MS = 3_600_000;
const DEFAULT_ASSERTION_SECONDS = 30;

export const DEFAULT_SOURCE_OPTIONS: SourceOptions = {
  configPaths: [],
  excludeSchemas: [],
  excludeTables: [],
  lockTimeoutMs: 60_000,
  statementTimeoutMs: 0,
  maxRunMs: 12 * HOUR_MS,
};

type ConnectionInput = Partial<Pick<CreateSourceDto, 'url' | 'host' | 'port' | 'database' | 'user' | 'password' | 'tls'>>;

/**
 * The checked connection of a request, over what is stored when it changes a source.
 * @throws ApiError VALIDATION_ERROR that names the field
 */
export function connectionOf(input: ConnectionInput, stored: PgConnection | undefined, allowUnixSockets: boolean): PgConnection {
  const parts = (['host', 'port', 'database', 'user', 'password'] as const).filter((name) => input[name] !== undefined);
  if (input.url !== undefined && parts.length > 0)
    throw Errors.validation({ url: `stands instead of ${parts.join(', ')}; give one or the other` });
  try {
    if (input.url !== undefined) {
      const parsed = parsePostgresUrl(input.url, { allowUnixSockets });
      return input.tls ? { ...parsed, tls: tlsOf(input.tls) } : parsed;
    }
    const missing = (['host', 'database', 'user'] as const).filter(
      (name) => input[name] === undefined && stored?.[name] === undefined,
    );
    if (missing.length > 0)
      throw Errors.validation(Object.fromEntries(missing.map((name) => [name, 'is needed, unless url is given'])));
    const password = input.password ?? stored?.password;
    return validateConnection(
      {
        host: input.host ?? stored?.host ?? '',
        port: input.port ?? stored?.port ?? 5432,
        database: input.database ?? stored?.database ?? '',
        user: input.user ?? stored?.user ?? '',
        ...(password === undefined ? {} : { password }),
        tls: input.tls ? tlsOf(input.tls) : (stored?.tls ?? { mode: 'prefer' }),
      },
      { allowUnixSockets },
    );
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    const field = input.url === undefined ? 'connection' : 'url';
    throw new ApiError('VALIDATION_ERROR', `${error.message} ${error.hint}`, { [field]: error.message }, { cause: error });
  }
}

function tlsOf(tls: { mode: TlsMode; ca?: string }): PgConnection['tls'] {
  return tls.ca === undefined ? { mode: tls.mode } : { mode: tls.mode, ca: tls.ca };
}

/** A Supabase project, as a request names it. */
export interface ProjectValues {
  url: string;
  serviceRoleKey: string;
}

const OF_SUPABASE = ['supabaseUrl', 'serviceRoleKey', 'excludeBuckets'] as const;

/**
 * The project of a request, over what is stored when it changes a source; null for other kinds.
 * @throws ApiError VALIDATION_ERROR for fields of another kind, for what is missing, and for a new address without its key
 */
export function projectOf(
  kind: SourceKind,
  input: Pick<CreateSourceDto, (typeof OF_SUPABASE)[number]>,
  stored: ProjectValues | null,
): ProjectValues | null {
  if (kind !== 'supabase') {
    const foreign = OF_SUPABASE.filter((name) => input[name] !== undefined);
    if (foreign.length > 0)
      throw Errors.validation(Object.fromEntries(foreign.map((name) => [name, 'belongs to kind supabase'])));
    return null;
  }
  const [url, serviceRoleKey] = [input.supabaseUrl ?? stored?.url, input.serviceRoleKey ?? stored?.serviceRoleKey];
  const missing = [...(url ? [] : ['supabaseUrl']), ...(serviceRoleKey ? [] : ['serviceRoleKey'])];
  if (!url || !serviceRoleKey)
    throw Errors.validation(Object.fromEntries(missing.map((name) => [name, 'is needed for kind supabase'])));
  // A stored key must not be sent to where somebody else leads it.
  if (stored && url !== stored.url && input.serviceRoleKey === undefined)
    throw Errors.validation({ serviceRoleKey: 'must be given again when supabaseUrl changes' });
  return { url, serviceRoleKey };
}

/** The request's options over what is stored. */
export function optionsOf(
  input: Partial<Omit<SourceOptions, 'assertions'>> & Pick<CreateSourceDto, 'assertions'>,
  stored: SourceOptions,
): SourceOptions {
  input.excludeTables?.forEach((table) => parseTableName(table));
  return {
    configPaths: input.configPaths ?? stored.configPaths,
    excludeSchemas: input.excludeSchemas ?? stored.excludeSchemas,
    excludeTables: input.excludeTables ?? stored.excludeTables,
    recipients: input.recipients ?? stored.recipients ?? [],
    lockTimeoutMs: input.lockTimeoutMs ?? stored.lockTimeoutMs,
    statementTimeoutMs: input.statementTimeoutMs ?? stored.statementTimeoutMs,
    maxRunMs: input.maxRunMs ?? stored.maxRunMs,
    spool: input.spool ?? stored.spool ?? false,
    excludeBuckets: input.excludeBuckets ?? stored.excludeBuckets ?? [],
    alerts: { ...stored.alerts, ...given(input.alerts) },
    targets: { ...stored.targets, ...given(input.targets) },
    assertions: assertionsOf(input.assertions) ?? stored.assertions ?? [],
  };
}

/** @throws ApiError VALIDATION_ERROR when two have one name */
function assertionsOf(assertions: CreateSourceDto['assertions']): SourceOptions['assertions'] {
  const names = (assertions ?? []).map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw Errors.validation({ assertions: `has ${JSON.stringify(twice)} twice; each needs a name of its own` });
  return assertions?.map(({ name, query, expectation, timeoutSeconds }) => ({
    name,
    query,
    expectation: expectation === undefined ? true : expectation,
    timeoutSeconds: timeoutSeconds ?? DEFAULT_ASSERTION_SECONDS,
  }));
}

/** Without what was left out: class-transformer makes fields of undefined. */
function given<T extends object>(values: T | undefined): Partial<T> {
  return Object.fromEntries(Object.entries(values ?? {}).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** @throws ApiError VALIDATION_ERROR when a path is not plain or lies outside of CONFIG_ROOTS; whether it is there shows in a test */
export async function checkConfigPaths(paths: readonly string[], roots: readonly string[]): Promise<void> {
  try {
    await assertConfigPaths(paths, roots);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw new ApiError('VALIDATION_ERROR', `${error.message} ${error.hint}`, { configPaths: error.message }, { cause: error });
  }
}

/** What the source leaves out, with its tables' names taken apart. @throws ApiError VALIDATION_ERROR */
export function exclusionsOf(options: Pick<SourceOptions, 'excludeSchemas' | 'excludeTables'>): {
  schemas: string[];
  tables: { schema: string; name: string }[];
} {
  return { schemas: options.excludeSchemas, tables: options.excludeTables.map((table) => parseTableName(table)) };
}

const TABLE_NAME = /^(?:(?:"((?:[^"]|"")+)"|([^".]+))\.)?(?:"((?:[^"]|"")+)"|([^".]+))$/u;

/** `schema.table`, `table` (in public), or either part in double quotes; names are exact, case and all. */
export function parseTableName(text: string, field = 'excludeTables'): { schema: string; name: string } {
  const match = TABLE_NAME.exec(text);
  if (!match)
    throw Errors.validation({
      [field]: `has ${JSON.stringify(text)}, which is not schema.table; quote a part that has a dot or a quote in it`,
    });
  const [, quotedSchema, schema, quotedName, name] = match;
  const plain = (quoted: string | undefined, bare: string | undefined) => quoted?.replaceAll('""', '"') ?? bare;
  return { schema: plain(quotedSchema, schema) ?? 'public', name: plain(quotedName, name) ?? '' };
}
