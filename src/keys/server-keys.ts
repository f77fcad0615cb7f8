import { randomBytes } from 'node:crypto';
import { chmod, mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { sql } from 'kysely';
import type { Catalog } from '../catalog/catalog.js';
import type { Settings } from '../config/settings.js';
import { generateAgeKeyPair, generateSigningKeyPair, publicKeyOf, recipientOf } from '../engine/artifact/keys.js';
import { SecretBox } from './secret-box.js';

const FOUNDING_LOCK = 7_239_410_120;

/** The server's own keys, opened at start. Also Nest's token. */
export class ServerKeys {
  constructor(
    /** Secret: decrypts what was encrypted to `recipient`. */
    readonly ageIdentity: string,
    readonly recipient: string,
    /** Secret: signs manifests. */
    readonly signingKeyPem: string,
    readonly verifyingKeyPem: string,
    /** Who artifacts are encrypted to: BACKUP_RECIPIENTS, or the server's own. */
    readonly recipients: readonly string[],
    /** Where the secret keys lie, for the advice to save them. */
    readonly keptIn: string,
  ) {}

  /** Whether the server can decrypt what it encrypts now. */
  get holdsIdentity(): boolean {
    return this.recipients.includes(this.recipient);
  }
}

interface KeyPairs {
  age: string;
  signing: string;
}

/** Opens the key that seals stored credentials: SECRET_KEY, or in the embedded profile a file of our own. */
export async function openSecretBox(settings: Pick<Settings, 'secretKey' | 'dataDir'>): Promise<SecretBox> {
  if (settings.secretKey) return new SecretBox(settings.secretKey);
  const text = await readOrMake(join(settings.dataDir, 'keys', 'secret.key'), async () => randomBytes(32).toString('base64'));
  return new SecretBox(Buffer.from(text, 'base64'));
}

/** Opens the server's key pairs, and makes them at the first start: in files when embedded, else in the catalog, sealed by SECRET_KEY. */
export async function openServerKeys(catalog: Catalog, settings: Settings, secrets: SecretBox): Promise<ServerKeys> {
  const folder = join(settings.dataDir, 'keys');
  const pairs = catalog.embedded ? await keysInFiles(folder) : await keysInCatalog(catalog, secrets);
  const recipient = await recipientOf(pairs.age);
  const recipients = settings.backupRecipients.length > 0 ? settings.backupRecipients : [recipient];
  return new ServerKeys(
    pairs.age,
    recipient,
    pairs.signing,
    publicKeyOf(pairs.signing),
    recipients,
    catalog.embedded ? folder : 'the catalog, sealed by SECRET_KEY',
  );
}

async function keysInFiles(folder: string): Promise<KeyPairs> {
  return {
    age: identityLine(await readOrMake(join(folder, 'age-identity.txt'), newIdentityFile)),
    signing: await readOrMake(join(folder, 'signing-key.pem'), async () => generateSigningKeyPair().privateKeyPem),
  };
}

/** In the form of age-keygen, so that `age -d -i age-identity.txt` takes it. */
async function newIdentityFile(): Promise<string> {
  const pair = await generateAgeKeyPair();
  return `# created: ${new Date().toISOString()}\n# public key: ${pair.recipient}\n${pair.identity}\n`;
}

function identityLine(text: string): string {
  return (
    text
      .split('\n')
      .find((line) => line.startsWith('AGE-SECRET-KEY-'))
      ?.trim() ?? ''
  );
}

async function keysInCatalog(catalog: Catalog, secrets: SecretBox): Promise<KeyPairs> {
  return catalog.transaction(async (trx) => {
    await sql`SELECT pg_advisory_xact_lock(${sql.lit(FOUNDING_LOCK)})`.execute(trx);
    const take = async (kind: 'age' | 'signing', make: () => Promise<{ secret: string; public: string }>) => {
      const row = await trx.selectFrom('server_keys').select('sealed_private_key').where('kind', '=', kind).executeTakeFirst();
      if (row) return secrets.open(row.sealed_private_key, `server-key:${kind}`);
      const made = await make();
      await trx
        .insertInto('server_keys')
        .values({ kind, public_key: made.public, sealed_private_key: secrets.seal(made.secret, `server-key:${kind}`) })
        .execute();
      return made.secret;
    };
    return {
      age: await take('age', async () => {
        const pair = await generateAgeKeyPair();
        return { secret: pair.identity, public: pair.recipient };
      }),
      signing: await take('signing', async () => {
        const pair = generateSigningKeyPair();
        return { secret: pair.privateKeyPem, public: pair.publicKeyPem };
      }),
    };
  });
}

/** A key file, durable before it is used: what is encrypted to a key that a power loss takes away is lost. */
async function readOrMake(file: string, make: () => Promise<string>): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const folder = join(file, '..');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  const text = await make();
  // Renamed into place when it is whole: a crash leaves no key or all of it.
  const draft = `${file}.new`;
  const handle = await open(draft, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(draft, file);
  const parent = await open(folder, 'r');
  await parent.sync().finally(() => parent.close());
  return text;
}
