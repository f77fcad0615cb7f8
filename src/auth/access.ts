import { applyDecorators, SetMetadata } from '@nestjs/common';
import { ApiExtension, ApiSecurity } from '@nestjs/swagger';
import { type Permission, PERMISSIONS } from './permissions.js';

export const REQUIRED_PERMISSIONS = 'backstay:permissions';
export const PUBLIC_ROUTE = 'backstay:public';
export const INSTANCE_OWNER_ROUTE = 'backstay:instance-owner';
export const ORGANIZATION_IN_PATH = 'backstay:organization-in-path';

/** Either scheme will do. */
const secured = () => applyDecorators(ApiSecurity('api-key'), ApiSecurity('bearer'));

/** Who may call this route: those who hold all of these permissions. Guards it and documents it. */
export const RequirePermissions = (...permissions: [Permission, ...Permission[]]) =>
  applyDecorators(
    SetMetadata(REQUIRED_PERMISSIONS, permissions),
    ApiExtension('x-permission', permissions.join(' ')),
    ApiExtension('x-permission-means', permissions.map((permission) => PERMISSIONS[permission]).join('; ')),
    secured(),
  );

/** Whoever is signed in may call this route, for it shows or changes what is their own. */
export const SignedIn = () =>
  applyDecorators(
    SetMetadata(REQUIRED_PERMISSIONS, []),
    ApiExtension('x-permission', 'signed-in'),
    ApiExtension('x-permission-means', 'Whoever is signed in'),
    secured(),
  );

/** Only the bootstrap key may call this route. */
export const InstanceOwnerOnly = () =>
  applyDecorators(
    SetMetadata(REQUIRED_PERMISSIONS, []),
    SetMetadata(INSTANCE_OWNER_ROUTE, true),
    ApiExtension('x-permission', 'instance-owner'),
    ApiExtension('x-permission-means', 'The bootstrap key'),
    secured(),
  );

/** The path's `:id` is the organization that the caller acts in, whatever `x-organization` says. */
export const OrganizationInPath = () => SetMetadata(ORGANIZATION_IN_PATH, true);

/** Anybody may call this route. */
export const Public = () => applyDecorators(SetMetadata(PUBLIC_ROUTE, true), ApiExtension('x-permission', 'public'));
