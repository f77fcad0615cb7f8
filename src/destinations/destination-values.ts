import { Errors } from '../common/errors.js';
import type { DestinationKind } from './destination.js';
import type { CreateDestinationDto } from './destination.dto.js';

export type DestinationConfig = Record<string, string | number | boolean | null>;
export interface DestinationSecrets {
  secretAccessKey?: string;
  serviceRoleKey?: string;
  rcloneConfig?: string;
}

/** Fields that each kind takes, besides name, kind and isDefault. */
const FIELDS: Readonly<Record<DestinationKind, readonly string[]>> = {
  local: ['folder'],
  s3: [
    'bucket',
    'region',
    'endpoint',
    'prefix',
    'forcePathStyle',
    'accessKeyId',
    'secretAccessKey',
    'serverSideEncryption',
    'kmsKeyId',
    'storageClass',
    'partMiB',
    'objectLock',
    'objectLockDays',
    'segmentMiB',
  ],
  supabase: ['url', 'serviceRoleKey', 'bucket', 'prefix', 'segmentMiB'],
  rclone: ['remote', 'rcloneConfig'],
};
const NEEDED: Readonly<Record<DestinationKind, readonly string[]>> = {
  local: ['folder'],
  s3: ['bucket', 'accessKeyId', 'secretAccessKey'],
  supabase: ['url', 'serviceRoleKey'],
  rclone: ['remote', 'rcloneConfig'],
};
const SECRETS = ['secretAccessKey', 'serviceRoleKey', 'rcloneConfig'];
/** Where a destination is, and the secret that is sent there. */
export const ADDRESSES = [
  ['endpoint', 'secretAccessKey'],
  ['url', 'serviceRoleKey'],
] as const;
const OF_ALL = ['name', 'kind', 'isDefault'];

/** What the secrets of a destination are bound to. */
export function secretsOwner(id: string): string {
  return `destination:${id}:secrets`;
}

/**
 * A destination's fields, apart into what is shown and what is sealed; those that are left out stay as they were.
 * @throws VALIDATION_ERROR for fields of another kind, and for what is missing
 */
export function valuesOf(
  kind: DestinationKind,
  dto: Partial<CreateDestinationDto>,
  old: { config: DestinationConfig; secrets: DestinationSecrets },
): { config: DestinationConfig; secrets: DestinationSecrets } {
  const given = Object.entries(dto).filter(([name, value]) => value !== undefined && !OF_ALL.includes(name));
  const foreign = given.filter(([name]) => !FIELDS[kind].includes(name));
  if (foreign.length > 0)
    throw Errors.validation(Object.fromEntries(foreign.map(([name]) => [name, `does not belong to kind ${kind}`])));
  const config = { ...old.config };
  const secrets: Record<string, string> = { ...old.secrets };
  for (const [name, value] of given) {
    if (SECRETS.includes(name)) secrets[name] = value as string;
    else config[name] = value as string;
  }
  const missing = NEEDED[kind].filter((name) => config[name] === undefined && secrets[name] === undefined);
  if (missing.length > 0)
    throw Errors.validation(Object.fromEntries(missing.map((name) => [name, `is needed for kind ${kind}`])));
  if (kind === 's3') checkLock(config);
  if (kind === 'rclone') checkRemote(String(config['remote']), secrets['rcloneConfig'] ?? '');
  return { config, secrets };
}

/** How and for how long belong together; null takes both away. @throws VALIDATION_ERROR */
function checkLock(config: DestinationConfig): void {
  if (config['objectLock'] === null) {
    delete config['objectLock'];
    delete config['objectLockDays'];
  }
  if (config['objectLock'] !== undefined && config['objectLockDays'] === undefined)
    throw Errors.validation({ objectLockDays: 'is needed with objectLock: for how many days each backup is locked' });
  if (config['objectLockDays'] !== undefined && config['objectLock'] === undefined)
    throw Errors.validation({ objectLock: 'is needed with objectLockDays: governance or compliance' });
}

/** The remote must be one that the configuration describes, and not describe another one itself. @throws VALIDATION_ERROR */
function checkRemote(remote: string, rcloneConfig: string): void {
  const name = remote.slice(0, remote.indexOf(':'));
  const sections = [...rcloneConfig.matchAll(/^\[(.+)\]\s*$/gm)].map(([, section]) => section);
  if (!sections.includes(name)) throw Errors.validation({ remote: `names "${name}", and rcloneConfig has no section [${name}]` });
}
