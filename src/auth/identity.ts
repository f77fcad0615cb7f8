import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import { type ApiError, Errors } from '../common/errors.js';
import type { Actor } from '../common/http/request-context.js';
import type { Permission, Role } from './permissions.js';

/** Who is calling, for which organization, and what they may do. */
export interface Identity {
  kind: 'api-key' | 'user';
  id: string;
  name: string;
  organizationId: string;
  permissions: ReadonlySet<Permission>;
  /** The bootstrap key: owner of the instance. */
  instanceOwner: boolean;
  /** The person's role in the organization; none for keys. */
  role?: Role;
  /** The local session, when they signed in with e-mail and password. */
  sessionId?: string;
}

/** Whom credentials belong to, before it is known for which organization they call. */
export interface Principal {
  kind: 'api-key' | 'user';
  id: string;
  name: string;
  instanceOwner: boolean;
  /** A key's organization and permissions. */
  key?: { organizationId: string; permissions: readonly Permission[] };
  /** A person's organizations, the first joined first. */
  memberships: readonly Membership[];
  sessionId?: string;
}

export interface Membership {
  organizationId: string;
  role: Role;
}

/** What the guards leave on the request. */
export interface IdentifiedRequest {
  identity?: Identity;
  /** Why the credentials were refused, when some were sent. */
  identityRefusal?: string;
  /** What a closed route answers instead, when the credentials are good but don't lead into an organization, or can't be checked. */
  identityError?: ApiError;
}

/** The caller, in a controller's arguments. */
export const Caller = createParamDecorator((_: unknown, context: ExecutionContext): Identity => {
  const { identity } = context.switchToHttp().getRequest<IdentifiedRequest>();
  if (!identity) throw Errors.unauthorized();
  return identity;
});

/** The caller where the route is public, else undefined. */
export const MaybeCaller = createParamDecorator(
  (_: unknown, context: ExecutionContext): Identity | undefined =>
    context.switchToHttp().getRequest<IdentifiedRequest>().identity,
);

export function actorOf(identity: Pick<Identity, 'kind' | 'id' | 'name'>): Actor {
  return { kind: identity.kind, id: identity.id, name: identity.name };
}
