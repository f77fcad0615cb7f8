import { access, readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { loadManifest, readManifestHash } from '../engine/artifact/load-manifest.js';
import type { Manifest } from '../engine/artifact/manifest.js';
import { isArmored, unwrapIdentity } from '../engine/artifact/passphrase.js';
import { EngineError } from '../engine/errors.js';
import { type FoundBackup, findBackups } from '../engine/find-backups.js';
import { type KeysInText, keysInText } from '../engine/recovery-kit.js';
import type { ArtifactStore } from '../engine/store/artifact-store.js';
import { MANIFEST_NAME } from '../engine/store/layout.js';
import { LocalStore } from '../engine/store/local-store.js';
import type { S3Config } from '../engine/store/s3-config.js';
import { S3Store } from '../engine/store/s3-store.js';
import { NotFoundError, UsageError } from './exit-codes.js';
import type { Options } from './options.js';

/** Where backups lie, and which of them was pointed at by its own folder. */
export interface Place {
  store: ArtifactStore;
  backup: string | undefined;
}

/** One backup, as far as it could be read. */
export interface SeenBackup extends FoundBackup {
  manifest: Manifest | null;
  manifestSha256: string | null;
  signedBy: string | null;
  /** Why it is not to be trusted. */
  problem: { code: string; message: string } | null;
}

/** @throws UsageError when there is no such folder */
export async function openPlace(location: string, env: NodeJS.ProcessEnv): Promise<Place> {
  if (location.startsWith('s3://')) return { store: new S3Store(s3Of(location, env)), backup: undefined };
  const folder = resolve(location);
  if (!(await exists(folder))) throw new UsageError(`There is no folder ${folder}.`);
  // A backup's own folder: four ids below the root.
  if (await exists(join(folder, MANIFEST_NAME)))
    return { store: new LocalStore(resolve(folder, '../../../..')), backup: basename(folder) };
  return { store: new LocalStore(folder), backup: undefined };
}

/** `s3://bucket/prefix?endpoint=…&region=…&forcePathStyle=true`, with credentials by environment. @throws UsageError */
export function s3Of(location: string, env: NodeJS.ProcessEnv): S3Config {
  if (!URL.canParse(location)) throw new UsageError(`${location} is no location; write s3://bucket/prefix.`);
  const url = new URL(location);
  const [accessKeyId, secretAccessKey] = [env['AWS_ACCESS_KEY_ID'], env['AWS_SECRET_ACCESS_KEY']];
  if (!accessKeyId || !secretAccessKey)
    throw new UsageError(
      'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the bucket; the recovery kit with ?secrets=true has them.',
    );
  const text = (name: string) => url.searchParams.get(name) ?? undefined;
  const [endpoint, region, style] = [
    text('endpoint') ?? env['AWS_ENDPOINT_URL'],
    text('region') ?? env['AWS_REGION'],
    text('forcePathStyle'),
  ];
  const prefix = decodeURIComponent(url.pathname).replace(/^\/|\/$/g, '');
  return {
    bucket: url.hostname,
    accessKeyId,
    secretAccessKey,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...(prefix === '' ? {} : { prefix }),
    ...(style === undefined ? {} : { forcePathStyle: style === 'true' }),
  };
}

/** Every key of the files that were named. @throws UsageError for one that can't be read, EngineError KEY_INVALID */
export async function readKeys(options: Options, env: NodeJS.ProcessEnv): Promise<KeysInText> {
  return keysInText(await readKeyFiles(options, env));
}

/** The text of those files, with what a passphrase protects opened. @throws as `readKeys` */
export async function readKeyFiles({ kit, identity, signingKey }: Options, env: NodeJS.ProcessEnv): Promise<string> {
  const texts: string[] = [];
  for (const file of [...kit, ...identity, ...signingKey]) {
    const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      throw new UsageError(`${file} can't be read: ${error.code ?? error.message}.`);
    });
    texts.push(isArmored(text) ? await unwrapIdentity(text, env['BACKSTAY_PASSPHRASE'] ?? '') : text);
  }
  return texts.join('\n');
}

/** Every backup there, the newest last, with what its manifest says when it is to be trusted. */
export async function look(
  { store, backup }: Place,
  keys: KeysInText,
  trustUnsigned: boolean,
  signal: AbortSignal,
): Promise<SeenBackup[]> {
  const seen: SeenBackup[] = [];
  for (const found of await findBackups(store, signal)) {
    if (backup !== undefined && found.ids.backup !== backup) continue;
    seen.push(await see(store, found, keys, trustUnsigned, signal));
  }
  return seen.sort((a, b) => (a.ids.backup < b.ids.backup ? -1 : 1));
}

async function see(
  store: ArtifactStore,
  found: FoundBackup,
  keys: KeysInText,
  trustUnsigned: boolean,
  signal: AbortSignal,
): Promise<SeenBackup> {
  try {
    const trustedManifestSha256 = trustUnsigned ? await readManifestHash(store, found.prefix, signal) : undefined;
    const { manifest, sha256, signedBy } = await loadManifest(
      store,
      found.prefix,
      { verifyingKeys: keys.verifyingKeys, trustedManifestSha256 },
      found.ids,
      signal,
    );
    return { ...found, manifest, manifestSha256: sha256, signedBy, problem: null };
  } catch (error) {
    if (!(error instanceof EngineError) || error.code === 'STORE_FAILED') throw error;
    return {
      ...found,
      manifest: null,
      manifestSha256: null,
      signedBy: null,
      problem: { code: error.code, message: `${error.message} ${error.hint}` },
    };
  }
}

/** The backup that is meant. @throws NotFoundError, or the reason why the one that is meant is not trusted */
export function chosen(
  seen: readonly SeenBackup[],
  { backup, source }: Pick<Options, 'backup' | 'source'>,
): SeenBackup & { manifest: Manifest } {
  const ofSource = seen.filter(
    ({ ids, manifest }) => source === undefined || ids.source === source || manifest?.source.name === source,
  );
  const candidates = backup === 'newest' ? ofSource : ofSource.filter(({ ids }) => ids.backup === backup);
  if (candidates.length === 0)
    throw new NotFoundError(
      seen.length === 0
        ? 'There is no backup there.'
        : `There is no such backup there; there are ${seen.map(({ ids }) => ids.backup).join(', ')}.`,
    );
  const sources = [...new Set(candidates.map(({ ids }) => `${ids.installation}/${ids.organization}/${ids.source}`))];
  if (sources.length > 1)
    throw new UsageError(
      `Several sources have backups there; name one by --source: ${[...new Set(candidates.map(({ ids, manifest }) => `${ids.source}${manifest ? ` (${manifest.source.name})` : ''}`))].join(', ')}.`,
    );
  const newest = candidates.at(-1)!;
  if (newest.manifest) return { ...newest, manifest: newest.manifest };
  throw new EngineError(
    newest.problem?.code === 'MANIFEST_CORRUPT' ? 'MANIFEST_CORRUPT' : 'SIGNATURE_INVALID',
    `${newest.ids.backup}: ${newest.problem?.message ?? ''}`,
    'Give the kit, or the signing key, or name another backup by --backup.',
  );
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
