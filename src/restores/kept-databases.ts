import { Injectable, Logger } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { AuditService } from '../audit/audit.service.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { Settings } from '../config/settings.js';
import { withClient } from '../engine/postgres/client.js';
import type { PreviousDatabase } from '../engine/restore-request.js';
import { dropKept, exchange, maintenanceOf, previousName } from '../engine/restore-swap.js';
import { databaseOid, type RestoreTarget } from '../engine/restore-target.js';
import { RestoreTargets } from './restore-targets.js';
import { type RestoreRow, RestoresRepository } from './restores.repository.js';

const SESSION = { applicationName: 'backstay:swap' };

/** The databases that swaps have put aside: brought back when asked for, dropped when their time is over. */
@Injectable()
export class KeptDatabases {
  private readonly logger = new Logger('restore');

  constructor(
    private readonly restores: RestoresRepository,
    private readonly backups: BackupsService,
    private readonly targets: RestoreTargets,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly audit: AuditService,
  ) {}

  /** @returns the database that the swap had brought, now kept instead. @throws CONFLICT when there is nothing to go back to */
  async revert(restore: RestoreRow, target: RestoreTarget): Promise<PreviousDatabase> {
    const { previous_database: previous, previous_oid: previousOid } = restore;
    if (target.mode !== 'swap') throw Errors.conflict(`Only a swap can be taken back; this restore was of mode ${target.mode}.`);
    if (restore.status !== 'completed')
      throw Errors.conflict(`The restore is ${restore.status}; only completed ones can be taken back.`);
    if (restore.reverted_at) throw Errors.conflict('The swap was taken back already.');
    if (previous === null) throw Errors.conflict('The database that was replaced has been dropped: its time was over.');
    const { database } = target.server;
    const maintenance = await maintenanceOf(target.server, SESSION);
    const kept = previousName(database, restore.id, 'reverted');
    const oid = await withClient(maintenance, SESSION, async (client) => {
      if ((await databaseOid(client, previous)) !== previousOid)
        throw Errors.conflict(`The database ${JSON.stringify(previous)} is not the one that was put aside any more.`);
      return databaseOid(client, database);
    });
    await exchange(maintenance, SESSION, { current: database, next: previous, previous: kept });
    return { name: kept, oid: oid ?? 0 };
  }

  @Cron('41 * * * *')
  async dropExpired(): Promise<void> {
    if (this.settings.role === 'api') return;
    for (const restore of await this.restores.findExpired()) {
      try {
        await this.drop(restore);
      } catch (error) {
        // Somebody may be in it; the next round tries again.
        this.logger.warn({ event: 'restore.kept-database-stays', runId: restore.id, err: error }, 'restore.kept-database-stays');
      }
    }
  }

  private async drop(restore: RestoreRow): Promise<void> {
    const { previous_database: name, previous_oid: oid } = restore;
    if (name === null || oid === null) return;
    const backup = await this.backups.get(restore.organization_id, restore.backup_id);
    const target = await this.targets.resolve(backup, restore);
    if (target.mode !== 'swap') return;
    const maintenance = await maintenanceOf(target.server, SESSION);
    const dropped = await withClient(maintenance, SESSION, (client) => dropKept(client, { name, oid }));
    await this.catalog.transaction(async (trx) => {
      await this.restores.forgetKept(trx, restore.id);
      const entry = { organizationId: restore.organization_id, actor: SYSTEM_ACTOR, action: 'restore.kept-database-dropped' };
      await this.audit.record(trx, {
        ...entry,
        resource: { kind: 'restore', id: restore.id },
        changes: { database: name, dropped },
      });
    });
  }
}
