import { EngineError } from '../errors.js';
import { MANIFEST_NAME, SIGNATURE_NAME, type BackupIds } from '../store/layout.js';
import { isSegment } from '../store/object-key.js';
import {
  BACKUP_TYPES,
  COMPONENTS,
  MANIFEST_FORMAT_VERSION,
  SOURCE_KINDS,
  type NamedValue,
  type Manifest,
  type ManifestArtifact,
  type ManifestSource,
  type ManifestTools,
  type Omission,
  type SealedSection,
} from './manifest.js';
import {
  absentIsNull,
  count,
  list,
  oneOf,
  orNull,
  parseJson,
  record,
  sha256,
  ShapeError,
  text,
  textLike,
  time,
  type Reader,
} from './shape.js';

const id = textLike((value) => isSegment(value) && !value.startsWith('.'), 'an id');
const artifactName = textLike(
  (value) => isSegment(value) && value !== MANIFEST_NAME && value !== SIGNATURE_NAME,
  "an artifact's name",
);
const base64 = textLike((value) => /^[A-Za-z0-9+/]*={0,2}$/.test(value) && value.length % 4 === 0, 'base64');
const namedValue = { name: text(), value: text(100_000) };

const readManifest: Reader<Manifest> = record<Manifest>({
  formatVersion: oneOf([MANIFEST_FORMAT_VERSION]),
  ids: record<BackupIds>({ installation: id, organization: id, source: id, backup: id }),
  type: oneOf(BACKUP_TYPES),
  createdAt: time,
  previousManifestSha256: orNull(sha256),
  source: record<ManifestSource>({
    name: text(),
    kind: oneOf(SOURCE_KINDS),
    database: text(),
    serverVersion: text(),
    encoding: text(),
    collate: text(),
    ctype: text(),
    localeProvider: text(),
    locale: orNull(text()),
    extensions: list(record({ name: text(), version: text(), schema: text() })),
    tablespaces: list(text()),
    databaseSettings: list(record({ role: orNull(text()), ...namedValue })),
  }),
  tools: record<ManifestTools>({ backstay: text(), node: text(), pgDump: orNull(text()) }),
  pinnedSettings: list(record<NamedValue>(namedValue)),
  exclusions: record({ schemas: list(text()), tables: list(text()) }),
  omissions: list(record<Omission>({ schema: text(), name: text(), kind: text(), reason: text() })),
  dump: orNull(record({ startedAt: time, finishedAt: time })),
  components: list(oneOf(COMPONENTS)),
  artifacts: list(
    record<ManifestArtifact>({
      component: oneOf(COMPONENTS),
      name: artifactName,
      storedBytes: count,
      storedSha256: sha256,
      plainBytes: count,
      plainSha256: sha256,
    }),
  ),
  totals: record({ tableCount: count, rowCount: count }),
  largeObjects: record({ count, bytes: count }),
  storage: absentIsNull(record({ buckets: count, objects: count, bytes: count })),
  recipients: list(text()),
  tables: record<SealedSection>({ encryption: oneOf(['age']), compression: oneOf(['zstd']), data: base64 }),
});

/**
 * The bytes of a manifest: JSON for people to read, with fields in one fixed order, so that equal manifests are equal bytes.
 * @throws EngineError MANIFEST_CORRUPT when it is not one that `decodeManifest` would take
 */
export function encodeManifest(manifest: Manifest): Buffer {
  const checked = checkedManifest(manifest);
  return Buffer.from(`${JSON.stringify(checked, null, 2)}\n`);
}

/**
 * Reads a manifest and checks every field. Its signature must have been verified before.
 * @throws EngineError MANIFEST_CORRUPT
 */
export function decodeManifest(bytes: Uint8Array): Manifest {
  return readOrRefuse(() => checkedManifest(parseJson(bytes)));
}

function checkedManifest(value: unknown): Manifest {
  return readOrRefuse(() => {
    const manifest = readManifest(value, '');
    const { artifacts, components } = manifest;
    if (new Set(artifacts.map(({ name }) => name)).size !== artifacts.length)
      throw new ShapeError('two artifacts have the same name');
    if (new Set(components).size !== components.length) throw new ShapeError('a component is named twice');
    for (const { name, component } of artifacts) {
      if (!components.includes(component)) throw new ShapeError(`the component of ${name} is not among the components`);
    }
    return manifest;
  });
}

/** Runs a reader of untrusted JSON and turns what it finds into MANIFEST_CORRUPT. */
export function readOrRefuse<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof ShapeError) throw manifestCorrupt(error.message, error);
    throw error;
  }
}

export function manifestCorrupt(difference: string, cause?: unknown): EngineError {
  return new EngineError(
    'MANIFEST_CORRUPT',
    `The manifest can't be used: ${difference}.`,
    'Use another copy or an older backup; a manifest of a later version needs that version.',
    { cause },
  );
}
