import { readToc } from './archive/header-only.js';
import { roleStatementWithoutPassword } from './archive/schema-secrets.js';
import { type SchemaChange, schemaDifference } from './archive/schema-difference.js';
import { readArtifactPlain } from './artifact/artifact-reader.js';
import { loadManifest, type ManifestTrust } from './artifact/load-manifest.js';
import type { Manifest } from './artifact/manifest.js';
import type { ArchiveToc } from './archive/toc.js';
import { readGlobals } from './read-globals.js';
import type { ArtifactStore } from './store/artifact-store.js';
import { backupPrefix, type BackupIds, objectKey } from './store/layout.js';

/** One of the two backups, and what it is opened with. */
export interface ComparedBackup extends ManifestTrust {
  ids: BackupIds;
  store: ArtifactStore;
  /** age secrets. */
  identities: readonly string[];
  signal: AbortSignal;
}

/** A setting, an extension or a property of the database that is not the same in both; null where there is none. */
interface SettingChange {
  /** `database` (ALTER DATABASE SET), `role` (ALTER ROLE IN DATABASE SET), `extension`, or `property` (server version, encoding, locale …). */
  scope: 'database' | 'role' | 'extension' | 'property';
  name: string;
  /** The role that a setting of scope `role` is for. */
  role: string | null;
  base: string | null;
  head: string | null;
}

/** A statement about roles, as pg_dumpall writes it, that only one of the two has. */
interface RoleChange {
  change: 'added' | 'removed';
  statement: string;
}

export interface ContentDifference {
  /** Null when one of the two holds no database. */
  schema: { changes: SchemaChange[]; unchanged: number } | null;
  settings: SettingChange[];
  /** Null when one of the two holds no roles. */
  roles: RoleChange[] | null;
}

/**
 * What differs between two backups besides their tables' rows. Of the archives only the headers are read; what they say is
 * believed as far as age authenticates it, since hashing a whole archive is what verification is for.
 * @throws EngineError SIGNATURE_INVALID, MANIFEST_CORRUPT, ARTIFACT_CORRUPT, ARCHIVE_CORRUPT, KEY_UNAVAILABLE, OBJECT_MISSING, STORE_FAILED
 */
export async function compareBackups(base: ComparedBackup, head: ComparedBackup): Promise<ContentDifference> {
  const [before, after] = await Promise.all([open(base), open(head)]);
  return {
    schema: before.toc && after.toc ? schemaDifference(before.toc, after.toc) : null,
    settings: settingChanges(before.manifest, after.manifest),
    roles: before.roles && after.roles ? roleChanges(before.roles, after.roles) : null,
  };
}

interface Opened {
  manifest: Manifest;
  toc: ArchiveToc | null;
  /** The statements of the globals; null when the backup has none. */
  roles: string[] | null;
}

async function open(backup: ComparedBackup): Promise<Opened> {
  const { store, ids, identities, signal } = backup;
  const prefix = backupPrefix(ids);
  const { manifest } = await loadManifest(store, prefix, backup, ids, signal);
  const archive = manifest.artifacts.find(({ component }) => component === 'database');
  const toc = archive
    ? (
        await readToc(
          await readArtifactPlain({ store, key: objectKey(prefix, archive.name), name: archive.name, identities, signal }),
        )
      ).toc
    : null;
  const globals = await readGlobals(backup, manifest);
  return { manifest, toc, roles: globals && globals.map(({ text }) => roleStatementWithoutPassword(text.trim())) };
}

function settingChanges(base: Manifest, head: Manifest): SettingChange[] {
  const [before, after] = [settingsOf(base), settingsOf(head)];
  const keys = [...new Set([...before.keys(), ...after.keys()])].sort();
  return keys.flatMap((key) => {
    const [old, now] = [before.get(key), after.get(key)];
    const any = now ?? old;
    if (!any || old?.value === now?.value) return [];
    return { scope: any.scope, name: any.name, role: any.role, base: old?.value ?? null, head: now?.value ?? null };
  });
}

interface Setting extends Pick<SettingChange, 'scope' | 'name' | 'role'> {
  value: string | null;
}

function settingsOf({ source }: Manifest): Map<string, Setting> {
  const properties = ['database', 'serverVersion', 'encoding', 'collate', 'ctype', 'localeProvider', 'locale'] as const;
  const settings: Setting[] = [
    ...properties.map((name) => ({ scope: 'property' as const, name, role: null, value: source[name] })),
    ...source.extensions.map(({ name, version, schema }) => ({
      scope: 'extension' as const,
      name,
      role: null,
      value: `${version} in ${schema}`,
    })),
    ...source.databaseSettings.map(({ name, value, role }) => ({
      scope: role === null ? ('database' as const) : ('role' as const),
      name,
      role,
      value,
    })),
  ];
  return new Map(settings.map((setting) => [`${setting.scope}\0${setting.role ?? ''}\0${setting.name}`, setting]));
}

function roleChanges(base: readonly string[], head: readonly string[]): RoleChange[] {
  const [before, after] = [new Set(base), new Set(head)];
  return [
    ...[...before].filter((statement) => !after.has(statement)).map((statement) => ({ change: 'removed' as const, statement })),
    ...[...after].filter((statement) => !before.has(statement)).map((statement) => ({ change: 'added' as const, statement })),
  ];
}
