import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import type { KeysDto } from './key.dto.js';
import { ServerKeys } from './server-keys.js';

/** What is said of the keys, and whether they were saved. */
@Injectable()
export class KeysService {
  constructor(
    private readonly keys: ServerKeys,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
  ) {}

  async show(): Promise<KeysDto> {
    return {
      recipients: [...this.keys.recipients],
      serverHoldsIdentity: this.keys.holdsIdentity,
      signingPublicKey: this.keys.verifyingKeyPem,
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
    return this.show();
  }
}
