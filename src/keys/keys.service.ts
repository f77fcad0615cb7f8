import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import type { KeysDto } from './key.dto.js';
import { keyId } from '../engine/artifact/keys.js';
import { Installation } from '../installation/installation.js';
import { Keyring } from './keyring.js';
import { ServerKeys } from './server-keys.js';

/** What is said of the keys, and whether they were saved. */
@Injectable()
export class KeysService {
  constructor(
    private readonly keys: ServerKeys,
    private readonly keyring: Keyring,
    private readonly installation: Installation,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
  ) {}

  async show(organizationId: string): Promise<KeysDto> {
    await this.keys.refresh();
    const adopted = (await this.keyring.rows(organizationId)).filter(({ kind }) => kind === 'signing');
    const trusted = [...new Set([...this.keys.verifyingKeyPems, ...adopted.map(({ public_key }) => public_key)])];
    const recipients = [...(await this.keyring.recipientsFor(organizationId, undefined))];
    const isOurs = { organization_id: organizationId, key_scope: 'server', recipients, pinned_manifest_sha256: null };
    return {
      installation: this.installation.id,
      recipients,
      serverHoldsIdentity: await this.keyring.canOpen(isOurs),
      signingPublicKey: this.keys.verifyingKeyPem,
      signingKeys: trusted.map((pem) => ({ id: keyId(pem), publicKey: pem })),
      keptIn: this.keys.keptIn,
      savedAt: (await this.savedAt())?.toISOString() ?? null,
    };
  }

  async savedAt(): Promise<Date | null> {
    return (await this.catalog.db.selectFrom('installation').select('keys_saved_at').executeTakeFirst())?.keys_saved_at ?? null;
  }

  /** An operator says that the secret keys are kept elsewhere too. */
  async confirmSaved(caller: Identity): Promise<KeysDto> {
    await this.catalog.transaction(async (trx) => {
      await trx
        .updateTable('installation')
        .set({ keys_saved_at: sql<Date>`now()` })
        .execute();
      await this.changes.record(trx, caller, 'keys.confirmed-saved', this.keys.recipient);
    });
    return this.show(caller.organizationId);
  }
}
