import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import { actorOf, type Identity } from '../auth/identity.js';
import { refuseExternal } from '../backups/backup.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { newTimedId, timedIdPattern } from '../common/identifiers.js';
import { RunControl } from '../jobs/run-control.js';
import { Keyring } from '../keys/keyring.js';
import { LentIdentities } from '../keys/lent-identities.js';
import type { LentIdentityDto } from '../keys/lent-identity.dto.js';
import { SourcesService } from '../sources/sources.service.js';
import { type CreateVerificationDto, DEFAULT_LEVEL, HIGHEST_LEVEL } from './verification.dto.js';
import { type VerificationRow, VerificationsRepository } from './verifications.repository.js';

const ID = timedIdPattern('verification');

/** Verifications: asked for and shown. */
@Injectable()
export class VerificationsService {
  constructor(
    private readonly verifications: VerificationsRepository,
    private readonly backups: BackupsService,
    private readonly catalog: Catalog,
    private readonly runs: RunControl,
    private readonly keyring: Keyring,
    private readonly lent: LentIdentities,
    private readonly changes: Changes,
    private readonly sources: SourcesService,
  ) {}

  async get(organizationId: string, id: string): Promise<VerificationRow> {
    if (!ID.test(id))
      throw Errors.validation({ id: 'is not the id of a verification (verification_2025-12-22_14-30-00_k7m2qd)' });
    const row = await this.verifications.find(organizationId, id);
    if (!row) throw Errors.notFound('verification', id);
    return row;
  }

  /** Queues a verification on the server's own account, in the transaction given; the level is what the server has keys for. */
  async enqueue(trx: Trx, organizationId: string, backupId: string, level: number): Promise<string> {
    const id = newTimedId('verification', new Date());
    await this.verifications.insert(trx, {
      id,
      organizationId,
      backupId,
      level: await this.reachable(trx, organizationId, backupId, level),
      requestedBy: SYSTEM_ACTOR,
    });
    await this.runs.enqueue(trx, 'verification', id);
    return id;
  }

  /** What can be proven of what is wished for: decryption needs a key, and level 5 assertions. */
  private async reachable(trx: Trx, organizationId: string, backupId: string, level: number): Promise<number> {
    if (!(await this.keyring.canOpen(await this.backups.get(organizationId, backupId, trx), trx))) return Math.min(level, 1);
    if (level < HIGHEST_LEVEL) return level;
    return (await this.verifications.hasAssertions(trx, backupId)) ? HIGHEST_LEVEL : HIGHEST_LEVEL - 1;
  }

  /** Tells those in this process of a queued verification, once it is committed. */
  announce(id: string): Promise<void> {
    return this.runs.queued('verification', id);
  }

  /** @param lends what the request lends, for levels that decrypt */
  async create(caller: Identity, backupId: string, dto: CreateVerificationDto, lends: LentIdentityDto): Promise<VerificationRow> {
    const backup = await this.backups.get(caller.organizationId, backupId);
    if (backup.status !== 'completed')
      throw Errors.conflict(`The backup is ${backup.status}; only completed ones can be verified.`);
    refuseExternal(backup);
    const opens = lends.identity !== undefined || lends.passphrase !== undefined || (await this.keyring.canOpen(backup));
    const level = dto.level ?? (opens ? DEFAULT_LEVEL : 1);
    // Below, nothing is decrypted.
    const identities = level >= 2 ? await this.lent.requireFor(backup, lends) : [];
    if (level >= HIGHEST_LEVEL && (await this.sources.assertionsOf(caller.organizationId, backup.source_id)).length === 0)
      throw Errors.precondition(
        'Level 5 runs the assertions of the source, and it declares none. Add `assertions` to it (PUT /api/sources/:id), or ask for level 4.',
      );
    const id = newTimedId('verification', new Date());
    const row = await this.catalog.transaction(async (trx) => {
      if (!(await this.runs.lock(trx, 'backup', backupId))) throw Errors.notFound('backup', backupId);
      const inserted = await this.verifications.insert(trx, {
        id,
        organizationId: caller.organizationId,
        backupId,
        level,
        requestedBy: actorOf(caller),
      });
      await this.lent.lend(trx, id, identities);
      await this.runs.enqueue(trx, 'verification', id);
      await this.changes.record(trx, caller, 'verification.created', id, { backupId, level });
      return inserted;
    });
    await this.runs.queued('verification', id);
    await this.changes.committed(caller, 'verification', id, ['verifications']);
    return row;
  }

  async cancel(caller: Identity, id: string): Promise<VerificationRow> {
    await this.get(caller.organizationId, id);
    const ended = await this.catalog.transaction(async (trx) => {
      await this.changes.record(trx, caller, 'verification.canceled', id);
      return this.runs.cancel(trx, caller.organizationId, 'verification', id);
    });
    await this.runs.canceled('verification', id, ended);
    await this.changes.committed(caller, 'verification', id, ['verifications']);
    return this.get(caller.organizationId, id);
  }
}
