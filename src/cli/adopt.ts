import { createHash } from 'node:crypto';
import { mkdir, readlink, stat, symlink } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { NestFactory } from '@nestjs/core';
import { AppModule } from '../app.module.js';
import type { Identity } from '../auth/identity.js';
import { ALL_PERMISSIONS } from '../auth/permissions.js';
import { Catalog } from '../catalog/catalog.js';
import { loadSettings, type Settings } from '../config/settings.js';
import { DEFAULT_DESTINATION } from '../destinations/destination.js';
import { DestinationsService } from '../destinations/destinations.service.js';
import { openDataDir } from '../installation/data-dir.js';
import { openInstallation } from '../installation/installation.js';
import { openSecretBox, openServerKeys } from '../keys/server-keys.js';
import type { AdoptionDto } from '../recovery/adopt.dto.js';
import { AdoptionService } from '../recovery/adoption.js';
import { counted, type Outcome, type Surroundings } from './commands.js';
import type { Options } from './options.js';
import { UsageError } from './exit-codes.js';
import { readKeyFiles, s3Of } from './place.js';

/** Takes backups into the catalog that the environment names (DATA_DIR or DATABASE_URL), as the instance's owner. */
export async function adopt(options: Options, { env }: Surroundings): Promise<Outcome> {
  // Nothing runs meanwhile, and a server that is to start afterwards makes its own owner's key.
  const settings: Settings = { ...loadSettings(env), role: 'api', logLevel: 'silent', catalogBackups: false };
  await openDataDir(settings.dataDir);
  const catalog = await Catalog.open(settings);
  try {
    const secrets = await openSecretBox(settings);
    const keys = await openServerKeys(catalog, settings, secrets);
    const installation = await openInstallation(catalog, settings);
    if (installation.newOwnerKey !== undefined)
      await catalog.db.deleteFrom('api_keys').where('is_bootstrap', '=', true).execute();
    const app = await NestFactory.createApplicationContext(AppModule.with({ settings, catalog, installation, keys, secrets }), {
      logger: false,
      abortOnError: false,
    });
    try {
      const caller = operator(installation.defaultOrganizationId);
      const destination = await destinationOf(app.get(DestinationsService), caller, options.location, settings, env);
      const kit = await readKeyFiles(options, env);
      const answer = await app.get(AdoptionService).adopt(caller, destination, {
        settings: options.settings,
        ...(kit === '' ? {} : { kit }),
        ...(options.from === undefined ? {} : { from: options.from }),
        ...(options.trustUnsigned ? { lostSigningKey: 'told so on the command line (--trust-unsigned)' } : {}),
      });
      return { lines: linesOf(answer), data: answer, failure: null };
    } finally {
      await app.close();
    }
  } finally {
    await catalog.close();
  }
}

/** Whoever can run this on the server's folder is its owner. */
function operator(organizationId: string): Identity {
  return {
    kind: 'api-key',
    id: 'command-line',
    name: 'command line',
    organizationId,
    permissions: new Set(ALL_PERMISSIONS),
    instanceOwner: true,
  };
}

/** A destination's name as it is; a bucket or folder becomes a destination, once. */
async function destinationOf(
  destinations: DestinationsService,
  caller: Identity,
  location: string,
  settings: Settings,
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const rows = await destinations.list(caller.organizationId);
  if (location === DEFAULT_DESTINATION || rows.some(({ id, name }) => id === location || name === location)) return location;
  if (location.startsWith('s3://')) {
    const { bucket, endpoint, prefix, region, forcePathStyle, accessKeyId = '', secretAccessKey = '' } = s3Of(location, env);
    const same = rows.find(
      ({ kind, config }) =>
        kind === 's3' &&
        config['bucket'] === bucket &&
        config['endpoint'] === endpoint &&
        (config['prefix'] ?? undefined) === prefix,
    );
    if (same) return same.id;
    const fields = { bucket, endpoint, prefix, region, forcePathStyle };
    const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
    return (await destinations.create(caller, { name: slugOf(bucket), kind: 's3', ...given, accessKeyId, secretAccessKey })).id;
  }
  const folder = resolve(location);
  if (folder === resolve(settings.dataDir, 'backups')) return DEFAULT_DESTINATION;
  await stat(folder);
  // Local destinations lie below DATA_DIR; this one is linked there.
  const home = join(settings.dataDir, 'destinations', caller.organizationId);
  await mkdir(home, { recursive: true, mode: 0o700 });
  const slug = slugOf(basename(folder));
  // Another folder may have that name already.
  for (const free of [slug, `${slug.slice(0, 55)}-${createHash('sha256').update(folder).digest('hex').slice(0, 6)}`]) {
    const row = rows.find(({ kind, config }) => kind === 'local' && config['folder'] === free);
    const leadsTo = await readlink(join(home, free)).catch(() => undefined);
    if (leadsTo !== folder && (row !== undefined || leadsTo !== undefined)) continue;
    if (leadsTo === undefined) await symlink(folder, join(home, free));
    return row?.id ?? (await destinations.create(caller, { name: free, kind: 'local', folder: free })).id;
  }
  throw new UsageError(`${folder} can't be linked below ${home}: its names there are taken.`);
}

/** A name of a place as a destination and its folder can have it. */
function slugOf(name: string): string {
  const plain = name
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 63);
  return plain === '' || plain === DEFAULT_DESTINATION ? 'adopted' : plain;
}

function linesOf({ found, adopted, known, unread, sources, settings, notes }: AdoptionDto): string[] {
  return [
    `${counted(found)} found, ${adopted} taken in, ${known} known already`,
    ...sources.map(({ id, name, hasCredentials }) => `source ${name} (${id})${hasCredentials ? '' : ', without credentials'}`),
    ...(settings ? [`settings of ${settings.madeAt}: ${JSON.stringify(settings.created)}`] : []),
    ...unread.map(({ prefix, reason }) => `NOT READ ${prefix}: ${reason}`),
    ...notes,
  ];
}
