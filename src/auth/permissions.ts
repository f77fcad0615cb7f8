/** Every permission, with the sentence that the documents show. Feeds the type, the guard, Swagger and the table of roles. */
export const PERMISSIONS = {
  'backup:read': 'See backups, restores and verifications',
  'backup:create': 'Make and cancel backups',
  'backup:verify': 'Verify backups',
  'backup:restore': 'Restore backups',
  'backup:download': 'Download artifacts',
  'backup:delete': 'Delete, pin and unpin backups',
  'source:read': 'See sources',
  'source:manage': 'Create, change, test and delete sources',
  'destination:read': 'See destinations',
  'destination:manage': 'Create, change, test and delete destinations',
  'schedule:read': 'See schedules and retention policies',
  'schedule:manage': 'Create, change, run and delete schedules and retention policies',
  'notification:read': 'See notification channels',
  'notification:manage': 'Create, change, test and delete notification channels',
  'webhook:manage': 'Manage webhook endpoints and deliveries',
  'member:manage': 'Manage members of the organization',
  'apikey:manage': 'Manage API keys',
  'key:manage': 'Manage encryption keys and the recovery kit',
  'audit:read': 'Read the audit trail',
  'report:read': 'Read reports',
  'system:status': "See the health's parts and metrics",
} as const;

export type Permission = keyof typeof PERMISSIONS;

export const ALL_PERMISSIONS = Object.keys(PERMISSIONS) as readonly Permission[];

const READ = [
  'backup:read',
  'source:read',
  'destination:read',
  'schedule:read',
  'notification:read',
  'system:status',
] as const satisfies readonly Permission[];
const OPERATE = [...READ, 'backup:create', 'backup:verify'] as const satisfies readonly Permission[];
const ADMINISTER = [
  ...OPERATE,
  'backup:restore',
  'backup:download',
  'backup:delete',
  'source:manage',
  'destination:manage',
  'schedule:manage',
  'notification:manage',
  'webhook:manage',
] as const satisfies readonly Permission[];

/** What each role of an organization may do. */
export const ROLE_PERMISSIONS = {
  viewer: READ,
  operator: OPERATE,
  admin: ADMINISTER,
  owner: ALL_PERMISSIONS,
  auditor: [...READ, 'audit:read', 'report:read'],
} as const satisfies Record<string, readonly Permission[]>;

export type Role = keyof typeof ROLE_PERMISSIONS;

export const ROLES = Object.keys(ROLE_PERMISSIONS) as readonly Role[];
