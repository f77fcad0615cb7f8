import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { AuditService } from '../audit/audit.service.js';
import { Errors } from '../common/errors.js';
import { INSTANCE_OWNER_ROUTE, PUBLIC_ROUTE, REQUIRED_PERMISSIONS } from './access.js';
import { actorOf, type IdentifiedRequest, type Identity } from './identity.js';
import type { Permission } from './permissions.js';

interface AskedFor extends IdentifiedRequest {
  path: string;
  method: string;
}

/** Closed by default: a route is open to those who hold its permissions, or to all when it says `@Public()`; else to nobody. */
@Injectable()
export class PermissionsGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly audit: AuditService,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const read = <T>(key: string): T | undefined =>
      this.reflector.getAllAndOverride<T | undefined>(key, [context.getHandler(), context.getClass()]);
    if (read<boolean>(PUBLIC_ROUTE)) return true;
    const request = context.switchToHttp().getRequest<AskedFor>();
    const { identity } = request;
    if (request.identityError) throw request.identityError;
    if (!identity) throw Errors.unauthorized(request.identityRefusal);
    const required = read<Permission[]>(REQUIRED_PERMISSIONS);
    if (!required) throw new Error(`${request.method} ${request.path} declares neither a permission nor @Public()`);
    const missing: string[] = required.filter((permission) => !identity.permissions.has(permission));
    if (read<boolean>(INSTANCE_OWNER_ROUTE) && !identity.instanceOwner) missing.push('instance-owner');
    if (missing.length === 0) return true;
    await this.denied(identity, request, missing);
    throw Errors.forbidden(missing);
  }

  private async denied(identity: Identity, { method, path }: AskedFor, missing: string[]): Promise<void> {
    await this.audit.record(undefined, {
      organizationId: identity.organizationId,
      actor: actorOf(identity),
      action: 'access.denied',
      resource: { kind: 'route', id: `${method} ${path}`.slice(0, 200) },
      result: 'denied',
      changes: { missing },
    });
  }
}
