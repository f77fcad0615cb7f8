import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import type { Identity } from '../auth/identity.js';
import { Catalog, type Db, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';
import { Errors } from '../common/errors.js';
import { newId } from '../common/identifiers.js';
import { recipientOf } from '../engine/artifact/keys.js';
import type { KeysInText } from '../engine/recovery-kit.js';
import { SecretBox } from './secret-box.js';
import { ServerKeys } from './server-keys.js';

export type KeyRow = Selectable<CatalogTables['keyring']>;

/** What has to be known of a backup to find its keys. */
export type KeyedBackup = Pick<
  Selectable<CatalogTables['backups']>,
  'organization_id' | 'key_scope' | 'recipients' | 'pinned_manifest_sha256'
>;

/** What a backup is checked and opened with. */
export interface OpeningKeys {
  /** Signing keys (SPKI PEM) that its manifest may be signed by. */
  verifyingKeys: string[];
  /** age secrets; may be none. */
  identities: string[];
  /** The one manifest that is trusted without a signature, as somebody who may has said so. */
  trustedManifestSha256: string | undefined;
}

/** Every key that this server knows: its own, old and new, those that were adopted, and those of single organizations. */
@Injectable()
export class Keyring {
  constructor(
    private readonly catalog: Catalog,
    private readonly keys: ServerKeys,
    private readonly secrets: SecretBox,
  ) {}

  /**
   * The keys of a backup. One that only an organization's own signing key vouches for is never opened with the server's secrets: else
   * whoever comes by another's artifacts could have them decrypted under a manifest of their own making.
   * @param lent age secrets that came with the request
   */
  async forBackup(backup: KeyedBackup, lent: readonly string[] = [], db: Db | Trx = this.catalog.db): Promise<OpeningKeys> {
    await this.keys.refresh();
    const rows = await this.rows(backup.organization_id, db);
    const isServers = backup.key_scope === 'server';
    const own = rows.filter((row) => row.organization_id === backup.organization_id);
    const shared = isServers ? rows.filter((row) => row.organization_id === null) : [];
    const publicKeys = (of: KeyRow[]) => of.filter(({ kind }) => kind === 'signing').map(({ public_key }) => public_key);
    return {
      verifyingKeys: isServers ? [...this.keys.verifyingKeyPems, ...publicKeys(shared)] : publicKeys(own),
      identities: [...new Set([...lent, ...(isServers ? this.keys.identities : []), ...this.secretsOf([...own, ...shared])])],
      trustedManifestSha256: backup.pinned_manifest_sha256 ?? undefined,
    };
  }

  /** Whether the server itself can decrypt a backup. */
  async canOpen(backup: KeyedBackup, db: Db | Trx = this.catalog.db): Promise<boolean> {
    if (backup.recipients === null) return this.keys.holdsIdentity;
    const { identities } = await this.forBackup(backup, [], db);
    const held = await Promise.all(identities.map(recipientOf));
    return backup.recipients.some((recipient) => held.includes(recipient));
  }

  /** Who a new backup is encrypted to: the source's recipients, else the organization's, else the server's. */
  async recipientsFor(organizationId: string, ofSource: readonly string[] | undefined): Promise<readonly string[]> {
    if (ofSource && ofSource.length > 0) return ofSource;
    const row = await this.catalog.db
      .selectFrom('organizations')
      .select('recipients')
      .where('id', '=', organizationId)
      .executeTakeFirst();
    if (row?.recipients && row.recipients.length > 0) return row.recipients;
    await this.keys.refresh();
    return this.keys.recipients;
  }

  /** Keys of the whole server and of one organization, besides the server's own. */
  rows(organizationId: string, db: Db | Trx = this.catalog.db): Promise<KeyRow[]> {
    return db
      .selectFrom('keyring')
      .selectAll()
      .where((e) => e.or([e('organization_id', 'is', null), e('organization_id', '=', organizationId)]))
      .orderBy('created_at', 'desc')
      .execute();
  }

  secretsOf(rows: readonly KeyRow[]): string[] {
    return rows
      .filter((row) => row.kind === 'age' && row.sealed_private_key !== null)
      .map((row) => this.secrets.open(row.sealed_private_key!, secretOf(row.id)));
  }

  /**
   * Whether somebody may see and bring in what opens every organization's backups: the instance owner, and whoever manages keys
   * while there is only one organization.
   */
  async mayHoldServerKeys(caller: Identity): Promise<boolean> {
    if (caller.instanceOwner) return true;
    if (!caller.permissions.has('key:manage')) return false;
    const { count } = await this.catalog.db
      .selectFrom('organizations')
      .select((e) => e.fn.countAll<number>().as('count'))
      .where('deleted_at', 'is', null)
      .executeTakeFirstOrThrow();
    return Number(count) === 1;
  }

  /** Takes keys in; those that are known already stay as they are. @param organizationId null for the whole server */
  async add(trx: Trx, organizationId: string | null, given: KeysInText, origin: KeyRow['origin']): Promise<void> {
    for (const pem of given.verifyingKeys) await this.insert(trx, organizationId, 'signing', pem, null, origin);
    for (const identity of given.identities)
      await this.insert(trx, organizationId, 'age', await recipientOf(identity), identity, origin);
  }

  /** Keeps an identity that only a passphrase opens. */
  async addWrapped(trx: Trx, organizationId: string, recipient: string, wrapped: string): Promise<void> {
    await trx
      .insertInto('keyring')
      .values({
        id: newId('ring'),
        organization_id: organizationId,
        kind: 'age',
        public_key: recipient,
        wrapped_private_key: wrapped,
        origin: 'passphrase',
      })
      .execute();
  }

  async setRecipients(trx: Trx, organizationId: string, recipients: readonly string[] | null): Promise<void> {
    const updated = await trx
      .updateTable('organizations')
      .set({ recipients: recipients === null ? null : [...recipients] })
      .where('id', '=', organizationId)
      .executeTakeFirst();
    if (Number(updated.numUpdatedRows) === 0) throw Errors.notFound('organization', organizationId);
  }

  private async insert(
    trx: Trx,
    organizationId: string | null,
    kind: KeyRow['kind'],
    publicKey: string,
    secret: string | null,
    origin: KeyRow['origin'],
  ): Promise<void> {
    const id = newId('ring');
    const sealed = secret === null ? null : this.secrets.seal(secret, secretOf(id));
    await sql`INSERT INTO keyring (id, organization_id, kind, public_key, sealed_private_key, origin)
      VALUES (${id}, ${organizationId}, ${kind}, ${publicKey}, ${sealed}, ${origin})
      ON CONFLICT (coalesce(organization_id, ''), public_key) DO NOTHING`.execute(trx);
  }
}

/** What a sealed key of the ring is bound to. */
function secretOf(id: string): string {
  return `keyring:${id}`;
}
