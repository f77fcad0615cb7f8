import { type Permission, ROLE_PERMISSIONS } from '../../src/auth/permissions.js';
import { PASSWORD, type RouteWorld } from './route-world.js';

/** One request to a route. */
interface Call {
  /** What stands for each part of the path that is in braces. */
  path?: Record<string, string>;
  query?: string;
  body?: object;
  headers?: Record<string, string>;
}

interface Expectation {
  /** The request; `caller` says as whom it will be sent. Asked anew for each who may call, so it may use a row up. */
  call?: (world: RouteWorld, caller: Caller) => Call | Promise<Call>;
  /** What those who may call are answered; 200 when left out. Anything else needs a word why. */
  answers?: number | ((caller: Caller) => number);
  /** What another organization's owner is answered: 404 where the path names a row of ours, else what all are answered. */
  stranger?: number;
  /** What one must hold besides the route's permission for this very request. */
  alsoNeeds?: readonly Permission[];
}

export interface Caller {
  kind: 'nobody' | 'user' | 'api-key';
}

const idOf = (id: (world: RouteWorld) => string | Promise<string>, more: Omit<Call, 'path'> = {}) => ({
  call: async (world: RouteWorld): Promise<Call> => ({ path: { id: await id(world) }, ...more }),
});
const bodyOf = (body: (world: RouteWorld) => object | Promise<object>) => ({
  call: async (world: RouteWorld): Promise<Call> => ({ body: await body(world) }),
});
const aMember = (body?: object) => ({
  call: async (world: RouteWorld): Promise<Call> => {
    const path = { id: world.organization, memberId: (await world.member()).id };
    return body ? { path, body } : { path };
  },
  // Nobody takes a role away, or the password of it, that can do more than they can.
  alsoNeeds: ROLE_PERMISSIONS.viewer,
});
const OURS = (world: RouteWorld) => world.organization;
const BACKUP = (world: RouteWorld) => world.backup;
const RESTORE = (world: RouteWorld) => world.restore;

/**
 * A request to each route that succeeds for those who may call it. Every route needs its line here; who may call is not said here but
 * by the route's `x-permission`. See test/e2e/route-matrix.spec.ts.
 */
export const ROUTE_EXPECTATIONS: Record<string, Expectation> = {
  'GET /api/keys': {},
  'POST /api/keys/confirm-saved': {},
  'POST /api/keys': { call: () => ({ body: { scope: 'organization' } }) },
  'GET /api/keys/recovery-kit': {},
  'POST /api/keys/recovery-kit': {},

  'GET /api/audit': {},
  'GET /api/audit/export': {},
  'GET /api/audit/check': {},
  'GET /api/reports/compliance': {},

  'POST /api/auth/login': bodyOf(async (world) => ({ email: (await world.member()).email, password: PASSWORD })),
  'POST /api/auth/refresh': bodyOf(async (world) => ({
    refreshToken: (await world.session((await world.member()).email)).refreshToken,
  })),
  // Keys are revoked and have no session to end.
  'POST /api/auth/logout': {
    call: async (world, { kind }) => {
      if (kind !== 'user') return {};
      const { token } = await world.session((await world.member()).email);
      return { headers: { authorization: `Bearer ${token}` } };
    },
    answers: ({ kind }) => (kind === 'user' ? 200 : 409),
  },
  // Keys have no password.
  'POST /api/auth/password': {
    ...bodyOf(() => ({ currentPassword: PASSWORD, newPassword: PASSWORD })),
    answers: ({ kind }) => (kind === 'user' ? 200 : 409),
  },
  'GET /api/auth/me': {},
  'GET /api/auth/api-keys': {},
  'POST /api/auth/api-keys': bodyOf((world) => ({ name: world.name(), permissions: ['apikey:manage'] })),
  'GET /api/auth/api-keys/{id}': idOf((world) => world.apiKey()),
  'DELETE /api/auth/api-keys/{id}': idOf((world) => world.apiKey()),

  'GET /api/organizations': {},
  'POST /api/organizations': bodyOf((world) => ({ name: world.name() })),
  'GET /api/organizations/{id}': idOf(OURS),
  'PUT /api/organizations/{id}': idOf(OURS, { body: { name: 'ours-renamed' } }),
  // The installation's first organization stays.
  'DELETE /api/organizations/{id}': { ...idOf(OURS, { query: 'confirm=ours-renamed' }), answers: 409 },
  'GET /api/organizations/{id}/members': idOf(OURS),
  'POST /api/organizations/{id}/members': {
    call: (world) => ({ path: { id: world.organization }, body: { email: `${world.name()}@example.org`, role: 'viewer' } }),
    alsoNeeds: ROLE_PERMISSIONS.viewer,
  },
  'PUT /api/organizations/{id}/members/{memberId}': aMember({ role: 'viewer' }),
  'DELETE /api/organizations/{id}/members/{memberId}': aMember(),
  'POST /api/organizations/{id}/members/{memberId}/reset-password': aMember({}),

  'GET /api/destinations': {},
  'POST /api/destinations': bodyOf((world) => ({ name: world.name(), kind: 'local', folder: world.name() })),
  'GET /api/destinations/{id}': idOf((world) => world.destination),
  'PUT /api/destinations/{id}': idOf((world) => world.destination, { body: { isDefault: false } }),
  'DELETE /api/destinations/{id}': idOf((world) => world.folder()),
  'POST /api/destinations/{id}/test': idOf((world) => world.destination),
  'POST /api/destinations/{id}/adopt': idOf((world) => world.destination, { body: {} }),

  'GET /api/sources': {},
  'POST /api/sources': bodyOf((world) => ({ name: world.name(), url: 'postgresql://a:b@db.example.org/x' })),
  'GET /api/sources/{id}': idOf((world) => world.source),
  'PUT /api/sources/{id}': idOf((world) => world.source, { body: { lockTimeoutMs: 30_000 } }),
  'DELETE /api/sources/{id}': idOf((world) => world.idleSource()),
  'POST /api/sources/{id}/test': idOf((world) => world.source),

  'GET /api/notifications/channels': {},
  'POST /api/notifications/channels': bodyOf((world) => world.channelBody()),
  'GET /api/notifications/channels/{id}': idOf((world) => world.channel()),
  'PUT /api/notifications/channels/{id}': idOf((world) => world.channel(), { body: { enabled: false } }),
  'DELETE /api/notifications/channels/{id}': idOf((world) => world.channel()),
  'POST /api/notifications/channels/{id}/test': idOf((world) => world.channel()),
  'GET /api/notifications/channels/{id}/deliveries': idOf((world) => world.channel()),

  'GET /api/alerts': {},
  'POST /api/alerts/{id}/acknowledge': idOf((world) => world.alert(), { body: {} }),

  'GET /api/backups/schedule': {},
  'POST /api/backups/schedule': { ...bodyOf((world) => world.scheduleBody()), stranger: 404 },
  'PUT /api/backups/schedule': { ...bodyOf(async (world) => ({ id: await world.schedule(), enabled: false })), stranger: 404 },
  'DELETE /api/backups/schedule': {
    call: async (world) => ({ query: `id=${await world.schedule()}` }),
    stranger: 404,
  },
  'POST /api/backups/schedule/{id}/run': idOf((world) => world.schedule()),

  'GET /api/backups/compare': { call: ({ backup }) => ({ query: `base=${backup}&head=${backup}` }), stranger: 404 },
  'GET /api/backups/list': {},
  'GET /api/backups/stats': {},
  'POST /api/backups/create': { ...bodyOf(({ source }) => ({ source })), stranger: 404 },
  'GET /api/backups/{id}/details': idOf(BACKUP),
  'GET /api/backups/{id}/progress': idOf(BACKUP),
  'POST /api/backups/{id}/cancel': idOf((world) => world.backupLike({ status: 'queued' })),
  'POST /api/backups/{id}/pin': idOf(BACKUP),
  'POST /api/backups/{id}/unpin': idOf(BACKUP),
  'GET /api/backups/{id}/download': idOf(BACKUP),
  'DELETE /api/backups/{id}': idOf((world) => world.backupLike()),
  'POST /api/backups/{id}/undelete': idOf((world) => world.backupLike({ deleted_at: new Date() })),
  'POST /api/backups/{id}/restore': idOf(BACKUP, {
    body: { target: { mode: 'new-database', database: 'ours_plan' }, dryRun: true },
  }),
  'POST /api/backups/{id}/verify': idOf(BACKUP, { body: { level: 0 } }),

  'GET /api/retention-policies': {},
  'POST /api/retention-policies': {
    ...bodyOf((world) => ({ name: world.name(), keepLast: 3, sources: [world.source] })),
    stranger: 404,
  },
  'GET /api/retention-policies/{id}': idOf((world) => world.policy()),
  'PUT /api/retention-policies/{id}': idOf((world) => world.policy(), { body: { keepLast: 4 } }),
  'DELETE /api/retention-policies/{id}': idOf((world) => world.policy()),
  'GET /api/retention-policies/{id}/preview': idOf((world) => world.policy()),

  'GET /api/restores': {},
  'GET /api/restores/{id}': idOf(RESTORE),
  'GET /api/restores/{id}/progress': idOf(RESTORE),
  'POST /api/restores/{id}/cancel': idOf((world) => world.restoreLike({ status: 'queued' })),
  // Only a swap can be reverted.
  'POST /api/restores/{id}/revert': { ...idOf(RESTORE), answers: 409 },
  'GET /api/verifications/{id}': idOf((world) => world.verification),
  'GET /api/verifications/{id}/progress': idOf((world) => world.verification),
  'POST /api/verifications/{id}/cancel': idOf((world) => world.verificationLike({ status: 'queued' })),
  'GET /api/verifications/{id}/certificate': idOf((world) => world.verification),

  'GET /api/webhooks/endpoints': {},
  'POST /api/webhooks/endpoints': bodyOf((world) => world.hookBody()),
  'GET /api/webhooks/endpoints/{id}': idOf((world) => world.endpoint),
  'PUT /api/webhooks/endpoints/{id}': idOf((world) => world.endpoint, { body: { description: 'ours-changed' } }),
  'DELETE /api/webhooks/endpoints/{id}': idOf((world) => world.hook()),
  'POST /api/webhooks/endpoints/{id}/rotate-secret': idOf((world) => world.endpoint, { body: {} }),
  'POST /api/webhooks/endpoints/{id}/test': idOf((world) => world.endpoint),
  'GET /api/webhooks/endpoints/{id}/deliveries': idOf((world) => world.endpoint),
  'POST /api/webhooks/endpoints/{id}/redeliver': idOf((world) => world.endpoint, { body: { since: '2026-01-01T00:00:00Z' } }),
  'GET /api/webhooks/deliveries': {},
  'GET /api/webhooks/deliveries/{id}': idOf((world) => world.delivery),
  'POST /api/webhooks/deliveries/{id}/redeliver': idOf((world) => world.delivery),
  'POST /api/webhooks/backup-complete': { call: (world) => world.report() },
  'GET /api/webhooks/inbound-secret': {},
  'DELETE /api/webhooks/inbound-secret': {
    call: async (world) => {
      await world.inboundSecret();
      return {};
    },
    stranger: 404,
  },
  'POST /api/webhooks/inbound-secret/rotate': bodyOf(() => ({})),

  'GET /api/status/live': {},
  'GET /api/status/ready': {},
  'GET /api/status/health': {},
  'GET /api/status/metrics': {},
};
