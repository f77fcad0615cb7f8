/** What can become stale; a write names the topics that it changes. */
export const CACHE_TOPICS = [
  'backups',
  'restores',
  'verifications',
  'sources',
  'keys',
  'notifications',
  'retention',
  'destinations',
] as const;
export type CacheTopic = (typeof CACHE_TOPICS)[number];

/** How long an answer may be kept, in milliseconds. */
export const CACHE_TTL_MS = { short: 60_000, medium: 300_000, long: 3_600_000 } as const;
export type CacheTtl = keyof typeof CACHE_TTL_MS;

/** Builders of every key, so that no two uses can meet by accident. */
export const cacheKeys = {
  /** The answer to a GET: who asks from which organization with which permissions, and for what. */
  answer: (organizationId: string, generation: string, permissions: Iterable<string>, url: string) =>
    `answer|${organizationId}|${generation}|${[...permissions].sort().join(',')}|${url}`,
  value: (organizationId: string, generation: string, name: string) => `value|${organizationId}|${generation}|${name}`,
} as const;
