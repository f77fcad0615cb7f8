import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { lockFolder } from '../process-lock.js';
import { migrateCatalog } from '../migrations.js';
import { checkEmbedded, type Watermark } from './check.js';
import { readJson, removeDurably, writeDurably } from './durable-file.js';
import { type OpenPglite, openPglite } from './pglite.js';
import {
  clearUnfinished,
  dataFolder,
  foundCatalog,
  type Rebuild,
  type RebuildNote,
  rebuildFromSnapshots,
  setAside,
} from './rebuild.js';
import { breakSeal, compareWithSeal, type FileHashes, sealFolder } from './seal.js';
import { Snapshots } from './snapshots.js';

/** How the catalog was found at this start. `unclean` and `rebuilt` stay until it was brought up to date from the manifests. */
export type CatalogStart = 'new' | 'clean' | 'unclean' | 'rebuilt';

/** What must be the same after the catalog is lost, since the folders of backups are named by it. */
export interface InstallationIds {
  installation: string;
  organization: string;
}

/** Until it was brought up to date, a catalog may lack what its server had promised; kept on disk, as that may fail. */
interface Behind {
  rebuild: Rebuild | null;
}

/** The folder `DATA_DIR/catalog`: PGlite's own folder and what lets it survive damage, since PGlite does not fsync. */
export class EmbeddedHome {
  readonly snapshots: Snapshots;
  #start: CatalogStart = 'new';
  #rebuild: Rebuild | null = null;
  /** What lies on the disk for certain: the files as they were sealed. */
  #durable: FileHashes = {};

  private constructor(
    readonly folder: string,
    private readonly unlock: () => Promise<void>,
  ) {
    this.snapshots = new Snapshots(join(folder, 'snapshots'));
  }

  /**
   * Opens the embedded catalog, migrated. One that was not closed well is checked first, one that is damaged or older than its own
   * snapshot is set aside and rebuilt.
   * @throws when another process holds the folder, or the catalog or its snapshot is of a newer version
   */
  static async open(folder: string): Promise<{ home: EmbeddedHome; opened: OpenPglite }> {
    const home = new EmbeddedHome(folder, await lockFolder(folder));
    try {
      return { home, opened: await home.openData() };
    } catch (error) {
      await home.unlock();
      throw error;
    }
  }

  get start(): CatalogStart {
    return this.#start;
  }

  /** How it was rebuilt; null when it was not, or has been brought up to date since. */
  get rebuild(): Rebuild | null {
    return this.#rebuild;
  }

  /** The ids of the installation, as they were noted beside the catalog. */
  async installationIds(): Promise<InstallationIds | undefined> {
    return readJson<InstallationIds>(this.path('installation.json'));
  }

  async rememberInstallation(ids: InstallationIds): Promise<void> {
    const known = await this.installationIds();
    if (known?.installation === ids.installation && known.organization === ids.organization) return;
    await writeDurably(this.path('installation.json'), JSON.stringify(ids));
  }

  /** The catalog is up to date again. */
  async caughtUp(found: { fromManifests: number; broken: number }): Promise<void> {
    if (this.#rebuild)
      await writeDurably(
        this.path('rebuilt.json'),
        JSON.stringify({ ...this.#rebuild, ...found } satisfies RebuildNote, null, 2),
      );
    await removeDurably(this.path('behind.json'));
    this.#start = 'clean';
    this.#rebuild = null;
  }

  /** The newest rebuild; an operator may remove the file. */
  async lastRebuild(): Promise<RebuildNote | undefined> {
    return readJson<RebuildNote>(this.path('rebuilt.json'));
  }

  /** A last snapshot, then the folder is closed, made durable and sealed. What can't be read any more is not sealed. */
  async close(opened: OpenPglite): Promise<void> {
    try {
      const good = await this.snapshots.take(opened.db).then(
        () => true,
        () => false,
      );
      await opened.close();
      if (good) await sealFolder(dataFolder(this.folder), this.path('pgdata.seal'), this.#durable);
    } finally {
      await this.unlock();
    }
  }

  private async openData(): Promise<OpenPglite> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await clearUnfinished(this.folder);
    const behind = await readJson<Behind>(this.path('behind.json'));
    const damage = await this.findDamage();
    const broken = damage === 'new' || damage === 'sealed' || damage === null ? null : damage;
    if (damage === 'new') await foundCatalog(this.folder, async (db) => void (await migrateCatalog(db)));
    if (damage !== 'new' && (damage !== 'sealed' || behind)) {
      await writeDurably(this.path('behind.json'), JSON.stringify({ rebuild: behind?.rebuild ?? null } satisfies Behind));
      this.#start = 'unclean';
      this.#rebuild = behind?.rebuild ?? null;
    } else this.#start = damage === 'new' ? 'new' : 'clean';
    await breakSeal(this.path('pgdata.seal'));
    if (broken !== null) await this.replace(broken.cause);
    if (this.#rebuild) this.#start = 'rebuilt';
    return this.openOrReplace();
  }

  /** `new`: there was never a catalog; `sealed`: as it was closed; null: whole as far as can be seen. */
  private async findDamage(): Promise<{ cause: string } | 'new' | 'sealed' | null> {
    const names = await readdir(this.folder);
    const data = dataFolder(this.folder);
    if (!names.includes('pgdata')) {
      const known = (await this.snapshots.list()).length > 0 || (await this.installationIds()) !== undefined;
      return known ? { cause: 'its folder is missing' } : 'new';
    }
    const seal = await compareWithSeal(data, this.path('pgdata.seal'));
    if (seal?.changed.length === 0) {
      this.#durable = seal.files;
      return 'sealed';
    }
    if (seal) return { cause: `changed since it was closed: ${few(seal.changed)}` };
    const result = await checkEmbedded(data);
    if (!result.whole) return { cause: result.damage };
    const { good } = await this.snapshots.newestGood();
    if (good && isOlder(result.newest, good.header.newest))
      return { cause: `it is older than its own snapshot of ${good.header.at}` };
    return null;
  }

  private async openOrReplace(): Promise<OpenPglite> {
    try {
      return await openPglite(dataFolder(this.folder));
    } catch (error) {
      if (this.#start === 'rebuilt') throw error;
      await this.replace((error as Error).message);
      this.#start = 'rebuilt';
      return openPglite(dataFolder(this.folder));
    }
  }

  private async replace(cause: string): Promise<void> {
    const now = new Date();
    const kept = await setAside(this.folder, now);
    // Cut off and begun again, it is still the first damage that is told of.
    const earlier = this.#rebuild;
    const note: Rebuild = {
      at: now.toISOString(),
      cause: earlier?.cause ?? cause,
      setAside: earlier?.setAside ?? kept,
      snapshot: null,
      snapshotAt: null,
      refused: [],
    };
    await writeDurably(this.path('behind.json'), JSON.stringify({ rebuild: note } satisfies Behind));
    this.#rebuild = { ...note, ...(await rebuildFromSnapshots(this.folder, this.snapshots)) };
    await writeDurably(this.path('behind.json'), JSON.stringify({ rebuild: this.#rebuild } satisfies Behind));
  }

  private path(name: string): string {
    return join(this.folder, name);
  }
}

/** Whether a catalog lacks what its snapshot has. */
function isOlder(catalog: Watermark, snapshot: Watermark): boolean {
  return catalog.auditId < snapshot.auditId || catalog.attemptEndedAt < snapshot.attemptEndedAt;
}

function few(names: readonly string[]): string {
  return names.length <= 3 ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`;
}
