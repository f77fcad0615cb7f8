import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { SourceOptions } from '../catalog/tables.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import type { PagingDto } from '../common/http/paging.dto.js';
import { newId } from '../common/identifiers.js';
import { OutboundError } from '../common/outbound/outbound-error.js';
import { OutboundHttp } from '../common/outbound/outbound-http.js';
import { Settings } from '../config/settings.js';
import { EngineError } from '../engine/errors.js';
import type { PgConnection } from '../engine/postgres/connection.js';
import type { SupabaseAccess } from '../engine/supabase/storage-client.js';
import { SecretBox } from '../keys/secret-box.js';
import {
  UNKNOWN_HOST,
  checkConfigPaths,
  connectionOf,
  DEFAULT_SOURCE_OPTIONS,
  optionsOf,
  type ProjectValues,
  projectOf,
} from './source-values.js';
import type { CreateSourceDto, SourceKind, UpdateSourceDto } from './source.dto.js';
import { type SourceRow, SourcesRepository, type SourceValues } from './sources.repository.js';

/** Databases that are protected, and how to reach them. */
@Injectable()
export class SourcesService {
  constructor(
    private readonly sources: SourcesRepository,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly secrets: SecretBox,
    private readonly changes: Changes,
    private readonly outbound: OutboundHttp,
  ) {}

  async list(caller: Identity, { page, limit }: PagingDto): Promise<Page<SourceRow>> {
    const { rows, total } = await this.sources.list(caller.organizationId, limit, (page - 1) * limit);
    return new Page(rows, { page, limit, total });
  }

  /** @throws NOT_FOUND */
  async get(organizationId: string, idOrName: string): Promise<SourceRow> {
    const row = await this.find(organizationId, idOrName);
    if (!row) throw Errors.notFound('source', idOrName);
    return row;
  }

  /** By id or name; undefined when there is none. */
  async find(organizationId: string, idOrName: string): Promise<SourceRow | undefined> {
    return this.sources.find(organizationId, idOrName);
  }

  /** What must hold in a restored database of a source, also of one that was deleted. */
  async assertionsOf(organizationId: string, id: string | null): Promise<NonNullable<SourceOptions['assertions']>> {
    const row = id === null ? undefined : await this.sources.findEvenDeleted(organizationId, id);
    return row?.options.assertions ?? [];
  }

  /** Every source of the organization, or the one with this id; the oldest first. */
  all(organizationId: string, id: string | null): Promise<SourceRow[]> {
    return this.sources.all(organizationId, id);
  }

  /** The named source, or the only one. @throws NOT_FOUND, VALIDATION_ERROR when one has to be named */
  async getOrOnly(organizationId: string, idOrName: string | undefined): Promise<SourceRow> {
    if (idOrName !== undefined) return this.get(organizationId, idOrName);
    const [first, second] = await this.sources.firstTwo(organizationId);
    if (!first)
      throw Errors.validation({ source: 'is needed: this organization has no source yet; create one by POST /api/sources' });
    if (second) throw Errors.validation({ source: 'is needed, since this organization has several sources' });
    return first;
  }

  async create(caller: Identity, dto: CreateSourceDto): Promise<SourceRow> {
    const id = newId('src');
    const connection = connectionOf(dto, undefined, this.settings.allowUnixSockets);
    this.refuseCatalog(connection);
    await checkConfigPaths(dto.configPaths ?? [], this.settings.configRoots);
    const project = projectOf(dto.kind ?? 'postgres', dto, null);
    await this.checkProject(project);
    const values = this.valuesOf(id, dto.name, connection, project, optionsOf(dto, DEFAULT_SOURCE_OPTIONS));
    const row = await this.catalog.transaction(async (trx) => {
      const inserted = await this.sources.insert(trx, caller.organizationId, id, values);
      await this.changes.record(trx, caller, 'source.created', id, {
        name: dto.name,
        host: connection.host,
        database: connection.database,
      });
      return inserted;
    });
    await this.changes.committed(caller, 'source', id, ['sources', 'backups']);
    return row;
  }

  async update(caller: Identity, idOrName: string, dto: UpdateSourceDto): Promise<SourceRow> {
    const old = await this.get(caller.organizationId, idOrName);
    const connection = connectionOf(
      dto,
      dto.url === undefined ? this.connectionOf(old) : undefined,
      this.settings.allowUnixSockets,
    );
    this.refuseCatalog(connection);
    await checkConfigPaths(dto.configPaths ?? [], this.settings.configRoots);
    const project = projectOf(dto.kind ?? (old.kind as SourceKind), dto, this.projectOf(old));
    await this.checkProject(project);
    const values = this.valuesOf(old.id, dto.name ?? old.name, connection, project, optionsOf(dto, old.options));
    const row = await this.catalog.transaction(async (trx) => {
      const updated = await this.sources.update(trx, caller.organizationId, old.id, values);
      if (!updated) throw Errors.notFound('source', idOrName);
      await this.changes.record(trx, caller, 'source.updated', old.id, {
        fields: Object.keys(dto).filter((name) => dto[name as keyof UpdateSourceDto] !== undefined),
      });
      return updated;
    });
    await this.changes.committed(caller, 'source', old.id, ['sources', 'backups']);
    return row;
  }

  /** Its schedules go with it; its backups stay, and can still be restored elsewhere. */
  async delete(caller: Identity, idOrName: string): Promise<SourceRow> {
    const row = await this.get(caller.organizationId, idOrName);
    await this.catalog.transaction(async (trx) => {
      if ((await this.sources.openRuns(trx, row.id)) > 0)
        throw Errors.conflict(`A backup of the source "${row.name}" is queued or running; wait for it or cancel it first.`);
      const schedules = await this.sources.markDeleted(trx, caller.organizationId, row.id);
      await this.changes.record(trx, caller, 'source.deleted', row.id, { name: row.name, schedules });
    });
    await this.changes.committed(caller, 'source', row.id, ['sources', 'backups']);
    return row;
  }

  /** How to reach a source, with its password. */
  connectionOf(row: SourceRow): PgConnection {
    if (row.host === UNKNOWN_HOST)
      throw new EngineError(
        'SOURCE_UNREACHABLE',
        `The source "${row.name}" came from a manifest, which holds no credentials.`,
        `Give it host, user and password by PUT /api/sources/${row.id}, or restore to a target of mode url.`,
      );
    return {
      host: row.host,
      port: row.port,
      database: row.database,
      user: row.username,
      tls: row.tls as PgConnection['tls'],
      ...(row.sealed_password === null ? {} : { password: this.secrets.open(row.sealed_password, passwordOf(row.id)) }),
    };
  }

  /** Kinds of sources, by id. */
  kinds(trx: Trx, ids: readonly string[]): Promise<Map<string, string>> {
    return this.sources.kinds(trx, ids);
  }

  /** How to reach the Storage of a Supabase project; null for other kinds. @throws EngineError STORE_FAILED */
  storageOf(row: SourceRow): SupabaseAccess | null {
    const project = this.projectOf(row);
    return project && this.accessTo(project);
  }

  /** A project's Storage, over addresses alone that may be reached. @throws EngineError STORE_FAILED */
  accessTo(project: ProjectValues): SupabaseAccess {
    try {
      const lookup = this.outbound.lookupFor(this.outbound.checkUrl(project.url));
      return { ...project, lookup: lookup as NonNullable<SupabaseAccess['lookup']> };
    } catch (error) {
      if (!(error instanceof OutboundError)) throw error;
      throw new EngineError('STORE_FAILED', error.message, 'Correct the URL of the project, or list it in OUTBOUND_ALLOW.');
    }
  }

  private projectOf({ id, supabase_url: url, sealed_service_role_key: sealed }: SourceRow): ProjectValues | null {
    return url === null || sealed === null ? null : { url, serviceRoleKey: this.secrets.open(sealed, serviceKeyOf(id)) };
  }

  private async checkProject(project: ProjectValues | null): Promise<void> {
    if (!project) return;
    try {
      await this.outbound.checkTarget(project.url);
    } catch (error) {
      if (error instanceof OutboundError) throw Errors.validation({ supabaseUrl: `can't be used: ${error.message}` });
      throw error;
    }
  }

  private valuesOf(
    id: string,
    name: string,
    connection: PgConnection,
    project: ProjectValues | null,
    options: SourceValues['options'],
  ): SourceValues {
    return {
      name,
      kind: project ? 'supabase' : 'postgres',
      supabase_url: project?.url ?? null,
      sealed_service_role_key: project && this.secrets.seal(project.serviceRoleKey, serviceKeyOf(id)),
      host: connection.host,
      port: connection.port,
      database: connection.database,
      username: connection.user,
      sealed_password: connection.password === undefined ? null : this.secrets.seal(connection.password, passwordOf(id)),
      tls: connection.tls,
      options,
    };
  }

  /** The catalog's own database is neither source nor target: a restore over it would end the server. */
  private refuseCatalog(connection: PgConnection): void {
    if (isCatalog(connection, this.settings.databaseUrl)) {
      throw Errors.validation({
        url: "is the catalog's own database (DATABASE_URL), which can't be a source; the server keeps its own backups of it",
      });
    }
  }
}

export function serviceKeyOf(sourceId: string): string {
  return `source:${sourceId}:service-role-key`;
}

/** What a source's sealed password is bound to. */
export function passwordOf(sourceId: string): string {
  return `source:${sourceId}:password`;
}

/** Whether a connection leads to the catalog, as far as names can tell. */
export function isCatalog(
  connection: Pick<PgConnection, 'host' | 'port' | 'database'>,
  databaseUrl: string | undefined,
): boolean {
  if (databaseUrl === undefined) return false;
  const url = new URL(databaseUrl);
  const database = decodeURIComponent(url.pathname.slice(1)) || decodeURIComponent(url.username);
  return connection.host === url.hostname && connection.port === Number(url.port || 5432) && connection.database === database;
}
