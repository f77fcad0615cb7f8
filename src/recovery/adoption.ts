import { Injectable, Logger } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { type AdoptedState, ManifestImport } from '../backups/manifest-import.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import { DEFAULT_DESTINATION } from '../destinations/destination.js';
import { DestinationsService } from '../destinations/destinations.service.js';
import { type OpenDestination, Stores } from '../destinations/stores.js';
import type { Manifest } from '../engine/artifact/manifest.js';
import { EngineError } from '../engine/errors.js';
import { backupLockedUntil } from '../engine/lock-backup.js';
import { type KeysInText, keysInText } from '../engine/recovery-kit.js';
import { Installation } from '../installation/installation.js';
import { Keyring } from '../keys/keyring.js';
import { UNKNOWN_HOST } from '../sources/source-values.js';
import type { AdoptDto, AdoptedSourceDto, AdoptionDto, UnreadManifestDto } from './adopt.dto.js';
import { findGroups, type FoundGroup, isMeant } from './found-backups.js';
import { notesOn, nothingFound } from './adoption-view.js';
import { type FoundBackup, missingArtifact, trustManifest, type TrustedManifest, type Trusting } from './manifest-trust.js';
import { type BroughtBack, SettingsAdoption } from './settings-adoption.js';

/** Everything that stays the same from one manifest to the next. */
interface Adopting extends Trusting {
  caller: Identity;
  settings: BroughtBack | null;
}

const LONGEST_MS = 6 * 3_600_000;
/** A destination that fails so often in a row is away, and what it holds can't be told. */
const FAILURES_IN_A_ROW = 3;

/** Takes backups of a destination into the catalog, whoever made them. */
@Injectable()
export class AdoptionService {
  private readonly logger = new Logger('recovery');

  constructor(
    private readonly catalog: Catalog,
    private readonly destinations: DestinationsService,
    private readonly stores: Stores,
    private readonly copies: BackupCopies,
    private readonly manifests: ManifestImport,
    private readonly settings: SettingsAdoption,
    private readonly keyring: Keyring,
    private readonly installation: Installation,
    private readonly changes: Changes,
  ) {}

  /**
   * Takes in every backup that a trusted key has signed; what the catalog has already stays as it is, so that it can be repeated.
   * @throws NOT_FOUND for the destination; VALIDATION_ERROR when it is not clear whose backups are meant, or no key is in what was sent
   */
  async adopt(caller: Identity, idOrName: string, dto: AdoptDto): Promise<AdoptionDto> {
    const signal = AbortSignal.timeout(LONGEST_MS);
    const destination = await this.open(caller, idOrName);
    const holdsServerKeys = await this.keyring.mayHoldServerKeys(caller);
    if (dto.lostSigningKey !== undefined && !holdsServerKeys)
      throw Errors.validation({ lostSigningKey: "is only for those who may hold the server's keys: the server's owner" });
    await this.takeKeys(caller, dto, holdsServerKeys);
    const groups = (await findGroups(destination.store, signal)).filter((group) =>
      this.mayTake(group, caller, destination, holdsServerKeys),
    );
    const group = await this.choose(caller, groups, dto.from);
    if (!group) return nothingFound(groups);
    const keys = (key_scope: 'server' | 'organization') =>
      this.keyring.forBackup({
        organization_id: caller.organizationId,
        key_scope,
        recipients: null,
        pinned_manifest_sha256: null,
      });
    const [servers, organizations] = [await keys('server'), await keys('organization')];
    // Of another organization, nobody but those who hold the server's keys has anything opened by them.
    const trustsServers = holdsServerKeys || group.organization === caller.organizationId;
    const settings =
      dto.settings === false || !trustsServers
        ? null
        : await this.settings.bringBack(caller, destination, group, servers, signal);
    const answer = await this.takeIn(group, {
      caller,
      destination,
      servers: trustsServers ? servers : null,
      organizations,
      overrideReason: dto.lostSigningKey,
      settings,
      signal,
    });
    await this.catalog.transaction((trx) =>
      this.changes.record(trx, caller, 'destination.adopted', destination.id, {
        installation: group.installation,
        organization: group.organization,
        adopted: answer.adopted,
        unread: answer.unread.length,
        settings: answer.settings?.created ?? null,
      }),
    );
    await this.changes.committed(caller, 'destination', destination.id, [
      'backups',
      'sources',
      'destinations',
      'retention',
      'notifications',
    ]);
    return answer;
  }

  private async open(caller: Identity, idOrName: string): Promise<OpenDestination> {
    if (idOrName === DEFAULT_DESTINATION) return this.stores.of(idOrName);
    const row = await this.destinations.get(caller.organizationId, idOrName);
    return { id: row.id, name: row.name, store: this.stores.storeOf(row) };
  }

  /** Keys of somebody who may hold the server's are the whole server's; others' are their organization's alone. */
  private async takeKeys(caller: Identity, dto: AdoptDto, holdsServerKeys: boolean): Promise<void> {
    const given = [dto.kit, ...(dto.identities ?? []), ...(dto.signingKeys ?? [])].filter((text) => text !== undefined);
    if (given.length === 0) return;
    const keys = this.read(given.join('\n'));
    if (keys.identities.length + keys.verifyingKeys.length === 0)
      throw Errors.validation({ kit: 'holds no key; send the whole text of GET /api/keys/recovery-kit' });
    await this.catalog.transaction(async (trx) => {
      await this.keyring.add(trx, holdsServerKeys ? null : caller.organizationId, keys, 'adopted');
      await this.changes.record(trx, caller, 'keys.adopted', this.installation.id, {
        identities: keys.identities.length,
        signingKeys: keys.verifyingKeys.length,
      });
    });
  }

  private read(text: string): KeysInText {
    try {
      return keysInText(text);
    } catch (error) {
      if (error instanceof EngineError) throw Errors.validation({ kit: `holds a key that can't be read: ${error.message}` });
      throw error;
    }
  }

  /** The local folder is shared by all organizations, and of this installation nobody takes what belongs to others. */
  private mayTake(group: FoundGroup, caller: Identity, destination: OpenDestination, holdsServerKeys: boolean): boolean {
    if (holdsServerKeys || group.organization === caller.organizationId) return true;
    return group.installation !== this.installation.id && destination.id !== DEFAULT_DESTINATION;
  }

  /** The group that is named, or the only one with backups that are not in the catalog yet. */
  private async choose(caller: Identity, groups: FoundGroup[], from: string | undefined): Promise<FoundGroup | undefined> {
    const names = (of: FoundGroup[]) => of.map((group) => `${group.installation}/${group.organization}`).join(', ');
    const candidates = from === undefined ? groups : groups.filter((group) => isMeant(group, from));
    if (from !== undefined && candidates.length === 0)
      throw Errors.validation({
        from:
          groups.length === 0
            ? 'names nobody: there is no backup at the destination'
            : `names nobody there; there are ${names(groups)}`,
      });
    if (candidates.length <= 1) return candidates[0];
    const unknown: FoundGroup[] = [];
    for (const group of candidates) {
      const known = await this.known(group.backups.map(({ backup }) => backup));
      if (group.backups.some(({ backup }) => known.get(backup)?.organization_id !== caller.organizationId)) unknown.push(group);
    }
    if (unknown.length === 1) return unknown[0];
    if (unknown.length === 0)
      return candidates.find(({ installation }) => installation !== this.installation.id) ?? candidates[0];
    throw Errors.validation({ from: `is needed, since several have backups there; name one of ${names(unknown)}` });
  }

  private async takeIn(group: FoundGroup, work: Adopting): Promise<AdoptionDto> {
    const known = await this.known(group.backups.map(({ backup }) => backup));
    const [adopted, unread]: [string[], UnreadManifestDto[]] = [[], []];
    const sources = new Map<string, AdoptedSourceDto>();
    const chain: Manifest[] = [];
    const hashes = new Set<string>();
    let failures = 0;
    let count = 0;
    for (const backup of group.backups) {
      try {
        const trusted = await trustManifest(backup, work);
        hashes.add(trusted.loaded.sha256);
        chain.push(trusted.loaded.manifest);
        const row = known.get(backup.backup);
        if (row) {
          await this.noteKnown(backup, row, trusted, work);
          count += 1;
        } else {
          await this.insert(backup, trusted, work, sources);
          adopted.push(backup.backup);
        }
        failures = 0;
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        this.logger.warn({ event: 'adopt.unread', backupId: backup.backup, err: error }, 'adopt.unread');
        unread.push({ prefix: backup.prefix, code: error.code, reason: `${error.message} ${error.hint}`.trim() });
        failures = error.code === 'STORE_FAILED' ? failures + 1 : 0;
        if (failures >= FAILURES_IN_A_ROW)
          throw Errors.unavailable(`The destination does not answer any more: ${error.message} Adopt again when it does.`, {
            cause: error,
          });
      }
    }
    return {
      installation: group.installation,
      organization: group.organization,
      found: group.backups.length,
      adopted: adopted.length,
      known: count,
      backups: adopted,
      sources: [...sources.values()],
      unread,
      chainGaps: chain
        .filter(({ previousManifestSha256 }) => previousManifestSha256 !== null && !hashes.has(previousManifestSha256))
        .map(({ ids }) => ids.backup),
      settings: work.settings?.answer ?? null,
      notes: [...(work.settings?.notes ?? []), ...notesOn([...sources.values()], unread)],
    };
  }

  private async insert(
    { prefix, ...ids }: FoundBackup,
    { loaded, scope, isPinned }: TrustedManifest,
    work: Adopting,
    sources: Map<string, AdoptedSourceDto>,
  ): Promise<void> {
    const { caller, destination } = work;
    const state = work.settings?.stateOf(ids.backup, loaded.sha256);
    const brokenCause =
      (await missingArtifact(destination.store, prefix, loaded.manifest, work.signal)) ?? state?.brokenCause ?? null;
    const lockedUntil = await backupLockedUntil(destination.store, prefix, { signal: work.signal }).catch(() => null);
    await this.catalog.transaction(async (trx) => {
      const sourceId =
        work.settings?.sourceIds.get(ids.source) ?? (await this.sourceIdFor(trx, caller.organizationId, ids.source));
      const created = await this.manifests.ensureSource(trx, loaded.manifest, caller.organizationId, sourceId);
      await this.manifests.adopt(trx, prefix, loaded, {
        organizationId: caller.organizationId,
        sourceId,
        scope,
        identities: (scope === 'server' ? work.servers : work.organizations)?.identities ?? [],
        pinnedManifestSha256: isPinned ? loaded.sha256 : null,
        brokenCause,
        destinationId: destination.id,
        lockedUntil,
        state: state ?? UNKNOWN_STATE,
      });
      if (isPinned)
        await this.changes.record(trx, caller, 'signature.overridden', ids.backup, {
          reason: work.overrideReason,
          manifestSha256: loaded.sha256,
          destination: destination.name,
        });
      const old = sources.get(sourceId);
      sources.set(
        sourceId,
        old ?? (await this.describe(trx, sourceId, created || (work.settings?.createdSources.has(sourceId) ?? false))),
      );
    });
  }

  private async describe(trx: Trx, id: string, created: boolean): Promise<AdoptedSourceDto> {
    const row = await trx.selectFrom('sources').select(['name', 'host']).where('id', '=', id).executeTakeFirstOrThrow();
    return { id, name: row.name, created, hasCredentials: row.host !== UNKNOWN_HOST };
  }

  /** A copy of a backup that the catalog has from elsewhere is one more copy. */
  private async noteKnown(
    { backup, prefix }: FoundBackup,
    row: KnownRow,
    { loaded }: TrustedManifest,
    work: Adopting,
  ): Promise<void> {
    if (row.organization_id !== work.caller.organizationId)
      throw new EngineError(
        'OBJECT_EXISTS',
        `A backup with the id ${backup} is on this server already, and it is not of this organization.`,
        'Adopt it in the organization that it belongs to.',
      );
    if (row.status !== 'completed' || row.purge_started_at !== null || row.manifest_sha256 !== loaded.sha256) return;
    const copies = await this.copies.of(backup);
    if (copies.some(({ destination_id, state }) => destination_id === work.destination.id && state === 'stored')) return;
    const { id, store } = work.destination;
    const lockedUntil = await backupLockedUntil(store, prefix, { signal: work.signal }).catch(() => null);
    await this.catalog.transaction(async (trx) => {
      // One that was made before there were several destinations lies in the local folder, without a row that says so.
      const [first] = copies;
      if (copies.length === 1 && first?.destination_id === DEFAULT_DESTINATION)
        await this.copies.noteFound(trx, backup, DEFAULT_DESTINATION);
      await this.copies.noteFound(trx, backup, id, lockedUntil);
    });
  }

  /** Ids never change, unless another organization of this server has that very source. */
  private async sourceIdFor(trx: Trx, organizationId: string, id: string): Promise<string> {
    const row = await trx.selectFrom('sources').select('organization_id').where('id', '=', id).executeTakeFirst();
    if (!row || row.organization_id === organizationId) return id;
    return `src_${createHash('sha256').update(`${organizationId} ${id}`).digest('hex').slice(0, 20)}`;
  }

  private async known(ids: readonly string[]): Promise<Map<string, KnownRow>> {
    const found = new Map<string, KnownRow>();
    for (let start = 0; start < ids.length; start += 1000) {
      const rows = await this.catalog.db
        .selectFrom('backups')
        .select(['id', 'organization_id', 'status', 'manifest_sha256', 'purge_started_at'])
        .where('id', 'in', ids.slice(start, start + 1000))
        .execute();
      for (const row of rows) found.set(row.id, row);
    }
    return found;
  }
}

interface KnownRow {
  id: string;
  organization_id: string;
  status: string;
  manifest_sha256: string | null;
  purge_started_at: Date | null;
}

const UNKNOWN_STATE: AdoptedState = {
  origin: 'api',
  label: null,
  tags: [],
  pinned: false,
  proofLevel: 0,
  provenAt: null,
  finishedAt: null,
  startedAt: null,
  scheduleId: null,
  scheduleName: null,
  scheduledFor: null,
};
