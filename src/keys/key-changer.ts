import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import { ApiError, Errors } from '../common/errors.js';
import { generateAgeKeyPair } from '../engine/artifact/keys.js';
import { wrapIdentity } from '../engine/artifact/passphrase.js';
import type { ChangeKeysDto, KeysDto } from './key.dto.js';
import { Keyring } from './keyring.js';
import { KeysService } from './keys.service.js';
import { ServerKeys } from './server-keys.js';

/** Makes new keys, and says who backups are encrypted to. */
@Injectable()
export class KeyChanger {
  constructor(
    private readonly keys: ServerKeys,
    private readonly keyring: Keyring,
    private readonly service: KeysService,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
  ) {}

  /** @throws VALIDATION_ERROR for fields that exclude each other, FORBIDDEN for the server's key, CONFLICT when BACKUP_RECIPIENTS decides */
  async change(caller: Identity, dto: ChangeKeysDto): Promise<KeysDto> {
    if (dto.recipients !== undefined && dto.passphrase !== undefined)
      throw Errors.validation({ passphrase: 'excludes recipients; ask for one of them' });
    if (dto.recipients !== undefined) await this.setRecipients(caller, dto.recipients);
    else if (dto.passphrase !== undefined) await this.makePassphraseKey(caller, dto.passphrase);
    else await this.rotate(caller, dto);
    return this.service.show(caller.organizationId);
  }

  private async setRecipients(caller: Identity, recipients: readonly string[]): Promise<void> {
    await this.catalog.transaction(async (trx) => {
      await this.keyring.setRecipients(trx, caller.organizationId, recipients.length === 0 ? null : [...new Set(recipients)]);
      await this.changes.record(trx, caller, 'keys.recipients-set', caller.organizationId, { recipients });
    });
    await this.committed(caller);
  }

  private async makePassphraseKey(caller: Identity, passphrase: string): Promise<void> {
    const { identity, recipient } = await generateAgeKeyPair();
    const wrapped = await wrapIdentity(identity, passphrase);
    await this.catalog.transaction(async (trx) => {
      await this.keyring.addWrapped(trx, caller.organizationId, recipient, wrapped);
      await this.keyring.setRecipients(trx, caller.organizationId, [recipient]);
      await this.changes.record(trx, caller, 'keys.passphrase-key-made', caller.organizationId, { recipient });
    });
    await this.committed(caller);
  }

  private async rotate(caller: Identity, { kind = 'age', scope }: ChangeKeysDto): Promise<void> {
    const mayHold = await this.keyring.mayHoldServerKeys(caller);
    const whose = scope ?? (mayHold ? 'server' : 'organization');
    if (whose === 'organization') return this.rotateOrganizations(caller, kind);
    if (!mayHold)
      throw new ApiError(
        'FORBIDDEN',
        "The server's key belongs to its owner, since several organizations use it; make one of the organization's own with scope organization.",
      );
    if (kind === 'age' && !this.keys.recipients.includes(this.keys.recipient))
      throw Errors.conflict('BACKUP_RECIPIENTS says who backups are encrypted to; change that setting instead.');
    // The kit that somebody keeps lacks the new key. First: a server that dies in between must not say that all is kept elsewhere.
    await this.catalog.db.updateTable('installation').set({ keys_saved_at: null }).execute();
    await this.keys.rotate(kind);
    await this.catalog.transaction((trx) =>
      this.changes.record(trx, caller, 'keys.rotated', this.keys.recipient, { kind, scope: whose }),
    );
    await this.committed(caller);
  }

  private async rotateOrganizations(caller: Identity, kind: 'age' | 'signing'): Promise<void> {
    if (kind === 'signing')
      throw Errors.validation({ kind: 'can only be age for an organization; manifests are signed by the server' });
    const { identity, recipient } = await generateAgeKeyPair();
    await this.catalog.transaction(async (trx) => {
      await this.keyring.add(trx, caller.organizationId, { identities: [identity], verifyingKeys: [] }, 'made');
      await this.keyring.setRecipients(trx, caller.organizationId, [recipient]);
      await this.changes.record(trx, caller, 'keys.rotated', recipient, { kind, scope: 'organization' });
    });
    await this.committed(caller);
  }

  private committed(caller: Identity): Promise<void> {
    return this.changes.committed(caller, 'keys', caller.organizationId, []);
  }
}
