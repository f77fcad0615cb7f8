import { randomBytes } from 'node:crypto';
import { chmod, mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { sql } from 'kysely';
import type { Catalog, Db, Trx } from '../catalog/catalog.js';
import type { Settings } from '../config/settings.js';
import { generateAgeKeyPair, generateSigningKeyPair, publicKeyOf, recipientOf } from '../engine/artifact/keys.js';
import { identitiesIn, signingKeysIn } from '../engine/recovery-kit.js';
import { SecretBox } from './secret-box.js';

/** Of its own: whoever reads keys must not wait for others' work. */
const KEYS_LOCK = 7_239_410_125;

/** Which of the two pairs. */
export type KeyKind = 'age' | 'signing';

/** Secret keys as they are kept: the current one first, older ones after it. */
interface KeyPairs {
  age: string[];
  signing: string[];
}

/** Where the secret keys lie. */
interface KeyHome {
  keptIn: string;
  read(): Promise<KeyPairs>;
  /** Puts a key before the others. Two at the same time are both kept. */
  add(kind: KeyKind, key: string): Promise<void>;
}

/** The server's own keys, opened at start. Also Nest's token. */
export class ServerKeys {
  private constructor(
    private readonly home: KeyHome,
    private readonly setRecipients: readonly string[],
    private pairs: KeyPairs,
    /** The public keys of all identities, the current one first. */
    private publicAgeKeys: readonly string[],
  ) {}

  static async open(home: KeyHome, setRecipients: readonly string[]): Promise<ServerKeys> {
    const pairs = await home.read();
    return new ServerKeys(home, setRecipients, pairs, await Promise.all(pairs.age.map(recipientOf)));
  }

  /** Secret: decrypts what was encrypted to `recipient`. */
  get ageIdentity(): string {
    return this.pairs.age[0] ?? '';
  }

  /** Secret: the current identity, and those before it. */
  get identities(): readonly string[] {
    return this.pairs.age;
  }

  get recipient(): string {
    return this.publicAgeKeys[0] ?? '';
  }

  /** The public keys of all identities that the server holds. */
  get ownRecipients(): readonly string[] {
    return this.publicAgeKeys;
  }

  /** Secret: signs manifests. */
  get signingKeyPem(): string {
    return this.pairs.signing[0] ?? '';
  }

  get verifyingKeyPem(): string {
    return publicKeyOf(this.signingKeyPem);
  }

  /** The public keyring: the current signing key, and those before it. */
  get verifyingKeyPems(): readonly string[] {
    return this.pairs.signing.map(publicKeyOf);
  }

  /** Who artifacts are encrypted to: BACKUP_RECIPIENTS, or the server's own. */
  get recipients(): readonly string[] {
    return this.setRecipients.length > 0 ? this.setRecipients : [this.recipient];
  }

  /** Where the secret keys lie, for the advice to save them. */
  get keptIn(): string {
    return this.home.keptIn;
  }

  /** Whether the server can decrypt what it encrypts now. */
  get holdsIdentity(): boolean {
    return this.recipients.some((recipient) => this.publicAgeKeys.includes(recipient));
  }

  /** Takes up what another process has changed. */
  async refresh(): Promise<void> {
    const pairs = await this.home.read();
    this.publicAgeKeys = await Promise.all(pairs.age.map(recipientOf));
    this.pairs = pairs;
  }

  /** Makes a new key that is used from now on; the old ones are kept, for what was made under them. */
  async rotate(kind: KeyKind): Promise<void> {
    await this.home.add(kind, await MAKE[kind]());
    await this.refresh();
  }
}

/** Opens the key that seals stored credentials: SECRET_KEY, or in the embedded profile a file of our own. */
export async function openSecretBox(settings: Pick<Settings, 'secretKey' | 'dataDir'>): Promise<SecretBox> {
  if (settings.secretKey) return new SecretBox(settings.secretKey);
  const text = await readOrMake(join(settings.dataDir, 'keys', 'secret.key'), async () => randomBytes(32).toString('base64'));
  return new SecretBox(Buffer.from(text, 'base64'));
}

/** Opens the server's key pairs, and makes them at the first start: in files when embedded, else in the catalog, sealed by SECRET_KEY. */
export async function openServerKeys(catalog: Catalog, settings: Settings, secrets: SecretBox): Promise<ServerKeys> {
  const home = catalog.embedded ? keysInFiles(join(settings.dataDir, 'keys')) : keysInCatalog(catalog, secrets);
  return ServerKeys.open(home, settings.backupRecipients);
}

const MAKE = {
  age: async () => (await generateAgeKeyPair()).identity,
  signing: async () => generateSigningKeyPair().privateKeyPem,
} as const;

const FILES = { age: 'age-identity.txt', signing: 'signing-key.pem' } as const;

function keysInFiles(folder: string): KeyHome {
  const read = async (kind: KeyKind) =>
    splitKeys(kind, await readOrMake(join(folder, FILES[kind]), async () => keyFile(kind, [await MAKE[kind]()])));
  let adding = Promise.resolve();
  return {
    keptIn: folder,
    read: async () => ({ age: await read('age'), signing: await read('signing') }),
    // One process has the folder.
    add: (kind, key) => {
      const added = adding.then(async () =>
        writeDurably(join(folder, FILES[kind]), await keyFile(kind, [key, ...(await read(kind))])),
      );
      adding = added.catch(() => undefined);
      return added;
    },
  };
}

/** In the form of age-keygen, so that `age -d -i age-identity.txt` takes it; PEM blocks one after the other for the other kind. */
async function keyFile(kind: KeyKind, keys: readonly string[]): Promise<string> {
  if (kind === 'signing') return keys.map((pem) => `${pem.trim()}\n`).join('');
  const written = `# written: ${new Date().toISOString()}\n`;
  const lines = keys.map(async (identity) => `# public key: ${await recipientOf(identity)}\n${identity}\n`);
  return written + (await Promise.all(lines)).join('');
}

function splitKeys(kind: KeyKind, text: string): string[] {
  const found = kind === 'age' ? identitiesIn(text) : signingKeysIn(text);
  // What is there and can't be read is a fault to be told of, not a reason to make another key.
  return found.length > 0 ? found : [text.trim()];
}

function keysInCatalog(catalog: Catalog, secrets: SecretBox): KeyHome {
  const publicOf = async (kind: KeyKind, secret: string) => (kind === 'age' ? recipientOf(secret) : publicKeyOf(secret));
  const sealed = async (kind: KeyKind, keys: readonly string[]) => ({
    public_key: await publicOf(kind, keys[0] ?? ''),
    sealed_private_key: secrets.seal(keys.join('\n'), `server-key:${kind}`),
  });
  const find = async (db: Db | Trx, kind: KeyKind): Promise<string[] | undefined> => {
    const row = await db.selectFrom('server_keys').select('sealed_private_key').where('kind', '=', kind).executeTakeFirst();
    return row && splitKeys(kind, secrets.open(row.sealed_private_key, `server-key:${kind}`));
  };
  const findOrMake = async (trx: Trx, kind: KeyKind): Promise<string[]> => {
    const found = await find(trx, kind);
    if (found) return found;
    const made = [await MAKE[kind]()];
    await trx
      .insertInto('server_keys')
      .values({ kind, ...(await sealed(kind, made)) })
      .execute();
    return made;
  };
  const alone = <T>(work: (trx: Trx) => Promise<T>) =>
    catalog.transaction(async (trx) => {
      await sql`SELECT pg_advisory_xact_lock(${sql.lit(KEYS_LOCK)})`.execute(trx);
      return work(trx);
    });
  return {
    keptIn: 'the catalog, sealed by SECRET_KEY',
    read: async () => {
      const [age, signing] = [await find(catalog.db, 'age'), await find(catalog.db, 'signing')];
      if (age && signing) return { age, signing };
      return alone(async (trx) => ({ age: await findOrMake(trx, 'age'), signing: await findOrMake(trx, 'signing') }));
    },
    add: (kind, key) =>
      alone(async (trx) => {
        const keys = [key, ...(await findOrMake(trx, kind))];
        await trx
          .updateTable('server_keys')
          .set(await sealed(kind, keys))
          .where('kind', '=', kind)
          .execute();
      }),
  };
}

/** A key file, durable before it is used: what is encrypted to a key that a power loss takes away is lost. */
async function readOrMake(file: string, make: () => Promise<string>): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const text = await make();
  await writeDurably(file, text);
  return text;
}

async function writeDurably(file: string, text: string): Promise<void> {
  const folder = join(file, '..');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  // Renamed into place when it is whole: a crash leaves the old keys or the new ones.
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
}
