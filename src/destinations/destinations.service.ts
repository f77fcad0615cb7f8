import { Injectable } from '@nestjs/common';
import { randomBytes } from 'node:crypto';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import { ApiError, Errors } from '../common/errors.js';
import { newId } from '../common/identifiers.js';
import { OutboundError } from '../common/outbound/outbound-error.js';
import { OutboundHttp } from '../common/outbound/outbound-http.js';
import { SecretBox } from '../keys/secret-box.js';
import { BackupCopies } from './backup-copies.js';
import { DEFAULT_DESTINATION, type DestinationKind, isForOwnerAlone } from './destination.js';
import { asksForLock, lockMissing } from './object-lock.js';
import type { CreateDestinationDto, UpdateDestinationDto } from './destination.dto.js';
import { ADDRESSES, type DestinationSecrets, secretsOwner, valuesOf } from './destination-values.js';
import { type DestinationRow, DestinationsRepository } from './destinations.repository.js';
import { type DescribedDestination, Stores } from './stores.js';

const MOST_OF_ONE_ORGANIZATION = 100;
const LOCK_PROBE_MS = 60_000;

/** Destinations: made, changed, listed and removed. */
@Injectable()
export class DestinationsService {
  constructor(
    private readonly destinations: DestinationsRepository,
    private readonly catalog: Catalog,
    private readonly stores: Stores,
    private readonly copies: BackupCopies,
    private readonly secrets: SecretBox,
    private readonly outbound: OutboundHttp,
    private readonly changes: Changes,
  ) {}

  list(organizationId: string): Promise<DestinationRow[]> {
    return this.destinations.list(organizationId);
  }

  /** @throws NOT_FOUND; the local folder has no row */
  async get(organizationId: string, idOrName: string): Promise<DestinationRow> {
    const row = await this.destinations.find(organizationId, idOrName);
    if (!row) throw Errors.notFound('destination', idOrName);
    return row;
  }

  /**
   * Ids of the destinations that a backup goes to: those that are named, else the defaults, else the local folder.
   * @throws VALIDATION_ERROR
   */
  async choose(organizationId: string, named: readonly string[] = [], trx?: Trx): Promise<string[]> {
    const rows = await this.destinations.list(organizationId, trx);
    if (named.length === 0) {
      const defaults = rows.filter((row) => row.is_default).map(({ id }) => id);
      return defaults.length > 0 ? defaults : [DEFAULT_DESTINATION];
    }
    const ids = named.map((name) => {
      if (name === DEFAULT_DESTINATION) return name;
      const row = rows.find(({ id }) => id === name) ?? rows.find((candidate) => candidate.name === name);
      if (!row) throw Errors.validation({ destinations: `name "${name}", which is no destination of this organization` });
      return row.id;
    });
    return [...new Set(ids)];
  }

  /** As `choose`, but a name that leads nowhere any more is kept: the run that comes to it fails, and says so. */
  async chooseLater(organizationId: string, named: readonly string[], trx: Trx): Promise<string[]> {
    const rows = await this.destinations.list(organizationId, trx);
    const known = (name: string) => name === DEFAULT_DESTINATION || rows.some((row) => row.id === name || row.name === name);
    const unknown = named.filter((name) => !known(name));
    if (unknown.length === 0) return this.choose(organizationId, named, trx);
    const rest = named.filter(known);
    return [...(rest.length > 0 ? await this.choose(organizationId, rest, trx) : []), ...unknown];
  }

  /** @throws VALIDATION_ERROR, CONFLICT when the name is taken */
  async create(caller: Identity, dto: CreateDestinationDto): Promise<DestinationRow> {
    if (dto.name === DEFAULT_DESTINATION) throw Errors.conflict('The name "local" belongs to the local folder; choose another.');
    mayUse(caller, dto.kind);
    const existing = await this.destinations.list(caller.organizationId);
    if (existing.length >= MOST_OF_ONE_ORGANIZATION)
      throw Errors.conflict(`An organization has ${MOST_OF_ONE_ORGANIZATION} destinations at most; delete one first.`);
    const { config, secrets } = valuesOf(dto.kind, dto, { config: {}, secrets: {} });
    await this.checkAddresses(config);
    const id = newId('dest');
    const described = { id, organization_id: caller.organizationId, kind: dto.kind, sealed_secrets: this.seal(id, secrets) };
    await this.checkLock({ ...described, config, made_by_setting: null });
    await this.catalog.transaction(async (trx) => {
      await this.destinations.insert(trx, {
        ...described,
        name: dto.name,
        config: json(config),
        is_default: dto.isDefault ?? false,
      });
      await this.changes.record(trx, caller, 'destination.created', id, { name: dto.name, kind: dto.kind });
    });
    await this.changes.committed(caller, 'destination', id, ['destinations']);
    return this.get(caller.organizationId, id);
  }

  async update(caller: Identity, idOrName: string, dto: UpdateDestinationDto): Promise<DestinationRow> {
    refuseLocal(idOrName);
    const old = await this.get(caller.organizationId, idOrName);
    mayUse(caller, old.kind);
    const changed = Object.keys(dto).filter((name) => dto[name as keyof UpdateDestinationDto] !== undefined);
    if (old.made_by_setting !== null && changed.some((name) => name !== 'isDefault'))
      throw Errors.conflict(`The destination is made by the setting ${old.made_by_setting} and its siblings; change those.`);
    if (dto.name === DEFAULT_DESTINATION) throw Errors.conflict('The name "local" belongs to the local folder; choose another.');
    const { config, secrets } = valuesOf(old.kind as DestinationKind, dto, {
      config: old.config,
      secrets: this.stores.secretsOf(old),
    });
    // A stored secret must not be sent to where somebody else leads it.
    for (const [address, secret] of ADDRESSES)
      if (dto[address] !== undefined && dto[address] !== old.config[address] && dto[secret] === undefined)
        throw Errors.validation({ [secret]: `must be given again when the ${address} changes` });
    await this.checkAddresses(dto);
    const sealed = this.seal(old.id, secrets);
    if (changed.some((name) => !['name', 'isDefault'].includes(name)))
      await this.checkLock({ ...old, config, sealed_secrets: sealed });
    await this.catalog.transaction(async (trx) => {
      await this.destinations.update(trx, caller.organizationId, old.id, {
        name: dto.name ?? old.name,
        config: json(config),
        sealed_secrets: sealed,
        is_default: dto.isDefault ?? old.is_default,
      });
      await this.changes.record(trx, caller, 'destination.updated', old.id, { name: dto.name ?? old.name, changed });
    });
    await this.changes.committed(caller, 'destination', old.id, ['destinations', 'backups']);
    return this.get(caller.organizationId, old.id);
  }

  /** @throws CONFLICT while a backup has a copy there */
  async delete(caller: Identity, idOrName: string): Promise<DestinationRow> {
    refuseLocal(idOrName);
    const old = await this.get(caller.organizationId, idOrName);
    if (old.made_by_setting !== null)
      throw Errors.conflict(
        `The destination is made by the setting ${old.made_by_setting} and would come back at the next start; take the setting away first.`,
      );
    await this.catalog.transaction(async (trx) => {
      const count = await this.copies.countAt(old.id, trx);
      if (count > 0)
        throw Errors.conflict(
          `${count} backups have a copy at the destination; delete them, or wait until they have left the trash.`,
        );
      await this.destinations.delete(trx, caller.organizationId, old.id);
      await this.changes.record(trx, caller, 'destination.deleted', old.id, { name: old.name });
    });
    await this.changes.committed(caller, 'destination', old.id, ['destinations']);
    return old;
  }

  /** @throws VALIDATION_ERROR for where nothing may be sent to */
  private async checkAddresses(values: { endpoint?: unknown; url?: unknown }): Promise<void> {
    for (const [name] of ADDRESSES) {
      const address = values[name];
      if (typeof address !== 'string') continue;
      try {
        await this.outbound.checkTarget(address);
      } catch (error) {
        if (error instanceof OutboundError) throw Errors.validation({ [name]: `can't be used: ${error.message}` });
        throw error;
      }
    }
  }

  /** What can't be kept must not be promised. @throws PRECONDITION_FAILED where locks do not hold */
  private async checkLock(described: DescribedDestination): Promise<void> {
    if (!asksForLock(described.config)) return;
    const canary = `.canary-${randomBytes(8).toString('hex')}`;
    const { obstacle } = await this.stores.make(described).probeLock(canary, { signal: AbortSignal.timeout(LOCK_PROBE_MS) });
    if (obstacle !== null) throw lockMissing(obstacle);
  }

  private seal(id: string, secrets: DestinationSecrets): string | null {
    return Object.keys(secrets).length === 0 ? null : this.secrets.seal(JSON.stringify(secrets), secretsOwner(id));
  }
}

/** @throws FORBIDDEN */
function mayUse({ instanceOwner }: Identity, kind: string): void {
  if (!isForOwnerAlone(kind) || instanceOwner) return;
  throw new ApiError(
    'FORBIDDEN',
    "Only the instance's owner may set up destinations of kind rclone: their configuration can reach everything that the server can.",
  );
}

function refuseLocal(idOrName: string): void {
  if (idOrName === DEFAULT_DESTINATION)
    throw Errors.conflict('The local folder always exists and is set by DATA_DIR; it can be neither changed nor deleted.');
}
