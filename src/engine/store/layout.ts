import { EngineError } from '../errors.js';
import { isKey, isSegment } from './object-key.js';

/** Written last and read back: its presence makes a backup a backup. */
export const MANIFEST_NAME = 'manifest.json';
/** The manifest's signature, written before the manifest. */
export const SIGNATURE_NAME = 'manifest.json.sig';

const ATTEMPT_PREFIX = '.attempt-';

/** The four ids that say where a backup lies. They never change; names live in the manifest. */
export interface BackupIds {
  installation: string;
  organization: string;
  source: string;
  backup: string;
}

/** What a key says about itself. */
export interface ParsedKey extends BackupIds {
  /** The attempt that wrote the object, or null when it was committed. */
  attempt: string | null;
  name: string;
}

/** `<installation>/<organization>/<source>/<backup>`, without a slash at the end. @throws EngineError STORE_FAILED */
export function backupPrefix({ installation, organization, source, backup }: BackupIds): string {
  return joined(installation, organization, source, backup);
}

/** The ids that a backup's folder is named by. @throws EngineError STORE_FAILED when it is none */
export function idsOfPrefix(prefix: string): BackupIds {
  const parsed = parseKey(`${prefix}/${MANIFEST_NAME}`);
  if (parsed === null || parsed.attempt !== null) throw refused(prefix);
  const { installation, organization, source, backup } = parsed;
  return { installation, organization, source, backup };
}

/** Where an installation's own settings are saved. @throws EngineError STORE_FAILED */
export function catalogPrefix(installation: string): string {
  return joined(installation, 'catalog');
}

/** The folder of one source, where all its backups lie. @throws EngineError STORE_FAILED */
export function sourcePrefix({ installation, organization, source }: Omit<BackupIds, 'backup'>): string {
  return joined(installation, organization, source);
}

/** The folder of one organization. @throws EngineError STORE_FAILED */
export function organizationPrefix({ installation, organization }: Pick<BackupIds, 'installation' | 'organization'>): string {
  return joined(installation, organization);
}

/** Where one attempt at a backup writes, until the one who holds the run renames its objects into place. */
export function attemptPrefix(ids: BackupIds, attempt: string): string {
  if (!isSegment(attempt)) throw refused(attempt);
  return `${backupPrefix(ids)}/${ATTEMPT_PREFIX}${attempt}`;
}

/** The key of an object in a folder. @throws EngineError STORE_FAILED */
export function objectKey(prefix: string, name: string): string {
  const key = `${prefix}/${name}`;
  if (!isSegment(name) || !isKey(key)) throw refused(name);
  return key;
}

/** Reads a key back into its parts; null for a key that is no object of a backup. */
export function parseKey(key: string): ParsedKey | null {
  if (!isKey(key)) return null;
  const [installation, organization, source, backup, ...rest] = key.split('/');
  if (!installation || !organization || !source || !backup) return null;
  if ([installation, organization, source, backup].some((id) => id.startsWith('.'))) return null;
  const name = rest.at(-1);
  if (name === undefined || rest.length > 2) return null;
  const folder = rest.length === 2 ? rest[0]! : null;
  if (folder === null) return { installation, organization, source, backup, attempt: null, name };
  if (!folder.startsWith(ATTEMPT_PREFIX) || folder === ATTEMPT_PREFIX) return null;
  return { installation, organization, source, backup, attempt: folder.slice(ATTEMPT_PREFIX.length), name };
}

function joined(...ids: string[]): string {
  // An id that starts with a dot could be taken for an attempt's folder or a canary.
  for (const id of ids) if (!isSegment(id) || id.startsWith('.')) throw refused(id);
  return ids.join('/');
}

function refused(part: string): EngineError {
  return new EngineError(
    'STORE_FAILED',
    `${JSON.stringify(String(part).slice(0, 120))} can't be a part of an object's key.`,
    'Ids and names are letters, digits, dots, hyphens and underscores, and ids do not start with a dot.',
  );
}
