import { Injectable, Logger, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { createHash } from 'node:crypto';
import { Catalog } from '../catalog/catalog.js';
import { EventBus } from '../common/events/event-bus.js';
import { Settings } from '../config/settings.js';
import { DEFAULT_DESTINATION } from '../destinations/destination.js';
import { type OpenDestination, Stores } from '../destinations/stores.js';
import { listCatalogBackups, pruneCatalogBackups, writeCatalogBackup } from '../engine/catalog-backup.js';
import { Installation } from '../installation/installation.js';
import { Keyring } from '../keys/keyring.js';
import { ServerKeys } from '../keys/server-keys.js';
import { CatalogExport } from './catalog-export.js';

/** Changes come in bursts: they are waited for. */
const PAUSE_MS = 5_000;
const KEPT = 30;
const TIMEOUT_MS = 120_000;
/** Several workers wake at the same time; one file a day is enough. */
const FRESH_MS = 600_000;

/** After these the catalog holds something that its last backup does not. */
const CHANGES: ReadonlySet<string> = new Set([
  'api.changed',
  'backup.completed',
  'verification.completed',
  'verification.failed',
]);

/** Saves settings, members, policies, proofs and the audit trail's end to every destination, daily and after changes. */
@Injectable()
export class CatalogBackups implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly logger = new Logger('recovery');
  private timer: NodeJS.Timeout | undefined;
  private readonly changed = new Set<string>();
  /** Hash of what was saved last, by destination. */
  private readonly saved = new Map<string, string>();
  private busy: Promise<void> = Promise.resolve();
  private stopListening: (() => void) | undefined;
  private readonly stopped = new AbortController();

  constructor(
    private readonly catalog: Catalog,
    private readonly content: CatalogExport,
    private readonly stores: Stores,
    private readonly keys: ServerKeys,
    private readonly keyring: Keyring,
    private readonly installation: Installation,
    private readonly settings: Settings,
    private readonly bus: EventBus,
  ) {}

  onApplicationBootstrap(): void {
    if (!this.settings.catalogBackups) return;
    this.stopListening = this.bus.onAny((name, event) => {
      if (!CHANGES.has(name) || !('organizationId' in event)) return;
      this.changed.add(event.organizationId);
      this.timer ??= setTimeout(() => void this.saveChanged(), PAUSE_MS).unref();
    });
  }

  async onModuleDestroy(): Promise<void> {
    this.stopListening?.();
    clearTimeout(this.timer);
    // A destination that hangs must not hold the server up.
    this.stopped.abort();
    await this.busy;
  }

  @Cron('41 3 * * *')
  async saveDaily(): Promise<void> {
    if (this.settings.role === 'api' || !this.settings.catalogBackups) return;
    await this.queue(() => this.saveEverywhere(false));
  }

  /** Saves the organizations in which something has changed. */
  private async saveChanged(): Promise<void> {
    this.timer = undefined;
    const organizations = [...this.changed];
    this.changed.clear();
    await this.queue(async () => {
      for (const id of organizations) await this.saveOrganization(id);
      if (organizations.length > 0) await this.saveAll(true, await this.stores.of(DEFAULT_DESTINATION), undefined);
    });
  }

  /** Saves everything to each destination. @param evenIfFresh also where a file was written minutes ago */
  async saveEverywhere(evenIfFresh: boolean): Promise<void> {
    await this.saveAll(evenIfFresh, await this.stores.of(DEFAULT_DESTINATION), undefined);
    const rows = await this.catalog.db.selectFrom('destinations').select(['id', 'organization_id']).execute();
    for (const row of rows)
      await this.attempt(row.id, async () => this.saveAll(evenIfFresh, await this.stores.of(row.id), row.organization_id));
  }

  private async saveOrganization(organizationId: string): Promise<void> {
    for (const destination of await this.stores.ofOrganization(organizationId))
      if (destination.id !== DEFAULT_DESTINATION) await this.saveAll(true, destination, organizationId);
  }

  /** The local folder belongs to all; any other destination gets what its organization owns. */
  private saveAll(evenIfFresh: boolean, destination: OpenDestination, organizationId: string | undefined): Promise<void> {
    return this.attempt(destination.id, async () => {
      const signal = AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), this.stopped.signal]);
      signal.throwIfAborted();
      const now = new Date();
      const content = await this.content.of(organizationId, now);
      const hash = createHash('sha256').update(JSON.stringify(content.organizations)).digest('hex');
      if (evenIfFresh && this.saved.get(destination.id) === hash) return;
      const [newest] = await listCatalogBackups(destination.store, this.installation.id, signal);
      if (!evenIfFresh && newest && now.getTime() - newest.at.getTime() < FRESH_MS) return;
      const recipients =
        organizationId === undefined ? this.keys.recipients : await this.keyring.recipientsFor(organizationId, undefined);
      const { signingKeyPem } = this.keys;
      const key = await writeCatalogBackup(
        destination.store,
        this.installation.id,
        content,
        { recipients, signingKeyPem },
        now,
        signal,
      );
      this.saved.set(destination.id, hash);
      const removed = await pruneCatalogBackups(destination.store, this.installation.id, KEPT, signal);
      this.logger.log({ event: 'catalog.saved', destinationId: destination.id, key, removed }, 'catalog.saved');
    });
  }

  /** One destination that is away must not keep the others from it. */
  private async attempt(destinationId: string, work: () => Promise<void>): Promise<void> {
    await work().catch((error: unknown) =>
      this.logger.warn({ event: 'catalog.not-saved', destinationId, err: error }, 'catalog.not-saved'),
    );
  }

  private queue(work: () => Promise<void>): Promise<void> {
    this.busy = this.busy.then(work).catch((error: unknown) => {
      this.logger.error({ event: 'catalog.not-saved', err: error }, 'catalog.not-saved');
    });
    return this.busy;
  }
}
