import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { AuditService } from '../audit/audit.service.js';
import { Errors } from '../common/errors.js';
import { PUBLIC_ROUTE, REQUIRED_PERMISSIONS } from './access.js';
import { actorOf, type IdentifiedRequest } from './identity.js';
import type { Permission } from './permissions.js';

/** Closed by default: a route is open to those who hold its permissions, or to all when it says `@Public()`; else to nobody. */
@Injectable()
export class PermissionsGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly audit: AuditService,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const targets = [context.getHandler(), context.getClass()];
    if (this.reflector.getAllAndOverride<boolean>(PUBLIC_ROUTE, targets)) return true;
    const request = context
      .switchToHttp()
      .getRequest<IdentifiedRequest & { path: string; method: string; headers: Record<string, string | undefined> }>();
    const { identity } = request;
    if (!identity) throw Errors.unauthorized(request.identityRefusal);
    const wanted = request.headers['x-organization'];
    if (wanted !== undefined && wanted !== '' && wanted !== identity.organizationId)
      throw Errors.notFound('organization', wanted.slice(0, 100));
    const required = this.reflector.getAllAndOverride<Permission[] | undefined>(REQUIRED_PERMISSIONS, targets);
    if (!required) throw new Error(`${request.method} ${request.path} declares neither a permission nor @Public()`);
    const missing = required.filter((permission) => !identity.permissions.has(permission));
    if (missing.length === 0) return true;
    await this.audit.record(undefined, {
      organizationId: identity.organizationId,
      actor: actorOf(identity),
      action: 'access.denied',
      resource: { kind: 'route', id: `${request.method} ${request.path}`.slice(0, 200) },
      result: 'denied',
      changes: { missing },
    });
    throw Errors.forbidden(missing);
  }
}
