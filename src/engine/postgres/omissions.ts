import {
  type Exclusions,
  exclusionTest,
  EXTENSION_MEMBER,
  type Queryable,
  relationKey,
  type RelationName,
  SYSTEM_SCHEMA,
} from './relations.js';

const OMISSION_REASONS = [
  /** Rows of a table that an extension made and did not mark as its configuration. */
  'extension-member',
  /** An extension's configuration table of which pg_dump takes only the rows that the extension asks for. */
  'extension-configuration-in-part',
  /** The rows are on another server. */
  'foreign-table',
  /** The source is told to leave it out. */
  'excluded',
  /** Its rows are computed anew by a restore. */
  'materialized-view-is-refreshed',
  'unpopulated-materialized-view',
  /** Unlogged tables were left out by choice. */
  'unlogged',
  /** Nothing explains it: the dump may be false. */
  'unknown',
] as const;
type OmissionReason = (typeof OMISSION_REASONS)[number];

export interface Omission extends RelationName {
  reason: OmissionReason;
}

/** A relation that has rows, as the catalog of the server describes it. */
export interface StoredRelation extends RelationName {
  oid: number;
  kind: 'table' | 'materialized-view' | 'foreign-table';
  unlogged: boolean;
  populated: boolean;
  /** `member`: left to the extension; `configuration`: dumped all; `configuration-in-part`: dumped by a condition. */
  extension: 'none' | 'member' | 'configuration' | 'configuration-in-part';
}

export interface OmissionOptions {
  exclusions?: Exclusions;
  /** Whether pg_dump ran with --no-unlogged-table-data. */
  withoutUnlogged?: boolean;
  /** What stood in the catalog before the dump began: what was made since then cannot be in it, and is no omission. */
  before?: readonly StoredRelation[];
}

/** Every relation with rows that is not the system's, in the order of the names. Parents of partitions have none. */
export async function listStoredRelations(client: Queryable): Promise<StoredRelation[]> {
  const { rows } = await client.query<StoredRelation & { relkind: string }>(
    `select c.oid::bigint::float8 as oid, n.nspname as schema, c.relname as name, c.relkind,
            c.relpersistence = 'u' as unlogged, c.relispopulated as populated,
            case when not ${EXTENSION_MEMBER} then 'none'
                 when e.condition is null then 'member' when e.condition = '' then 'configuration' else 'configuration-in-part' end as extension
       from pg_catalog.pg_class c
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       left join lateral (select x.extcondition[i.at] as condition from pg_catalog.pg_extension x
                           cross join lateral generate_subscripts(x.extconfig, 1) as i(at) where x.extconfig[i.at] = c.oid limit 1) e on true
      where c.relkind in ('r', 'm', 'f') and c.relpersistence <> 't' and not ${SYSTEM_SCHEMA}
      order by n.nspname collate "C", c.relname collate "C"`,
  );
  const kinds = { r: 'table', m: 'materialized-view', f: 'foreign-table' } as const;
  return rows.map(({ relkind, ...row }) => ({ ...row, kind: kinds[relkind as keyof typeof kinds] }));
}

/** What a dump left out of `relations`, each with the reason. `dumped` are the tables whose rows are in the archive. */
export function omissionsOf(
  relations: readonly StoredRelation[],
  dumped: readonly RelationName[],
  options: OmissionOptions = {},
): Omission[] {
  const inArchive = new Set(dumped.map(relationKey));
  const excluded = exclusionTest(options.exclusions);
  const before = options.before === undefined ? undefined : new Set(options.before.map(({ oid }) => oid));
  return relations.flatMap((relation) => {
    const { schema, name } = relation;
    const isIn = inArchive.has(relationKey(relation));
    if (isIn && relation.extension !== 'configuration-in-part') return [];
    if (isIn) return [{ schema, name, reason: 'extension-configuration-in-part' as const }];
    if (before !== undefined && !before.has(relation.oid)) return [];
    return [{ schema, name, reason: reasonFor(relation, excluded(relation), options.withoutUnlogged ?? false) }];
  });
}

function reasonFor(relation: StoredRelation, excluded: boolean, withoutUnlogged: boolean): OmissionReason {
  if (excluded) return 'excluded';
  if (relation.extension === 'member') return 'extension-member';
  if (relation.kind === 'foreign-table') return 'foreign-table';
  if (relation.kind === 'materialized-view')
    return relation.populated ? 'materialized-view-is-refreshed' : 'unpopulated-materialized-view';
  if (relation.unlogged && withoutUnlogged) return 'unlogged';
  return 'unknown';
}

/** Asks the server what there is and says what of it the dump left out. */
export async function findOmissions(
  client: Queryable,
  dumped: readonly RelationName[],
  options: OmissionOptions = {},
): Promise<Omission[]> {
  return omissionsOf(await listStoredRelations(client), dumped, options);
}
