import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog } from '../catalog/catalog.js';
import { Installation } from '../installation/installation.js';
import { SecretBox } from '../keys/secret-box.js';
import { VERSION } from '../version.js';
import {
  type CatalogContent,
  SAVED_TABLES,
  type SavedOrganization,
  type SavedRow,
  type SavedState,
  type SavedTable,
  SEALED_COLUMNS,
} from './catalog-content.js';

/** Reads what stands in no manifest out of the catalog, with its secrets opened: it is encrypted as a whole. */
@Injectable()
export class CatalogExport {
  constructor(
    private readonly catalog: Catalog,
    private readonly secrets: SecretBox,
    private readonly installation: Installation,
  ) {}

  /** @param organizationId of which organization; of all when left out */
  async of(organizationId: string | undefined, now: Date): Promise<CatalogContent> {
    let query = this.catalog.db.selectFrom('organizations').select(['id', 'name', 'recipients']).where('deleted_at', 'is', null);
    if (organizationId !== undefined) query = query.where('id', '=', organizationId);
    const organizations: SavedOrganization[] = [];
    for (const row of await query.orderBy('id').execute()) organizations.push(await this.organization(row));
    return { format: 1, installation: this.installation.id, backstay: VERSION, madeAt: now.toISOString(), organizations };
  }

  private async organization(row: Pick<SavedOrganization, 'id' | 'name' | 'recipients'>): Promise<SavedOrganization> {
    const tables: SavedOrganization['tables'] = {};
    for (const table of SAVED_TABLES) tables[table] = await this.rows(table, row.id);
    const head = await this.catalog.db
      .selectFrom('audit_heads')
      .select(['seq', 'hash'])
      .where('organization_id', '=', row.id)
      .executeTakeFirst();
    return {
      ...row,
      tables,
      members: await this.members(row.id),
      auditHead: head ? { seq: Number(head.seq), hash: head.hash } : null,
      backups: await this.states(row.id),
    };
  }

  private async rows(table: SavedTable, organizationId: string): Promise<SavedRow[]> {
    const { rows } = await sql<{ values: Record<string, unknown> }>`SELECT to_jsonb(t) AS values FROM ${sql.table(table)} t
      WHERE organization_id = ${organizationId} ORDER BY id`.execute(this.catalog.db);
    return rows.map(({ values }) => {
      const secrets: Record<string, string> = {};
      const plain = { ...values };
      for (const [column, owner] of Object.entries(SEALED_COLUMNS[table])) {
        if (typeof values[column] === 'string') secrets[column] = this.secrets.open(values[column], owner(String(values['id'])));
        delete plain[column];
      }
      return { values: plain, secrets };
    });
  }

  private async members(organizationId: string): Promise<SavedOrganization['members']> {
    const rows = await this.catalog.db
      .selectFrom('members as m')
      .innerJoin('users as u', 'u.id', 'm.user_id')
      .select(['m.role', 'u.id', 'u.email', 'u.name', 'u.password_hash', 'u.issuer', 'u.subject'])
      .where('m.organization_id', '=', organizationId)
      .orderBy('u.id')
      .execute();
    return rows.map(({ role, password_hash, ...user }) => ({ role, user: { ...user, passwordHash: password_hash } }));
  }

  private async states(organizationId: string): Promise<SavedState[]> {
    const rows = await this.catalog.db
      .selectFrom('backups')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('status', '=', 'completed')
      .where('origin', '!=', 'external')
      .where('purge_started_at', 'is', null)
      .orderBy('id')
      .execute();
    const iso = (at: Date | null) => at?.toISOString() ?? null;
    return rows.map((row) => ({
      id: row.id,
      manifestSha256: row.manifest_sha256,
      brokenCause: row.broken ? (row.broken_cause ?? 'It was broken before.') : null,
      origin: row.origin,
      label: row.label,
      tags: row.tags,
      pinned: row.pinned,
      proofLevel: row.proof_level ?? 0,
      provenAt: iso(row.proven_at),
      finishedAt: iso(row.finished_at),
      startedAt: iso(row.started_at),
      scheduleId: row.schedule_id,
      scheduleName: row.schedule_name,
      scheduledFor: iso(row.scheduled_for),
    }));
  }
}
