import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { sql } from 'kysely';
import { Readable } from 'node:stream';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { Settings } from '../config/settings.js';
import { createAgeDecryptor } from '../engine/artifact/age-decrypt.js';
import { createAgeEncryptor } from '../engine/artifact/age-encrypt.js';
import { type AgeKeyPair, generateAgeKeyPair, recipientOf } from '../engine/artifact/keys.js';
import { isArmored, unwrapIdentity } from '../engine/artifact/passphrase.js';
import { EngineError } from '../engine/errors.js';
import { identitiesIn } from '../engine/recovery-kit.js';
import { WORKER_ID } from '../jobs/worker-id.js';
import { type KeyedBackup, Keyring } from './keyring.js';
import type { LentIdentityDto } from './lent-identity.dto.js';

const ALIVE = sql`now() - interval '60 seconds'`;
const FORGET_MS = 30_000;

/** What came of looking for the identity that was lent to a run. */
export interface TakenIdentities {
  identities: string[];
  /** One was lent, and the process that could open it is gone. */
  isGone: boolean;
}

/**
 * Identities that people lend to the server for one run. A run may be done by another process than the one that was asked, so what is
 * handed over is sealed to keys that each worker makes at its start and keeps in its memory alone: with the process, it is gone.
 */
@Injectable()
export class LentIdentities implements OnModuleInit {
  private readonly logger = new Logger('keys');
  private pair: AgeKeyPair | undefined;

  constructor(
    private readonly catalog: Catalog,
    private readonly keyring: Keyring,
    private readonly settings: Settings,
  ) {}

  async onModuleInit(): Promise<void> {
    if (this.settings.role === 'api') return;
    this.pair = await generateAgeKeyPair();
    await this.showKey();
  }

  /** Says that this process lives, and forgets what is of no use any more. */
  @Interval(FORGET_MS)
  async look(): Promise<void> {
    if (this.settings.role === 'api') return;
    await this.showKey()
      .then(() => this.sweep())
      .catch((error: unknown) =>
        this.logger.error({ event: 'keys.process-key-not-shown', err: error }, 'keys.process-key-not-shown'),
      );
  }

  /**
   * The age secrets that a request lends, checked against the backup.
   * @throws PRECONDITION_FAILED when one is needed and none fits; VALIDATION_ERROR when it can't be read
   */
  async requireFor(backup: KeyedBackup & { id: string }, lent: LentIdentityDto): Promise<string[]> {
    const identities = await this.read(backup.organization_id, lent);
    if (await this.keyring.canOpen(backup)) return identities;
    if (identities.length === 0)
      throw Errors.precondition(
        `The server holds no key that opens the backup ${backup.id}. Send the age identity with the request, as "identity" in the body or in the header x-age-identity (or the passphrase of its key, as "passphrase" or in x-age-passphrase); it is kept in memory only. Or restore by hand, as docs/RESTORE-BY-HAND.md shows.`,
      );
    const recipients = await Promise.all(identities.map(recipientOf));
    if (backup.recipients !== null && !backup.recipients.some((recipient) => recipients.includes(recipient)))
      throw Errors.precondition(
        `The identity that was sent does not open the backup ${backup.id}: it belongs to ${recipients.join(', ')}, and the backup is encrypted to ${backup.recipients.join(', ')}.`,
      );
    return identities;
  }

  /** Hands identities over to whichever process will do the run. @throws UNAVAILABLE when no worker lives */
  async lend(trx: Trx, runId: string, identities: readonly string[]): Promise<void> {
    if (identities.length === 0) return;
    const living = await trx
      .selectFrom('process_keys')
      .select('recipient')
      .where('seen_at', '>', ALIVE as never)
      .execute();
    if (living.length === 0)
      throw Errors.unavailable('No worker is running that could take the identity; start one, and send the request again.');
    const sealed = await through(
      Buffer.from(identities.join('\n')),
      await createAgeEncryptor(living.map(({ recipient }) => recipient)),
    );
    await trx
      .insertInto('run_identities')
      .values({ run_id: runId, sealed: sealed.toString('base64') })
      .execute();
  }

  /** What was lent to a run that this process does. */
  async take(runId: string): Promise<TakenIdentities> {
    const row = await this.catalog.db
      .selectFrom('run_identities')
      .select('sealed')
      .where('run_id', '=', runId)
      .executeTakeFirst();
    if (!row) return { identities: [], isGone: false };
    try {
      const opened = await through(Buffer.from(row.sealed, 'base64'), await createAgeDecryptor([this.pair?.identity ?? '']));
      return { identities: opened.toString().split('\n'), isGone: false };
    } catch {
      return { identities: [], isGone: true };
    }
  }

  async forget(runId: string): Promise<void> {
    await this.catalog.db.deleteFrom('run_identities').where('run_id', '=', runId).execute();
  }

  /** @throws VALIDATION_ERROR, PRECONDITION_FAILED for a wrong passphrase */
  private async read(organizationId: string, { identity, passphrase }: LentIdentityDto): Promise<string[]> {
    if (identity !== undefined) {
      const text = isArmored(identity) ? await unwrapIdentity(identity, passphrase ?? '') : identity;
      const identities = identitiesIn(text);
      if (identities.length === 0)
        throw Errors.validation({ identity: 'holds no age identity; it is a line that starts with AGE-SECRET-KEY-1' });
      for (const each of identities)
        await recipientOf(each).catch(() => {
          throw Errors.validation({ identity: 'holds an age identity that can not be read; check that it was copied whole' });
        });
      return identities;
    }
    if (passphrase === undefined) return [];
    const wrapped = (await this.keyring.rows(organizationId)).flatMap((row) => row.wrapped_private_key ?? []);
    if (wrapped.length === 0)
      throw Errors.precondition(
        'The organization has no passphrase key; send the identity itself, or make one by POST /api/keys.',
      );
    const opened = await Promise.all(wrapped.map((file) => unwrapIdentity(file, passphrase).catch(() => '')));
    const identities = opened.flatMap(identitiesIn);
    if (identities.length === 0) throw Errors.precondition('The passphrase opens no key of the organization.');
    return identities;
  }

  private async showKey(): Promise<void> {
    if (!this.pair) return;
    await sql`INSERT INTO process_keys (worker_id, recipient) VALUES (${WORKER_ID}, ${this.pair.recipient})
      ON CONFLICT (worker_id) DO UPDATE SET recipient = excluded.recipient, seen_at = now()`.execute(this.catalog.db);
  }

  private async sweep(): Promise<void> {
    await sql`DELETE FROM process_keys WHERE seen_at < now() - interval '1 hour'`.execute(this.catalog.db);
    await sql`DELETE FROM run_identities i
      WHERE NOT EXISTS (SELECT 1 FROM restores r WHERE r.id = i.run_id AND r.status IN ('queued','running'))
        AND NOT EXISTS (SELECT 1 FROM verifications v WHERE v.id = i.run_id AND v.status IN ('queued','running'))`.execute(
      this.catalog.db,
    );
  }
}

/** Why a run that was begun anew can't go on. */
export function identityGone(): EngineError {
  return new EngineError(
    'KEY_UNAVAILABLE',
    'The identity that was sent for this run was kept in the memory of a process that is gone.',
    'Send the request again, with the identity.',
  );
}

async function through(bytes: Buffer, stage: NodeJS.ReadWriteStream): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of Readable.from([bytes]).pipe(stage)) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
