import { Injectable } from '@nestjs/common';
import { join } from 'node:path';
import { OutboundHttp } from '../common/outbound/outbound-http.js';
import { Settings } from '../config/settings.js';
import { EngineError } from '../engine/errors.js';
import { ArtifactStore } from '../engine/store/artifact-store.js';
import { LocalStore } from '../engine/store/local-store.js';
import { type RcloneConfig, RcloneStore } from '../engine/store/rclone-store.js';
import type { S3Config } from '../engine/store/s3-config.js';
import { S3Store } from '../engine/store/s3-store.js';
import { type SupabaseConfig, SupabaseStore } from '../engine/store/supabase-store.js';
import { SecretBox } from '../keys/secret-box.js';
import { DEFAULT_DESTINATION, type DestinationKind } from './destination.js';
import { type DestinationSecrets, secretsOwner } from './destination-values.js';
import { type DestinationRow, DestinationsRepository } from './destinations.repository.js';

const MOST_KEPT = 500;
const DEFAULT_BUCKET = 'backstay';

/** A destination that is open. */
export interface OpenDestination {
  id: string;
  name: string;
  store: ArtifactStore;
}

/** What a store is made of. */
export type DescribedDestination = Pick<
  DestinationRow,
  'id' | 'organization_id' | 'kind' | 'config' | 'sealed_secrets' | 'made_by_setting'
>;

/** Opens the store of each destination, once, until it is changed. */
@Injectable()
export class Stores {
  private readonly open = new Map<string, { version: number; store: ArtifactStore }>();

  constructor(
    private readonly destinations: DestinationsRepository,
    private readonly settings: Settings,
    private readonly secrets: SecretBox,
    private readonly outbound: OutboundHttp,
    /** The local folder. */
    readonly local: ArtifactStore,
  ) {}

  /** @throws EngineError STORE_FAILED when there is no such destination any more */
  async of(id: string): Promise<OpenDestination> {
    if (id === DEFAULT_DESTINATION) return this.localDestination();
    const row = await this.destinations.findAnywhere(id);
    if (!row)
      throw new EngineError(
        'STORE_FAILED',
        `There is no destination ${id} any more.`,
        'Name one that exists, in the request or in the schedule.',
      );
    return { id, name: row.name, store: this.storeOf(row) };
  }

  /** Every destination of every organization, the local folder first. */
  async everywhere(): Promise<(OpenDestination & { organizationId?: string })[]> {
    const rows = await this.destinations.everywhere();
    return [
      this.localDestination(),
      ...rows.map((row) => ({ id: row.id, name: row.name, store: this.storeOf(row), organizationId: row.organization_id })),
    ];
  }

  /** The destinations of one organization, the local folder first. */
  async ofOrganization(organizationId: string): Promise<OpenDestination[]> {
    const rows = await this.destinations.list(organizationId);
    return [this.localDestination(), ...rows.map((row) => ({ id: row.id, name: row.name, store: this.storeOf(row) }))];
  }

  private localDestination(): OpenDestination {
    return { id: DEFAULT_DESTINATION, name: DEFAULT_DESTINATION, store: this.local };
  }

  storeOf(row: DestinationRow): ArtifactStore {
    const kept = this.open.get(row.id);
    if (kept?.version === row.updated_at.getTime()) return kept.store;
    const store = this.make(row);
    if (this.open.size >= MOST_KEPT) this.open.clear();
    this.open.set(row.id, { version: row.updated_at.getTime(), store });
    return store;
  }

  /** The store that a row describes, whether it is in the catalog or not. */
  make(row: DescribedDestination): ArtifactStore {
    const kind = row.kind as DestinationKind;
    switch (kind) {
      case 'local':
        return new LocalStore(
          join(this.settings.dataDir, 'destinations', row.organization_id, String(row.config['folder'] ?? row.id)),
        );
      case 's3':
        return new S3Store({ ...(this.configOf(row) as unknown as S3Config), ...this.lookupFor(row, 'endpoint') });
      case 'supabase':
        return new SupabaseStore({ ...supabaseConfigOf(this.configOf(row)), ...this.lookupFor(row, 'url') });
      case 'rclone':
        return new RcloneStore(this.configOf(row) as unknown as RcloneConfig);
    }
  }

  private configOf(row: DescribedDestination): DestinationRow['config'] & DestinationSecrets {
    return { ...row.config, ...this.secretsOf(row) };
  }

  /** Who sets the server's environment may reach what the server reaches; others only what OUTBOUND_ALLOW permits. */
  private lookupFor(row: DescribedDestination, field: 'endpoint' | 'url'): Pick<S3Config, 'lookup'> {
    const address = row.config[field];
    if (row.made_by_setting !== null || typeof address !== 'string') return {};
    return { lookup: this.outbound.lookupFor(this.outbound.checkUrl(address)) as NonNullable<S3Config['lookup']> };
  }

  secretsOf(row: Pick<DestinationRow, 'id' | 'sealed_secrets'>): DestinationSecrets {
    return row.sealed_secrets === null
      ? {}
      : (JSON.parse(this.secrets.open(row.sealed_secrets, secretsOwner(row.id))) as DestinationSecrets);
  }
}

function supabaseConfigOf(config: DestinationRow['config']): SupabaseConfig {
  return { bucket: DEFAULT_BUCKET, ...config } as unknown as SupabaseConfig;
}
