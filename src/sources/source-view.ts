import { DEFAULT_ALERT_LIMITS } from '../alerts/alert-rules.js';
import type { SourceDto, SourceTlsDto } from './source.dto.js';
import type { SourceRow } from './sources.repository.js';

/** The answer's fields, each named: the sealed password can't slip out. */
export function toSource(row: SourceRow): SourceDto {
  return {
    id: row.id,
    name: row.name,
    kind: row.kind,
    host: row.host,
    port: row.port,
    database: row.database,
    user: row.username,
    hasPassword: row.sealed_password !== null,
    supabaseUrl: row.supabase_url,
    hasServiceRoleKey: row.sealed_service_role_key !== null,
    excludeBuckets: row.options.excludeBuckets ?? [],
    tls: row.tls as SourceTlsDto,
    configPaths: row.options.configPaths,
    excludeSchemas: row.options.excludeSchemas,
    excludeTables: row.options.excludeTables,
    recipients: row.options.recipients ?? [],
    lockTimeoutMs: row.options.lockTimeoutMs,
    statementTimeoutMs: row.options.statementTimeoutMs,
    maxRunMs: row.options.maxRunMs,
    spool: row.options.spool ?? false,
    alerts: { ...DEFAULT_ALERT_LIMITS, ...row.options.alerts },
    targets: { rpoMinutes: null, rtoMinutes: null, ...row.options.targets },
    assertions: row.options.assertions ?? [],
    serverVersion: row.server_version,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}
