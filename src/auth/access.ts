import { applyDecorators, SetMetadata } from '@nestjs/common';
import { ApiExtension, ApiSecurity } from '@nestjs/swagger';
import { type Permission, PERMISSIONS } from './permissions.js';

export const REQUIRED_PERMISSIONS = 'backstay:permissions';
export const PUBLIC_ROUTE = 'backstay:public';

/** Who may call this route: those who hold all of these permissions. Guards it and documents it. */
export const RequirePermissions = (...permissions: [Permission, ...Permission[]]) =>
  applyDecorators(
    SetMetadata(REQUIRED_PERMISSIONS, permissions),
    ApiExtension('x-permission', permissions.join(' ')),
    ApiExtension('x-permission-means', permissions.map((permission) => PERMISSIONS[permission]).join('; ')),
    ApiSecurity('api-key'),
  );

/** Anybody may call this route. */
export const Public = () => applyDecorators(SetMetadata(PUBLIC_ROUTE, true), ApiExtension('x-permission', 'public'));
