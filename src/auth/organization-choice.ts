import { Errors, type ApiError } from '../common/errors.js';
import type { Identity, Principal } from './identity.js';
import { ROLE_PERMISSIONS } from './permissions.js';

/**
 * For which organization somebody calls: the wanted one when they belong to it, else their first. Another's is not there for them.
 * @param exists whether there is such an organization; asked only for the instance owner
 */
export async function chooseOrganization(
  principal: Principal,
  wanted: string | undefined,
  exists: (id: string) => Promise<boolean>,
): Promise<Identity | ApiError> {
  const { key, kind, id, name, instanceOwner, sessionId, memberships } = principal;
  const common = { kind, id, name, instanceOwner, ...(sessionId === undefined ? {} : { sessionId }) };
  if (key) {
    const organizationId = wanted ?? key.organizationId;
    const isTheirs = organizationId === key.organizationId || (instanceOwner && (await exists(organizationId)));
    if (!isTheirs) return Errors.notFound('organization', organizationId.slice(0, 100));
    return { ...common, organizationId, permissions: new Set(key.permissions) };
  }
  const membership = wanted === undefined ? memberships[0] : memberships.find(({ organizationId }) => organizationId === wanted);
  if (membership) {
    const { organizationId, role } = membership;
    return { ...common, organizationId, role, permissions: new Set(ROLE_PERMISSIONS[role]) };
  }
  return wanted === undefined ? Errors.noOrganization() : Errors.notFound('organization', wanted.slice(0, 100));
}
