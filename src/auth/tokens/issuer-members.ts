import { Injectable } from '@nestjs/common';
import { AuditService } from '../../audit/audit.service.js';
import { Catalog, type Trx } from '../../catalog/catalog.js';
import { newId } from '../../common/identifiers.js';
import type { IssuerSettings } from '../../config/issuer-settings.js';
import { Installation } from '../../installation/installation.js';
import { AccountsRepository } from '../accounts.repository.js';
import { IdentityCache } from '../identity-cache.js';
import type { Principal } from '../identity.js';
import type { Role } from '../permissions.js';
import { type Claims, nameOf, roleOf } from './claims.js';

/** Those who come with an issuer's tokens: known by issuer and `sub` alone, members as a claim, an owner or the settings say. */
@Injectable()
export class IssuerMembers {
  constructor(
    private readonly accounts: AccountsRepository,
    private readonly catalog: Catalog,
    private readonly audit: AuditService,
    private readonly cache: IdentityCache,
    private readonly installation: Installation,
  ) {}

  /** Who that is, with their organizations; made and changed as the token's claims ask. */
  async principalOf(issuer: IssuerSettings, claims: Claims): Promise<Principal> {
    const subject = claims.sub ?? '';
    const organizationId =
      issuer.organization === undefined
        ? this.installation.defaultOrganizationId
        : await this.accounts.organizationIdOf(issuer.organization);
    const claimed = roleOf(issuer, claims);
    const user = await this.accounts.findBySubject(issuer.issuer, subject);
    const memberships = user ? await this.accounts.membershipsOf(user.id) : [];
    const current = memberships.find((each) => each.organizationId === organizationId);
    const settled = user !== undefined && !this.wouldChange(issuer, claimed, current?.role, organizationId);
    const { name, email } = nameOf(claims);
    if (settled && user) return principal(user.id, user.name, memberships);
    const id = await this.catalog.transaction(async (trx) => {
      const known = (await this.accounts.findBySubject(issuer.issuer, subject, trx))?.id;
      const made = known ?? newId('usr');
      if (!known) await this.accounts.insert(trx, { id: made, email, name, issuer: issuer.issuer, subject });
      if (organizationId !== undefined) await this.join(trx, issuer, claimed, { id: made, name, organizationId });
      await this.cache.changing(trx);
      return made;
    });
    this.cache.forget();
    return principal(id, name, await this.accounts.membershipsOf(id));
  }

  private wouldChange(
    issuer: IssuerSettings,
    claimed: Role | undefined,
    role: Role | undefined,
    organizationId: string | undefined,
  ): boolean {
    if (organizationId === undefined) return false;
    if (claimed !== undefined) return claimed !== role;
    // Whether a claim gave what it no longer gives is known by the row.
    if (role !== undefined) return issuer.roleClaim !== undefined;
    return issuer.autoJoinRole !== undefined;
  }

  private async join(
    trx: Trx,
    issuer: IssuerSettings,
    claimed: Role | undefined,
    { id, name, organizationId }: { id: string; name: string; organizationId: string },
  ): Promise<void> {
    const member = await this.accounts.lockMember(trx, organizationId, id);
    const tell = (action: string, changes: object) =>
      this.audit.record(trx, {
        organizationId,
        actor: { kind: 'user', id, name },
        action,
        resource: { kind: 'member', id },
        changes: { issuer: issuer.issuer, ...changes },
      });
    const wanted = claimed ?? (member && member.origin !== 'claim' ? member.role : issuer.autoJoinRole);
    const origin = claimed === undefined ? 'auto' : 'claim';
    if (wanted === member?.role && (claimed === undefined ? member?.origin !== 'claim' : true)) return;
    if (wanted === undefined) {
      if (!member) return;
      await this.accounts.removeMember(trx, organizationId, id);
      await tell('member.removed', { role: member.role, by: 'claim' });
      return;
    }
    await this.accounts.putMember(trx, { organization_id: organizationId, user_id: id, role: wanted, origin });
    await tell(member ? 'member.role-changed' : 'member.added', {
      ...(member ? { before: { role: member.role } } : {}),
      after: { role: wanted },
      by: origin === 'claim' ? 'claim' : 'autoJoinRole',
    });
  }
}

function principal(id: string, name: string, memberships: Principal['memberships']): Principal {
  return { kind: 'user', id, name, instanceOwner: false, memberships };
}
