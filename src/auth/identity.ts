import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import { Errors } from '../common/errors.js';
import type { Actor } from '../common/http/request-context.js';
import type { Permission } from './permissions.js';

/** Who is calling, for which organization, and what they may do. */
export interface Identity {
  kind: 'api-key' | 'user';
  id: string;
  name: string;
  organizationId: string;
  permissions: ReadonlySet<Permission>;
  /** The bootstrap key: owner of the instance. */
  instanceOwner: boolean;
}

/** What the guards leave on the request. */
export interface IdentifiedRequest {
  identity?: Identity;
  /** Why the credentials were refused, when some were sent. */
  identityRefusal?: string;
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

export function actorOf(identity: Identity): Actor {
  return { kind: identity.kind, id: identity.id, name: identity.name };
}
