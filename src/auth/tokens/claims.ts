import type { IssuerSettings } from '../../config/issuer-settings.js';
import { type Role, ROLES } from '../permissions.js';

export interface Claims {
  iss?: string;
  sub?: string;
  aud?: string | string[];
  exp?: number;
  role?: unknown;
  azp?: unknown;
  email?: unknown;
  name?: unknown;
  [name: string]: unknown;
}

const LONGEST_SUBJECT = 255;

/** @returns why a token with a good signature is not taken all the same; undefined when it is */
export function refusalOf(issuer: IssuerSettings, claims: Claims): string | undefined {
  if (typeof claims.exp !== 'number') return 'it never expires';
  if (typeof claims.sub !== 'string' || claims.sub === '' || claims.sub.length > LONGEST_SUBJECT || /\p{Cc}/u.test(claims.sub))
    return 'it has no sub';
  // Supabase's public and server-side keys are tokens of the same issuer.
  if (claims.role === 'anon' || claims.role === 'service_role') return 'it is of a machine, not of a person';
  if (issuer.kind === 'supabase' && claims.role !== 'authenticated') return 'its role is not authenticated';
  if (issuer.audience.length > 0) {
    const given = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
    if (!issuer.audience.some((audience) => given.includes(audience))) return 'its audience is another';
  }
  if (issuer.authorizedParties.length > 0 && !issuer.authorizedParties.includes(String(claims.azp))) return 'its azp is another';
  return undefined;
}

/** The role that the issuer's declared claim gives; undefined when there is none that we know. */
export function roleOf({ roleClaim }: IssuerSettings, claims: Claims): Role | undefined {
  if (roleClaim === undefined) return undefined;
  // A claim's name may itself hold dots, as those with a namespace do.
  const value = Object.hasOwn(claims, roleClaim)
    ? claims[roleClaim]
    : roleClaim
        .split('.')
        .reduce<unknown>(
          (inner, name) =>
            typeof inner === 'object' && inner !== null && Object.hasOwn(inner, name)
              ? (inner as Record<string, unknown>)[name]
              : undefined,
          claims,
        );
  const given: unknown[] = Array.isArray(value) ? value : [value];
  return ROLES.find((role) => given.includes(role));
}

/** What a person is called in lists and the trail, on one line. */
export function nameOf(claims: Claims): { name: string; email: string | null } {
  const plain = (value: unknown) =>
    typeof value === 'string' && value.trim() !== ''
      ? value
          .replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]/gu, ' ')
          .trim()
          .slice(0, 200)
      : undefined;
  const email = plain(claims.email)?.toLowerCase() ?? null;
  return { name: email ?? plain(claims.name) ?? String(claims.sub), email };
}
