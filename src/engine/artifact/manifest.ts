import type { BackupIds } from '../store/layout.js';
import type { ArtifactDigest } from './artifact-writer.js';

export const MANIFEST_FORMAT_VERSION = 1;
export const BACKUP_TYPES = ['full', 'database', 'config'] as const;
type BackupType = (typeof BACKUP_TYPES)[number];
export const COMPONENTS = ['database', 'storage', 'config'] as const;
type Component = (typeof COMPONENTS)[number];
export const SOURCE_KINDS = ['postgres', 'supabase'] as const;
type SourceKind = (typeof SOURCE_KINDS)[number];

/**
 * The signed list of what a backup holds: everything that a restore needs without the catalog. It lies in the clear beside the
 * artifacts, so nothing in it is secret; the tables' hashes, from which small contents could be guessed, are sealed.
 */
export interface Manifest {
  formatVersion: typeof MANIFEST_FORMAT_VERSION;
  ids: BackupIds;
  type: BackupType;
  createdAt: string;
  /** SHA-256 of the exact bytes of the source's manifest before this one; null for the first. */
  previousManifestSha256: string | null;
  source: ManifestSource;
  tools: ManifestTools;
  /** Value settings that the dump's session was pinned to, and that a comparison must pin again. */
  pinnedSettings: NamedValue[];
  /** Names as SQL writes them: quoted where they have to be, tables with their schema. */
  exclusions: { schemas: string[]; tables: string[] };
  omissions: Omission[];
  /** When the dump began and ended; null for a backup without a database. */
  dump: { startedAt: string; finishedAt: string } | null;
  components: Component[];
  artifacts: ManifestArtifact[];
  totals: { tableCount: number; rowCount: number };
  largeObjects: { count: number; bytes: number };
  /** What the component `storage` holds; null without it, and in manifests of earlier versions. */
  storage: { buckets: number; objects: number; bytes: number } | null;
  /** The age public keys that every artifact and the sealed section are encrypted to. */
  recipients: string[];
  /** JSON of `SealedContent`, for the holders of a key. */
  tables: SealedSection;
}

/** The source as it was: what a new database must be made like. */
export interface ManifestSource {
  name: string;
  kind: SourceKind;
  database: string;
  serverVersion: string;
  encoding: string;
  collate: string;
  ctype: string;
  /** `libc`, `icu` or `builtin`. */
  localeProvider: string;
  /** The locale of the providers `icu` and `builtin`; null with libc. */
  locale: string | null;
  extensions: { name: string; version: string; schema: string }[];
  /** Names of the tablespaces that objects of the database lie in, besides the default one. */
  tablespaces: string[];
  /** ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET; `role` is null for the former. */
  databaseSettings: (NamedValue & { role: string | null })[];
}

export interface ManifestTools {
  backstay: string;
  node: string;
  /** null for a backup without a database. */
  pgDump: string | null;
}

export interface NamedValue {
  name: string;
  value: string;
}

/** A relation with storage whose rows the dump left out. */
export interface Omission {
  schema: string;
  name: string;
  kind: string;
  reason: string;
}

export interface ManifestArtifact extends ArtifactDigest {
  component: Component;
  name: string;
}

/** A part of the manifest that only the holders of a key can read: JSON, in zstd, in age, in base64. */
export interface SealedSection {
  encryption: 'age';
  compression: 'zstd';
  data: string;
}

/** What the dump held of one table: rows, bytes and SHA-256 (hex) of its data as COPY text. */
export interface TableDigest {
  schema: string;
  name: string;
  rows: number;
  bytes: number;
  sha256: string;
}

/** The content of the sealed section. */
export interface SealedContent {
  tables: TableDigest[];
  /** One hash over all large objects of the dump; null when it has none. */
  largeObjectsSha256: string | null;
  /** One hash over all buckets and objects; null without the component `storage`. */
  storageSha256: string | null;
}
