import { Injectable, Logger } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { sql } from 'kysely';
import type { Identity } from '../auth/identity.js';
import type { AdoptedState } from '../backups/manifest-import.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { isForOwnerAlone, LOCAL_FOLDER } from '../destinations/destination.js';
import type { OpenDestination } from '../destinations/stores.js';
import { listCatalogBackups, readCatalogBackup } from '../engine/catalog-backup.js';
import { EngineError } from '../engine/errors.js';
import type { OpeningKeys } from '../keys/keyring.js';
import { SecretBox } from '../keys/secret-box.js';
import type { AdoptedSettingsDto } from './adopt.dto.js';
import {
  type CatalogContent,
  NEEDED_PERMISSION,
  SAVED_TABLES,
  type SavedOrganization,
  type SavedRow,
  type SavedState,
  type SavedTable,
  SEALED_COLUMNS,
} from './catalog-content.js';
import type { FoundGroup } from './found-backups.js';

/** What came back, and where old ids lead now. */
export interface BroughtBack {
  answer: AdoptedSettingsDto;
  notes: string[];
  sourceIds: ReadonlyMap<string, string>;
  createdSources: ReadonlySet<string>;
  /** What was known of a backup, if it is that very one. */
  stateOf(backupId: string, manifestSha256: string): (AdoptedState & { brokenCause: string | null }) | undefined;
}

const MOST_TRIED = 50;

/** Brings settings back from the newest backup of the lost catalog that can be read. */
@Injectable()
export class SettingsAdoption {
  private readonly logger = new Logger('recovery');

  constructor(
    private readonly catalog: Catalog,
    private readonly secrets: SecretBox,
  ) {}

  /**
   * What exists already stays as it is. Only what a key of this server (or one that those who may hold its keys brought in) has
   * signed is believed, and each kind only for those who may make it.
   */
  async bringBack(
    caller: Identity,
    destination: OpenDestination,
    group: FoundGroup,
    keys: OpeningKeys,
    signal: AbortSignal,
  ): Promise<BroughtBack | null> {
    const found = await this.newest(destination, group, keys, signal);
    if (!found) return null;
    const { organization, madeAt } = found;
    const created: Record<string, number> = {};
    const notes: string[] = [];
    const ids = new Map<string, string>();
    const createdSources = new Set<string>();
    await this.catalog.transaction(async (trx) => {
      for (const table of SAVED_TABLES) {
        const rows = organization.tables[table] ?? [];
        if (rows.length === 0) continue;
        if (!caller.permissions.has(NEEDED_PERMISSION[table])) {
          notes.push(`${rows.length} of ${table} were left out: they need the permission ${NEEDED_PERMISSION[table]}.`);
          continue;
        }
        for (const row of rows) {
          const refusal = table === 'destinations' ? refusalOf(row.values, caller) : undefined;
          if (refusal !== undefined) {
            notes.push(refusal);
            continue;
          }
          const made = await this.insert(trx, table, row, caller.organizationId, ids);
          if (made === undefined) continue;
          created[table] = (created[table] ?? 0) + 1;
          if (table === 'sources') createdSources.add(made);
        }
      }
      if (caller.permissions.has('member:manage'))
        created['members'] = await this.members(trx, organization, caller.organizationId);
      else if (organization.members.length > 0) notes.push('Members were left out: they need the permission member:manage.');
      if (organization.recipients && caller.permissions.has('key:manage'))
        await sql`UPDATE organizations SET recipients = ${organization.recipients}
          WHERE id = ${caller.organizationId} AND recipients IS NULL`.execute(trx);
    });
    const states = new Map<string, SavedState>(organization.backups.map((state) => [state.id, state]));
    return {
      answer: { madeAt, created, auditHead: organization.auditHead },
      notes,
      sourceIds: ids,
      createdSources,
      stateOf: (id, sha256) => {
        const state = states.get(id);
        return state?.manifestSha256 === sha256 ? state : undefined;
      },
    };
  }

  private async newest(
    { store }: OpenDestination,
    group: FoundGroup,
    keys: OpeningKeys,
    signal: AbortSignal,
  ): Promise<{ organization: SavedOrganization; madeAt: string } | undefined> {
    const stored = await listCatalogBackups(store, group.installation, signal);
    for (const { key } of stored.slice(0, MOST_TRIED)) {
      try {
        const content = (await readCatalogBackup(store, key, keys, signal)) as CatalogContent;
        const organization = content.organizations.find(({ id }) => id === group.organization);
        if (content.format === 1 && content.installation === group.installation && organization)
          return { organization, madeAt: content.madeAt };
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof EngineError && error.code === 'STORE_FAILED') throw error;
        this.logger.warn({ event: 'adopt.catalog-unread', key, err: error }, 'adopt.catalog-unread');
      }
    }
    return undefined;
  }

  /** @returns the id of the row, when it was made now; where old ids lead is noted in `ids` either way */
  private async insert(
    trx: Trx,
    table: SavedTable,
    { values, secrets }: SavedRow,
    organizationId: string,
    ids: Map<string, string>,
  ): Promise<string | undefined> {
    const oldId = String(values['id']);
    const taken = await this.taken(trx, table, values, organizationId);
    if (taken.sameId) {
      ids.set(oldId, oldId);
      return undefined;
    }
    if (taken.sameThing !== undefined) {
      ids.set(oldId, taken.sameThing);
      return undefined;
    }
    // What a setting of the lost server made, the settings of this one make.
    if (table === 'notification_channels' && values['made_by_setting'] !== null) return undefined;
    const id = taken.idElsewhere ? derivedId(organizationId, oldId) : oldId;
    ids.set(oldId, id);
    const row: Record<string, unknown> = {
      ...values,
      id,
      organization_id: organizationId,
      ...(taken.nameTaken ? { name: `${String(values['name'])}-${id.slice(-6)}` } : {}),
      ...('made_by_setting' in values ? { made_by_setting: null } : {}),
    };
    for (const column of ['source_id', 'source_ids', 'destinations', 'schedule_ids', 'retention_policy'])
      if (column in row) row[column] = mapped(row[column], ids);
    for (const [column, owner] of Object.entries(SEALED_COLUMNS[table]))
      row[column] = secrets[column] === undefined ? null : this.secrets.seal(secrets[column], owner(id));
    await insertRow(trx, table, row);
    return id;
  }

  /** What of a row is there already. */
  private async taken(trx: Trx, table: SavedTable, values: Record<string, unknown>, organizationId: string): Promise<Taken> {
    const { rows: byId } = await sql<{ organization_id: string }>`SELECT organization_id FROM ${sql.table(table)}
      WHERE id = ${String(values['id'])}`.execute(trx);
    if (byId[0]?.organization_id === organizationId) return { sameId: true };
    const idElsewhere = byId.length > 0;
    if (table === 'destinations') {
      const { rows } = await sql<{ id: string }>`SELECT id FROM destinations WHERE organization_id = ${organizationId}
        AND kind = ${String(values['kind'])} AND ${locationOf(sql`config`)} = ${locationOf(sql`${JSON.stringify(values['config'])}::jsonb`)}`.execute(
        trx,
      );
      if (rows[0]) return { sameThing: rows[0].id };
    }
    if (values['name'] === undefined) return { idElsewhere };
    const alive = table === 'sources' ? sql`AND deleted_at IS NULL` : sql``;
    const { rows } = await sql<{ id: string }>`SELECT id FROM ${sql.table(table)}
      WHERE organization_id = ${organizationId} AND name = ${String(values['name'])} ${alive}`.execute(trx);
    if (!rows[0]) return { idElsewhere };
    // A source keeps its id, which its backups name; anything else that has this name already is left alone.
    return table === 'sources' || table === 'destinations' ? { idElsewhere, nameTaken: true } : { sameThing: rows[0].id };
  }

  private async members(trx: Trx, organization: SavedOrganization, organizationId: string): Promise<number> {
    let made = 0;
    for (const { role, user } of organization.members) {
      const existing = await trx
        .selectFrom('users')
        .select('id')
        .where((e) =>
          e.or([
            e('id', '=', user.id),
            ...(user.email === null ? [] : [e('email', '=', user.email)]),
            ...(user.issuer === null ? [] : [e.and([e('issuer', '=', user.issuer), e('subject', '=', user.subject)])]),
          ]),
        )
        .executeTakeFirst();
      if (!existing)
        await trx
          .insertInto('users')
          .values({
            id: user.id,
            email: user.email,
            name: user.name,
            password_hash: user.passwordHash,
            issuer: user.issuer,
            subject: user.subject,
          })
          .execute();
      const inserted = await trx
        .insertInto('members')
        .values({ organization_id: organizationId, user_id: existing?.id ?? user.id, role: role as 'viewer' })
        .onConflict((conflict) => conflict.columns(['organization_id', 'user_id']).doNothing())
        .executeTakeFirst();
      made += Number(inserted.numInsertedOrUpdatedRows ?? 0);
    }
    return made;
  }
}

/** Why a destination is not made again; what a request could not have made, a backup of the catalog can't make either. */
function refusalOf({ name, kind, config }: SavedRow['values'], { instanceOwner }: Identity): string | undefined {
  const which = `The destination ${String(name)} was left out:`;
  if (isForOwnerAlone(String(kind)) && !instanceOwner)
    return `${which} only the instance's owner may set up one of kind ${String(kind)}.`;
  const folder = (config as { folder?: unknown } | null)?.folder;
  return kind === 'local' && !LOCAL_FOLDER.test(String(folder)) ? `${which} its folder is not one below DATA_DIR.` : undefined;
}

interface Taken {
  sameId?: boolean;
  /** Id of what is the same thing, or has its name. */
  sameThing?: string;
  idElsewhere?: boolean;
  nameTaken?: boolean;
}

/** What says where a destination leads. */
function locationOf(config: ReturnType<typeof sql>) {
  return sql`concat_ws('|', ${config}->>'folder', ${config}->>'endpoint', ${config}->>'bucket', ${config}->>'prefix', ${config}->>'remote', ${config}->>'path', ${config}->>'url')`;
}

function mapped(value: unknown, ids: ReadonlyMap<string, string>): unknown {
  if (Array.isArray(value)) return value.map((each) => mapped(each, ids));
  return typeof value === 'string' ? (ids.get(value) ?? value) : value;
}

/** The same every time, so that adopting again makes nothing twice. */
function derivedId(organizationId: string, id: string): string {
  return `${id.split('_')[0]}_${createHash('sha256').update(`${organizationId} ${id}`).digest('hex').slice(0, 20)}`;
}

/** Columns that this version does not know are left out, and those that the row lacks get their defaults. */
async function insertRow(trx: Trx, table: SavedTable, row: Record<string, unknown>): Promise<void> {
  const { rows } = await sql<{ name: string }>`SELECT column_name AS name FROM information_schema.columns
    WHERE table_schema = 'backstay' AND table_name = ${table} AND is_generated = 'NEVER'`.execute(trx);
  const columns = rows.map(({ name }) => name).filter((name) => name in row);
  const list = sql.join(columns.map((name) => sql.ref(name)));
  await sql`INSERT INTO ${sql.table(table)} (${list})
    SELECT ${list} FROM jsonb_populate_record(NULL::${sql.table(table)}, ${JSON.stringify(row)}::jsonb)`.execute(trx);
}
