import { fault, type EnvironmentReader } from './environment-reader.js';

const ISSUER_KINDS = ['oidc', 'supabase', 'clerk', 'authjs'] as const;
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'HS256'] as const;
const ISSUER_ROLES = ['viewer', 'operator', 'admin', 'owner', 'auditor'] as const;
const FIELDS = [
  'issuer', 'kind', 'jwksUri', 'audience', 'algorithms', 'roleClaim', 'organization', 'autoJoinRole', 'secret', 'authorizedParties', 'cookieName',
]; // prettier-ignore
const SHORTEST_SECRET = 32;

/** Somebody whose tokens are trusted. */
export interface IssuerSettings {
  /** The `iss` of the tokens, exactly; for `authjs`, which has none, a name. */
  issuer: string;
  kind: (typeof ISSUER_KINDS)[number];
  /** Where the public keys are; by default where the kind has them. */
  jwksUri?: string;
  /** One of these must be in `aud`. */
  audience: readonly string[];
  /** Of one family. */
  algorithms: readonly (typeof ALGORITHMS)[number][];
  /** Path of the claim that holds the role, such as `app_metadata.role`. */
  roleClaim?: string;
  /** Id or name of the organization that the issuer's people belong to; the first when left out. */
  organization?: string;
  /** What somebody becomes at their first call, when no claim says so. */
  autoJoinRole?: (typeof ISSUER_ROLES)[number];
  /** For HS256 and Auth.js. */
  secret?: string;
  /** Clerk: the origins whose tokens are taken (`azp`). */
  authorizedParties: readonly string[];
  /** Auth.js: the session cookie's name, which is the salt; none means NextAuth v4. */
  cookieName?: string;
}

/** Reads and checks `AUTH_ISSUERS`; faults are gathered in the reader. */
export function issuerSettings(read: EnvironmentReader): IssuerSettings[] {
  const text = read.text('AUTH_ISSUERS');
  if (text === undefined) return [];
  const refuse = (why: string, mend: string) => void read.faults.push(fault('AUTH_ISSUERS', why, mend));
  let entries: unknown;
  try {
    entries = JSON.parse(text);
  } catch {
    entries = undefined;
  }
  if (!Array.isArray(entries)) {
    refuse('is not a JSON list', 'write [{"issuer":"https://…","kind":"oidc","audience":"…"}]');
    return [];
  }
  const issuers = entries.flatMap((entry: unknown, i) => {
    const why = faultOf(entry);
    if (why !== undefined) {
      refuse(`has an entry ${i + 1} that ${why}`, 'see docs/IDENTITY.md');
      return [];
    }
    return [withDefaults(entry as Record<string, unknown>)];
  });
  if (new Set(issuers.map(({ issuer }) => issuer)).size < issuers.length) refuse('names an issuer twice', 'give each one entry');
  return issuers;
}

/** @returns what is wrong with an entry */
function faultOf(entry: unknown): string | undefined {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return 'is not an object';
  const given = entry as Record<string, unknown>;
  const unknown = Object.keys(given).find((name) => !FIELDS.includes(name));
  if (unknown !== undefined) return `has a field "${unknown}" that is not known`;
  const { kind, issuer, secret, autoJoinRole } = given;
  if (!ISSUER_KINDS.includes(kind as never)) return `has no kind of ${ISSUER_KINDS.join(', ')}`;
  for (const name of ['issuer', 'jwksUri', 'roleClaim', 'organization', 'secret', 'cookieName'])
    if (given[name] !== undefined && (typeof given[name] !== 'string' || given[name] === ''))
      return `has a ${name} that is no text`;
  if (issuer === undefined) return 'has no issuer';
  if (kind !== 'authjs' && !isHttp(issuer)) return 'has an issuer that is no http(s) URL';
  if (given['jwksUri'] !== undefined && !isHttp(given['jwksUri'])) return 'has a jwksUri that is no http(s) URL';
  if (listOf(given['audience']) === undefined) return 'has an audience that is neither a text nor a list of texts';
  if (listOf(given['authorizedParties']) === undefined) return 'has authorizedParties that are no list of texts';
  const algorithms = listOf(given['algorithms']);
  if (algorithms === undefined || algorithms.some((each) => !ALGORITHMS.includes(each as never)))
    return `has algorithms that are not of ${ALGORITHMS.join(', ')}`;
  if (new Set(algorithms.map(familyOf)).size > 1) return 'mixes families of algorithms, by which keys could be confused';
  if (autoJoinRole !== undefined && !ISSUER_ROLES.includes(autoJoinRole as never))
    return `has an autoJoinRole that is none of ${ISSUER_ROLES.join(', ')}`;
  if (/(^|\.)user_metadata(\.|$)/.test(String(given['roleClaim'] ?? '')))
    return 'takes roles from user_metadata, which users write themselves';
  const symmetric = algorithms.includes('HS256') || kind === 'authjs';
  if (symmetric && (typeof secret !== 'string' || secret.length < SHORTEST_SECRET))
    return `needs a secret of ${SHORTEST_SECRET} characters at least`;
  if (!symmetric && secret !== undefined) return 'has a secret, which only HS256 and authjs use';
  if (kind === 'oidc' && listOf(given['audience'])?.length === 0)
    return "has no audience: another client's tokens would be taken";
  if (kind === 'clerk' && listOf(given['authorizedParties'])?.length === 0)
    return 'has no authorizedParties: tokens of any origin would be taken';
  return undefined;
}

function withDefaults(given: Record<string, unknown>): IssuerSettings {
  const { kind, ...rest } = given as unknown as IssuerSettings;
  const audience = listOf(given['audience']) ?? [];
  const algorithms = (listOf(given['algorithms']) ?? []) as IssuerSettings['algorithms'];
  const usual = kind === 'supabase' ? (['ES256'] as const) : (['RS256'] as const);
  return {
    ...rest,
    kind,
    audience: audience.length === 0 && kind === 'supabase' ? ['authenticated'] : audience,
    algorithms: algorithms.length === 0 ? usual : algorithms,
    authorizedParties: listOf(given['authorizedParties']) ?? [],
  };
}

function familyOf(algorithm: string): string {
  return algorithm.slice(0, 2);
}

function isHttp(value: unknown): boolean {
  return typeof value === 'string' && URL.canParse(value) && /^https?:$/.test(new URL(value).protocol);
}

function listOf(value: unknown): string[] | undefined {
  if (value === undefined) return [];
  const list = typeof value === 'string' ? [value] : value;
  return Array.isArray(list) && list.every((each) => typeof each === 'string' && each !== '') ? (list as string[]) : undefined;
}
