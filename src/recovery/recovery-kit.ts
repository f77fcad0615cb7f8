import { Injectable } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import { actorOf, type Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import { Settings } from '../config/settings.js';
import { DestinationsService } from '../destinations/destinations.service.js';
import { localDestination } from '../destinations/destination-view.js';
import { Stores } from '../destinations/stores.js';
import { keyId, recipientOf } from '../engine/artifact/keys.js';
import { Installation } from '../installation/installation.js';
import { type KeyRow, Keyring } from '../keys/keyring.js';
import { ServerKeys } from '../keys/server-keys.js';
import { VERSION } from '../version.js';
import { type KitContents, type KitDestination, recoveryKitText } from './recovery-kit-text.js';

/** Makes the text by which backups are restored when the server is lost. */
@Injectable()
export class RecoveryKit {
  constructor(
    private readonly catalog: Catalog,
    private readonly keys: ServerKeys,
    private readonly keyring: Keyring,
    private readonly destinations: DestinationsService,
    private readonly stores: Stores,
    private readonly installation: Installation,
    private readonly audit: AuditService,
    private readonly settings: Settings,
  ) {}

  /** The kit, after it was written down who took it. @param withSecrets whether the destinations' credentials are in it */
  async of(caller: Identity, withSecrets: boolean): Promise<string> {
    const { organizationId } = caller;
    await this.keys.refresh();
    const holdsServerKeys = await this.keyring.mayHoldServerKeys(caller);
    const rows = (await this.keyring.rows(organizationId)).filter((row) => holdsServerKeys || row.organization_id !== null);
    await this.audit.record(undefined, {
      organizationId,
      actor: actorOf(caller),
      action: 'recovery-kit.downloaded',
      resource: { kind: 'recovery-kit', id: this.installation.id },
      changes: { destinationSecrets: withSecrets, serverKeys: holdsServerKeys },
    });
    const recipients = await this.keyring.recipientsFor(organizationId, undefined);
    const secrets = [...(holdsServerKeys ? this.keys.identities : []), ...this.keyring.secretsOf(rows)];
    const identities = await Promise.all(secrets.map(async (identity) => ({ identity, recipient: await recipientOf(identity) })));
    const wrapped = rows.flatMap((row) =>
      row.wrapped_private_key === null ? [] : [{ recipient: row.public_key, file: row.wrapped_private_key }],
    );
    const known = [...identities, ...wrapped].map(({ recipient }) => recipient);
    return recoveryKitText({
      madeAt: new Date(),
      version: VERSION,
      installation: this.installation.id,
      organization: { id: organizationId, name: await this.nameOf(organizationId) },
      identities,
      wrapped,
      recipients,
      verifyingKeys: await this.verifyingKeys(rows),
      signingKeys: holdsServerKeys ? [this.keys.signingKeyPem] : [],
      destinations: await this.destinationsOf(organizationId, withSecrets),
      hasSecrets: withSecrets,
      notes: notes(recipients, known, holdsServerKeys),
    });
  }

  /** The public keyring is no secret: it is in every kit whole. */
  private async verifyingKeys(rows: readonly KeyRow[]): Promise<KitContents['verifyingKeys']> {
    const adopted = rows.filter(({ kind }) => kind === 'signing').map(({ public_key }) => public_key);
    return [...new Set([...this.keys.verifyingKeyPems, ...adopted])].map((pem) => ({ id: keyId(pem), pem }));
  }

  private async destinationsOf(organizationId: string, withSecrets: boolean): Promise<KitDestination[]> {
    const rows = await this.destinations.list(organizationId);
    const local = localDestination(false);
    return [
      { name: local.name, kind: local.kind, fields: { folder: `${this.settings.dataDir}/backups` } },
      ...rows.map((row) => ({
        name: row.name,
        kind: row.kind,
        fields: { ...row.config, ...(withSecrets ? this.stores.secretsOf(row) : {}) },
      })),
    ];
  }

  private async nameOf(organizationId: string): Promise<string> {
    const row = await this.catalog.db
      .selectFrom('organizations')
      .select('name')
      .where('id', '=', organizationId)
      .executeTakeFirst();
    return row?.name ?? '';
  }
}

function notes(recipients: readonly string[], known: readonly string[], holdsServerKeys: boolean): string[] {
  const missing = recipients.filter((recipient) => !known.includes(recipient));
  if (missing.length === 0) return [];
  const who = `New backups are encrypted to ${missing.join(', ')}, whose secret key is not in this kit:`;
  return holdsServerKeys
    ? [`${who} the server does not hold it. Keep that key with this text.`]
    : [`${who} it opens the backups of other organizations too. The server's owner keeps it.`];
}
