import { Injectable, type OnModuleInit } from '@nestjs/common';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import { newId } from '../common/identifiers.js';
import { Settings } from '../config/settings.js';
import { Installation } from '../installation/installation.js';
import { SecretBox } from '../keys/secret-box.js';
import type { DestinationKind } from './destination.js';
import { type DestinationSecrets, secretsOwner } from './destination-values.js';
import { DestinationsRepository } from './destinations.repository.js';

/** A destination that the environment describes, or none. */
interface Described {
  /** The setting that says whether it is there. */
  setting: string;
  kind: DestinationKind;
  given: { config: object; secrets: DestinationSecrets } | null;
}

/** Keeps the destinations that the environment describes, in the first organization: backups go there by default. */
@Injectable()
export class SettingDestinations implements OnModuleInit {
  constructor(
    private readonly destinations: DestinationsRepository,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly installation: Installation,
    private readonly secrets: SecretBox,
  ) {}

  async onModuleInit(): Promise<void> {
    await this.catalog.transaction(async (trx) => {
      for (const described of this.described()) await this.keep(trx, described);
    });
  }

  private described(): Described[] {
    const { s3, supabase } = this.settings;
    return [
      { setting: 'S3_BUCKET', kind: 's3', given: s3 && apart(s3, 'secretAccessKey') },
      { setting: 'SUPABASE_URL', kind: 'supabase', given: supabase && apart(supabase, 'serviceRoleKey') },
    ];
  }

  private async keep(trx: Trx, { setting, kind, given }: Described): Promise<void> {
    const row = await this.destinations.madeBySetting(trx, setting);
    if (!given) {
      // Backups may lie there: it stays, as one that can be changed and deleted, and is no default any more.
      if (row) await this.destinations.update(trx, row.organization_id, row.id, { made_by_setting: null, is_default: false });
      return;
    }
    const id = row?.id ?? newId('dest');
    const values = {
      config: json(given.config),
      sealed_secrets: this.secrets.seal(JSON.stringify(given.secrets), secretsOwner(id)),
    };
    if (row) {
      await this.destinations.update(trx, row.organization_id, id, values);
      return;
    }
    const organizationId = this.installation.defaultOrganizationId;
    const isTaken = (await this.destinations.find(organizationId, kind, trx)) !== undefined;
    await this.destinations.insert(trx, {
      id,
      organization_id: organizationId,
      name: isTaken ? setting : kind,
      kind,
      ...values,
      is_default: true,
      made_by_setting: setting,
    });
  }
}

/** What is shown, and the one secret that is sealed. */
function apart<T extends object>(settings: T, secret: keyof T & keyof DestinationSecrets): NonNullable<Described['given']> {
  const { [secret]: hidden, ...config } = settings;
  return { config, secrets: { [secret]: hidden } };
}
