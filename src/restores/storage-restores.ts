import { Injectable } from '@nestjs/common';
import type { BackupRow } from '../backups/backups.repository.js';
import { Catalog } from '../catalog/catalog.js';
import type { RestoreTargetColumn } from '../catalog/tables.js';
import { Errors } from '../common/errors.js';
import { OutboundError } from '../common/outbound/outbound-error.js';
import { OutboundHttp } from '../common/outbound/outbound-http.js';
import { openTables } from '../engine/artifact/sealed-tables.js';
import { EngineError } from '../engine/errors.js';
import type { RestorePlan } from '../engine/restore-plan.js';
import type { RestoreOutcome } from '../engine/restore-request.js';
import { countBuckets } from '../engine/storage/pack-storage.js';
import { openStorageBackup, restoreStorageBackup } from '../engine/storage/restore-storage-backup.js';
import type { SupabaseAccess } from '../engine/supabase/storage-client.js';
import type { HeldRun } from '../jobs/held-run.js';
import { SecretBox } from '../keys/secret-box.js';
import { SourcesService } from '../sources/sources.service.js';
import { RestorePlanner } from './restore-planner.js';
import { refuseForeignFields, RestoreTargets, urlOf } from './restore-targets.js';
import type { CreateRestoreDto } from './restore.dto.js';
import type { RestoreRow } from './restores.repository.js';

const LOOK_TIMEOUT_MS = 60_000;
const SELECTIONS = ['schemas', 'tables', 'schemaOnly', 'dataOnly', 'createRoles', 'continueOnErrors', 'jobs'] as const;

/** Whether a restore is one of buckets and objects instead of a database. */
export function isOfStorage({ components }: { components?: readonly string[] }): boolean {
  return components?.includes('storage') ?? false;
}

/** Restores of the component `storage`: into the source's own project, where objects are replaced, or into any other, where none is. */
@Injectable()
export class StorageRestores {
  constructor(
    private readonly planner: RestorePlanner,
    private readonly targets: RestoreTargets,
    private readonly sources: SourcesService,
    private readonly secrets: SecretBox,
    private readonly outbound: OutboundHttp,
    private readonly catalog: Catalog,
  ) {}

  /** What the restore would do; changes nothing. */
  async plan(backup: BackupRow, dto: CreateRestoreDto, lent: readonly string[]): Promise<RestorePlan> {
    const access = await this.targetOf(backup, dto);
    const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
    const archive = await this.planner.archiveOf(backup, signal, lent);
    const { manifest, artifact } = await openStorageBackup(archive);
    // Without a key that opens it, nothing can be restored.
    await openTables(manifest, archive.identities);
    const content = manifest.storage ?? { buckets: 0, objects: 0, bytes: 0 };
    const problems = await countBuckets(access, signal).then(
      () => [],
      (error: unknown) => {
        if (!(error instanceof EngineError)) throw error;
        return [`${error.message} ${error.hint}`];
      },
    );
    return {
      objects: { BUCKET: content.buckets, OBJECT: content.objects },
      tables: 0,
      rows: 0,
      plainBytes: artifact.plainBytes,
      dataBytes: content.bytes,
      space: { neededBytes: content.bytes, freeBytes: null },
      usableModes: ['in-place', 'url'],
      unusableModes: (['new-database', 'swap', 'side-schema'] as const).map((mode) => ({ mode, why: NOT_A_DATABASE })),
      estimatedMs: Math.round(content.bytes / USUAL_RATE) * 1000,
      clientProgram: '',
      archiveServerVersion: manifest.source.serverVersion,
      targetServerVersion: '',
      missingRoles: [],
      missingExtensions: [],
      tablespaces: [],
      locks: null,
      wouldReplace: [],
      dependents: [],
      sessions: [],
      problems,
      warnings:
        dto.target.mode === 'in-place'
          ? ['Objects that are there under the same names are replaced one by one; a restore that ends early has replaced some.']
          : [],
    };
  }

  /** What of a request is stored, once it was seen that it can work. @throws PRECONDITION_FAILED, VALIDATION_ERROR */
  async prepare(
    backup: BackupRow,
    restoreId: string,
    dto: CreateRestoreDto,
    lent: readonly string[],
  ): Promise<{ column: RestoreTargetColumn; sealedUrl: string | null }> {
    const { problems } = await this.plan(backup, dto, lent);
    if (problems.length > 0) throw Errors.precondition(problems.join(' '));
    const { mode } = dto.target;
    const access = await this.targetOf(backup, dto);
    const url = new URL(access.url);
    const project = JSON.stringify({ url: access.url, serviceRoleKey: access.serviceRoleKey });
    return {
      column: {
        mode,
        host: url.hostname,
        port: Number(url.port) || (url.protocol === 'https:' ? 443 : 80),
        database: '',
        jobs: 1,
        createRoles: false,
        keepPreviousHours: 0,
        selection: {},
      },
      sealedUrl: mode === 'url' ? this.secrets.seal(project, urlOf(restoreId)) : null,
    };
  }

  async run(run: HeldRun, restore: RestoreRow, backup: BackupRow, lent: readonly string[]): Promise<RestoreOutcome> {
    const { mode } = restore.target;
    const target =
      mode === 'url'
        ? this.sources.accessTo(JSON.parse(this.secrets.open(restore.sealed_target_url ?? '', urlOf(restore.id))))
        : await this.ownProject(backup);
    return restoreStorageBackup({
      ...(await this.planner.archiveOf(backup, run.signal, lent)),
      target,
      existing: mode === 'in-place' ? 'replace' : 'refuse',
      onProgress: (progress) => run.report(progress),
      beforeChange: () => this.catalog.transaction((trx) => run.fence(trx)),
    });
  }

  private async targetOf(backup: BackupRow, dto: CreateRestoreDto): Promise<SupabaseAccess> {
    for (const name of SELECTIONS)
      if (dto[name] !== undefined) throw Errors.validation({ [name]: 'belongs to the component database' });
    const { mode, url, serviceRoleKey, confirm } = dto.target;
    refuseForeignFields(dto.target);
    if (mode === 'in-place') {
      this.targets.assertConfirmed(backup, confirm);
      return this.ownProject(backup);
    }
    if (mode !== 'url') throw Errors.validation({ 'target.mode': 'must be in-place or url for the component storage' });
    if (!url) throw Errors.validation({ 'target.url': 'is needed: the URL of the project' });
    if (!serviceRoleKey) throw Errors.validation({ 'target.serviceRoleKey': 'is needed: the service role key of the project' });
    try {
      await this.outbound.checkTarget(url);
    } catch (error) {
      if (error instanceof OutboundError) throw Errors.validation({ 'target.url': `can't be used: ${error.message}` });
      throw error;
    }
    return this.sources.accessTo({ url, serviceRoleKey });
  }

  /** @throws PRECONDITION_FAILED when the source has no project any more */
  private async ownProject(backup: BackupRow): Promise<SupabaseAccess> {
    const access = this.sources.storageOf(await this.sources.get(backup.organization_id, backup.source_id ?? ''));
    if (access) return access;
    throw Errors.precondition('The source has no Supabase project any more; restore by mode url into one.');
  }
}

const NOT_A_DATABASE = 'Buckets and objects are no database; restore by mode in-place or url.';
/** Bytes a second, by which the time is estimated. */
const USUAL_RATE = 10_000_000;
