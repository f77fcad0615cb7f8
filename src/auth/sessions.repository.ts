import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';

export interface SessionRow {
  id: string;
  user_id: string;
  refresh_hash: Buffer;
  token_expires_at: Date;
  refresh_expires_at: Date;
  ends_at: Date;
}

const COLUMNS = ['id', 'user_id', 'refresh_hash', 'token_expires_at', 'refresh_expires_at', 'ends_at'] as const;

export interface SessionTokens {
  token_hash: Buffer;
  refresh_hash: Buffer;
  token_expires_at: Date;
  refresh_expires_at: Date;
}

/** Sessions of local accounts, by the hashes of their tokens; an ended one is gone. */
@Injectable()
export class SessionsRepository {
  constructor(private readonly catalog: Catalog) {}

  async findByToken(hash: Buffer): Promise<SessionRow | undefined> {
    return this.catalog.db
      .selectFrom('sessions')
      .select(COLUMNS)
      .where('token_hash', '=', hash)
      .where('token_expires_at', '>', sql<Date>`now()`)
      .where('ends_at', '>', sql<Date>`now()`)
      .executeTakeFirst();
  }

  /** The session to which this refresh token belongs or once belonged, locked. */
  async lockByRefresh(trx: Trx, hash: Buffer): Promise<SessionRow | undefined> {
    return trx
      .selectFrom('sessions')
      .select(COLUMNS)
      .where((e) => e.or([e('refresh_hash', '=', hash), sql<boolean>`${hash}::bytea = ANY(used_refresh_hashes)`]))
      .forUpdate()
      .executeTakeFirst();
  }

  async insert(trx: Trx, session: SessionTokens & { id: string; user_id: string; ends_at: Date }): Promise<void> {
    await trx
      .deleteFrom('sessions')
      .where('refresh_expires_at', '<', sql<Date>`now()`)
      .execute();
    await trx.insertInto('sessions').values(session).execute();
  }

  async rotate(trx: Trx, { id, refresh_hash }: SessionRow, tokens: SessionTokens): Promise<void> {
    await trx
      .updateTable('sessions')
      .set({ ...tokens, used_refresh_hashes: sql<Buffer[]>`array_append(used_refresh_hashes, ${refresh_hash}::bytea)` })
      .where('id', '=', id)
      .execute();
  }

  async end(trx: Trx, id: string): Promise<void> {
    await trx.deleteFrom('sessions').where('id', '=', id).execute();
  }

  async endAllOf(trx: Trx, userId: string, but?: string): Promise<void> {
    let query = trx.deleteFrom('sessions').where('user_id', '=', userId);
    if (but !== undefined) query = query.where('id', '!=', but);
    await query.execute();
  }

  /** Until when no password is tried for this address; undefined when one may be. */
  async blockedUntil(account: Buffer): Promise<Date | undefined> {
    const row = await this.catalog.db
      .selectFrom('login_failures')
      .select('blocked_until')
      .where('account', '=', account)
      .where('blocked_until', '>', sql<Date>`now()`)
      .executeTakeFirst();
    return row?.blocked_until;
  }

  /** Counts an attempt before its password is looked at, so that many at once gain nothing. @returns how many there were in a row */
  async countAttempt(account: Buffer, blockedUntil: (failures: number) => Date): Promise<number> {
    return this.catalog.transaction(async (trx) => {
      await trx
        .deleteFrom('login_failures')
        .where('last_at', '<', sql<Date>`now() - interval '1 day'`)
        .execute();
      const { failures } = await trx
        .insertInto('login_failures')
        .values({ account, failures: 1, blocked_until: blockedUntil(1) })
        .onConflict((conflict) =>
          conflict
            .column('account')
            .doUpdateSet({ failures: sql<number>`login_failures.failures + 1`, last_at: sql<Date>`now()` }),
        )
        .returning('failures')
        .executeTakeFirstOrThrow();
      await trx
        .updateTable('login_failures')
        .set({ blocked_until: blockedUntil(failures) })
        .where('account', '=', account)
        .execute();
      return failures;
    });
  }

  async clearFailures(trx: Trx, account: Buffer): Promise<void> {
    await trx.deleteFrom('login_failures').where('account', '=', account).execute();
  }
}
