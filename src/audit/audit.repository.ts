import { Injectable } from '@nestjs/common';
import { type RawBuilder, sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';

export interface AuditRow {
  id: string;
  seq: number;
  at: Date;
  actor_kind: string;
  actor_id: string;
  actor_name: string;
  action: string;
  resource_kind: string;
  resource_id: string;
  result: string;
  address: string | null;
  user_agent: string | null;
  request_id: string | null;
  changes: object | null;
  previous_hash: string;
  hash: string;
  /** What the hash is of, after the hash before. */
  hashed: string;
}

/** An entry beside what it should be. */
export interface CheckedRow {
  id: string;
  seq: number;
  previous_hash: string;
  hash: string;
  real_hash: string;
}

export interface AuditFilter {
  action?: string;
  actor?: string;
  from?: string;
  to?: string;
}

interface Head {
  seq: number;
  hash: string;
  base_seq: number;
  base_hash: string;
}

const COLUMNS =
  sql.raw(`id::text AS id, seq::float8 AS seq, at, actor_kind, actor_id, actor_name, action, resource_kind, resource_id, result,
  address, user_agent, request_id, changes, previous_hash, hash, backstay.audit_text(e) AS hashed`);
const HEAD = sql.raw('seq::float8 AS seq, hash, base_seq::float8 AS base_seq, base_hash');

/** Reads the chains, and cuts off what is too old; writing is the service's, and closing the chain the database's. */
@Injectable()
export class AuditRepository {
  constructor(private readonly catalog: Catalog) {}

  /** The newest first, beginning below a place in the chain. */
  async list(organizationId: string, filter: AuditFilter, before: number | undefined, limit: number): Promise<AuditRow[]> {
    const where = [...conditions(organizationId, filter), ...(before === undefined ? [] : [sql`seq < ${before}`])];
    const query = sql<AuditRow>`SELECT ${COLUMNS} FROM backstay.audit_entries e WHERE ${sql.join(where, sql` AND `)} ORDER BY e.seq DESC LIMIT ${limit}`;
    return (await query.execute(this.catalog.db)).rows;
  }

  /** The oldest first, after a place in the chain. */
  async after(organizationId: string, filter: AuditFilter, after: number, limit: number): Promise<AuditRow[]> {
    const where = [...conditions(organizationId, filter), sql`seq > ${after}`];
    const query = sql<AuditRow>`SELECT ${COLUMNS} FROM backstay.audit_entries e WHERE ${sql.join(where, sql` AND `)} ORDER BY e.seq LIMIT ${limit}`;
    return (await query.execute(this.catalog.db)).rows;
  }

  async head(organizationId: string): Promise<Head> {
    const query = sql<Head>`SELECT ${HEAD} FROM backstay.audit_heads WHERE organization_id = ${organizationId}`;
    return (await query.execute(this.catalog.db)).rows[0] ?? { seq: 0, hash: '', base_seq: 0, base_hash: '' };
  }

  /** The next entries of the chain with the hash that their content has. */
  async checked(organizationId: string, after: number, upTo: number, limit: number): Promise<CheckedRow[]> {
    const query = sql<CheckedRow>`SELECT id::text AS id, seq::float8 AS seq, previous_hash, hash,
        backstay.audit_link(previous_hash, backstay.audit_text(e)) AS real_hash
      FROM backstay.audit_entries e WHERE organization_id = ${organizationId} AND seq > ${after} AND seq <= ${upTo}
      ORDER BY e.seq LIMIT ${limit}`;
    return (await query.execute(this.catalog.db)).rows;
  }

  async organizations(): Promise<string[]> {
    const rows = await this.catalog.db.selectFrom('audit_heads').select('organization_id').orderBy('organization_id').execute();
    return rows.map((row) => row.organization_id);
  }

  /** Removes the oldest entries up to the first that is young enough; the chain then begins there. @returns how many */
  async removeBefore(trx: Trx, organizationId: string, before: Date): Promise<number> {
    const head = sql`SELECT 1 FROM backstay.audit_heads WHERE organization_id = ${organizationId} FOR UPDATE`;
    await head.execute(trx);
    const { rows } = await sql<{ seq: number; hash: string }>`
      SELECT seq::float8 AS seq, hash FROM backstay.audit_entries e WHERE organization_id = ${organizationId} AND at < ${before}
        AND seq < coalesce((SELECT min(seq) FROM backstay.audit_entries WHERE organization_id = ${organizationId} AND at >= ${before}),
          (SELECT seq FROM backstay.audit_heads WHERE organization_id = ${organizationId}))
      ORDER BY e.seq DESC LIMIT 1`.execute(trx);
    const last = rows[0];
    if (!last) return 0;
    await sql`SET LOCAL backstay.audit_retention = 'on'`.execute(trx);
    const { numAffectedRows } =
      await sql`DELETE FROM backstay.audit_entries WHERE organization_id = ${organizationId} AND seq <= ${last.seq}`.execute(trx);
    await sql`SET LOCAL backstay.audit_retention = 'off'`.execute(trx);
    await sql`UPDATE backstay.audit_heads SET base_seq = ${last.seq}, base_hash = ${last.hash} WHERE organization_id = ${organizationId}`.execute(
      trx,
    );
    return Number(numAffectedRows ?? 0n);
  }
}

function conditions(organizationId: string, { action, actor, from, to }: AuditFilter): RawBuilder<unknown>[] {
  return [
    sql`organization_id = ${organizationId}`,
    ...(action === undefined
      ? []
      : [action.endsWith('.*') ? sql`starts_with(action, ${action.slice(0, -1)})` : sql`action = ${action}`]),
    ...(actor === undefined ? [] : [sql`(actor_id = ${actor} OR actor_name = ${actor})`]),
    ...(from === undefined ? [] : [sql`at >= ${new Date(from)}`]),
    ...(to === undefined ? [] : [sql`at < ${new Date(to)}`]),
  ];
}
