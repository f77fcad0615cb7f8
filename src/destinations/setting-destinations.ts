import { Injectable, type OnModuleInit } from '@nestjs/common';
import { Catalog, json } from '../catalog/catalog.js';
import { newId } from '../common/identifiers.js';
import { Settings } from '../config/settings.js';
import { Installation } from '../installation/installation.js';
import { SecretBox } from '../keys/secret-box.js';
import { secretsOwner } from './destination-values.js';
import { DestinationsRepository } from './destinations.repository.js';

const SETTING = 'S3_BUCKET';

/** Keeps the destination that `S3_BUCKET` and its siblings make, in the first organization: backups go there by default. */
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
      const row = await this.destinations.madeBySetting(trx, SETTING);
      if (!this.settings.s3) {
        // Backups may lie there: it stays, as one that can be changed and deleted, and is no default any more.
        if (row) await this.destinations.update(trx, row.organization_id, row.id, { made_by_setting: null, is_default: false });
        return;
      }
      const { secretAccessKey, ...config } = this.settings.s3;
      const id = row?.id ?? newId('dest');
      const values = {
        config: json(config),
        sealed_secrets: this.secrets.seal(JSON.stringify({ secretAccessKey }), secretsOwner(id)),
      };
      if (row) {
        await this.destinations.update(trx, row.organization_id, id, values);
        return;
      }
      const organizationId = this.installation.defaultOrganizationId;
      const isTaken = (await this.destinations.find(organizationId, 's3', trx)) !== undefined;
      await this.destinations.insert(trx, {
        id,
        organization_id: organizationId,
        name: isTaken ? SETTING : 's3',
        kind: 's3',
        ...values,
        is_default: true,
        made_by_setting: SETTING,
      });
    });
  }
}
