import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';

export type InboundSecretRow = Selectable<CatalogTables['inbound_secrets']>;

/** Secrets for reports from outside, and the messages that were taken in. */
@Injectable()
export class InboundRepository {
  constructor(private readonly catalog: Catalog) {}

  async organizationExists(id: string): Promise<boolean> {
    const row = await this.catalog.db.selectFrom('organizations').select('id').where('id', '=', id).executeTakeFirst();
    return row !== undefined;
  }

  async secret(organizationId: string): Promise<InboundSecretRow | undefined> {
    return this.catalog.db
      .selectFrom('inbound_secrets')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .executeTakeFirst();
  }

  /** Gives the organization a secret; the one before it stays for a while. */
  async rotate(trx: Trx, organizationId: string, sealed: string, previousUntil: Date | null): Promise<InboundSecretRow> {
    return trx
      .insertInto('inbound_secrets')
      .values({ organization_id: organizationId, sealed_secret: sealed, sealed_previous_secret: null })
      .onConflict((conflict) =>
        conflict.column('organization_id').doUpdateSet({
          sealed_secret: sealed,
          sealed_previous_secret: previousUntil === null ? null : sql<string>`inbound_secrets.sealed_secret`,
          previous_secret_until: previousUntil,
          rotated_at: new Date(),
        }),
      )
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  async remove(trx: Trx, organizationId: string): Promise<boolean> {
    const row = await trx
      .deleteFrom('inbound_secrets')
      .where('organization_id', '=', organizationId)
      .returning('organization_id')
      .executeTakeFirst();
    return row !== undefined;
  }

  /** Notes a message. @returns false when it has come before */
  async noteMessage(trx: Trx, organizationId: string, id: string): Promise<boolean> {
    const row = await trx
      .insertInto('inbound_messages')
      .values({ organization_id: organizationId, id })
      .onConflict((conflict) => conflict.doNothing())
      .returning('id')
      .executeTakeFirst();
    return row !== undefined;
  }

  /** What is too old to be taken again needs no note. */
  async prune(minutes: number): Promise<void> {
    await sql`DELETE FROM inbound_messages WHERE received_at < now() - make_interval(mins => ${minutes})`.execute(
      this.catalog.db,
    );
  }
}
