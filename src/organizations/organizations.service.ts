import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import { IdentityCache } from '../auth/identity-cache.js';
import type { Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { newId } from '../common/identifiers.js';
import { Installation } from '../installation/installation.js';
import type { OrganizationDto } from './organization.dto.js';
import { type OrganizationRow, OrganizationsRepository } from './organizations.repository.js';

/** Organizations: those of the caller, made, renamed and closed. */
@Injectable()
export class OrganizationsService {
  constructor(
    private readonly organizations: OrganizationsRepository,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
    private readonly cache: IdentityCache,
    private readonly installation: Installation,
  ) {}

  /** All that the caller belongs to: a key to its own, the bootstrap key to each. */
  async ofCaller(caller: Identity): Promise<OrganizationDto[]> {
    if (caller.instanceOwner) return (await this.organizations.all()).map((row) => toOrganization(row, 'owner'));
    if (caller.kind === 'user') return (await this.organizations.ofUser(caller.id)).map((row) => toOrganization(row, row.role));
    return [await this.get(caller)];
  }

  /** The one that the caller acts in. @throws NOT_FOUND */
  async get(caller: Identity): Promise<OrganizationDto> {
    const row = await this.organizations.find(caller.organizationId);
    if (!row) throw Errors.notFound('organization', caller.organizationId);
    return toOrganization(row, caller.instanceOwner ? 'owner' : (caller.role ?? null));
  }

  /** @throws CONFLICT when the name is taken */
  async create(caller: Identity, name: string): Promise<OrganizationDto> {
    const id = newId('org');
    const there = { ...caller, organizationId: id };
    await this.catalog.transaction(async (trx) => {
      await this.organizations.insert(trx, id, name);
      await this.changes.record(trx, there, 'organization.created', id, { name });
    });
    await this.changes.committed(there, 'organization', id, []);
    return this.get(there);
  }

  async rename(caller: Identity, name: string): Promise<OrganizationDto> {
    const id = caller.organizationId;
    await this.catalog.transaction(async (trx) => {
      const old = await this.organizations.lock(trx, id);
      if (!old) throw Errors.notFound('organization', id);
      await this.organizations.rename(trx, id, name);
      await this.changes.record(trx, caller, 'organization.renamed', id, { before: { name: old.name }, after: { name } });
    });
    await this.changes.committed(caller, 'organization', id, []);
    return this.get(caller);
  }

  /**
   * Closes an organization: one in which nothing is left at once, another when its name confirms it, with all that is in it.
   * @throws VALIDATION_ERROR, CONFLICT
   */
  async delete(caller: Identity, confirm: string | undefined): Promise<OrganizationDto> {
    const id = caller.organizationId;
    if (id === this.installation.defaultOrganizationId)
      throw Errors.conflict('The first organization belongs to the installation and can not be deleted; rename it if you like.');
    const deleted = await this.catalog.transaction(async (trx) => {
      const row = await this.organizations.lock(trx, id);
      if (!row) throw Errors.notFound('organization', id);
      if (confirm !== undefined && confirm !== row.name) throw Errors.validation({ confirm: `must be the organization's name` });
      const left = await this.organizations.countLeft(trx, id);
      if (left.runs > 0)
        throw Errors.conflict(`${left.runs} runs of the organization are queued or running; wait for them or cancel them first.`);
      if (left.sources + left.backups > 0 && confirm === undefined)
        throw Errors.conflict(
          `The organization still has ${left.sources} sources and ${left.backups} backups (those in the trash count); delete them first, or confirm with its name (?confirm=) that they go too.`,
        );
      await this.organizations.close(trx, row);
      await this.cache.changing(trx);
      await this.changes.record(trx, caller, 'organization.deleted', id, { name: row.name, ...left });
      return toOrganization(row, 'owner');
    });
    this.cache.forget();
    await this.changes.committed(caller, 'organization', id, ['sources', 'backups']);
    return deleted;
  }
}

function toOrganization({ id, name, created_at }: OrganizationRow, role: OrganizationDto['role']): OrganizationDto {
  return { id, name, role, createdAt: created_at.toISOString() };
}
