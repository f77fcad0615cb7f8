import { Injectable } from '@nestjs/common';
import { randomBytes } from 'node:crypto';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { Settings } from '../config/settings.js';
import { Installation } from '../installation/installation.js';
import { SecretBox } from '../keys/secret-box.js';
import type { InboundSecretDto } from './inbound.dto.js';
import { InboundRepository, type InboundSecretRow } from './inbound.repository.js';

const DEFAULT_OVERLAP_HOURS = 24;
const HOUR_MS = 3_600_000;

/** What those who report backups from outside share with this server: `WEBHOOK_SECRET`, and a secret of each organization's own. */
@Injectable()
export class InboundSecrets {
  constructor(
    private readonly rows: InboundRepository,
    private readonly box: SecretBox,
    private readonly settings: Settings,
    private readonly installation: Installation,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
  ) {}

  /** All secrets that are valid for an organization now. */
  async valid(organizationId: string, now: Date): Promise<string[]> {
    const row = await this.rows.secret(organizationId);
    const sealed = row ? [row.sealed_secret] : [];
    if (row?.sealed_previous_secret && row.previous_secret_until && row.previous_secret_until > now)
      sealed.push(row.sealed_previous_secret);
    const own = sealed.map((each) => this.box.open(each, boundTo(organizationId)));
    return this.settingApplies(organizationId) && this.settings.webhooks.secret !== null
      ? [...own, this.settings.webhooks.secret]
      : own;
  }

  async show(organizationId: string): Promise<InboundSecretDto> {
    return this.view(organizationId, await this.rows.secret(organizationId));
  }

  /** Makes the organization's secret, or a new one. */
  async rotate(caller: Identity, overlapHours = DEFAULT_OVERLAP_HOURS): Promise<InboundSecretDto & { secret: string }> {
    const secret = `whsec_${randomBytes(32).toString('base64')}`;
    const until = overlapHours === 0 ? null : new Date(Date.now() + overlapHours * HOUR_MS);
    const { organizationId } = caller;
    const row = await this.catalog.transaction(async (trx) => {
      await this.changes.record(trx, caller, 'webhook.inbound-secret-rotated', organizationId, { overlapHours });
      return this.rows.rotate(trx, organizationId, this.box.seal(secret, boundTo(organizationId)), until);
    });
    await this.changes.committed(caller, 'webhook', organizationId, []);
    return { ...this.view(organizationId, row), secret };
  }

  async remove(caller: Identity): Promise<InboundSecretDto> {
    await this.catalog.transaction(async (trx) => {
      if (!(await this.rows.remove(trx, caller.organizationId))) throw Errors.notFound('inbound secret of', 'this organization');
      await this.changes.record(trx, caller, 'webhook.inbound-secret-removed', caller.organizationId);
    });
    await this.changes.committed(caller, 'webhook', caller.organizationId, []);
    return this.view(caller.organizationId, undefined);
  }

  private view(organizationId: string, row: InboundSecretRow | undefined): InboundSecretDto {
    return {
      exists: row !== undefined,
      settingApplies: this.settingApplies(organizationId) && this.settings.webhooks.secret !== null,
      modes: [...this.settings.webhooks.modes],
      createdAt: row?.created_at.toISOString() ?? null,
      rotatedAt: row?.rotated_at?.toISOString() ?? null,
      previousSecretUntil: row?.previous_secret_until?.toISOString() ?? null,
    };
  }

  /** The setting belongs to the organization that was there first. */
  private settingApplies(organizationId: string): boolean {
    return organizationId === this.installation.defaultOrganizationId;
  }
}

function boundTo(organizationId: string): string {
  return `inbound:${organizationId}:secret`;
}
