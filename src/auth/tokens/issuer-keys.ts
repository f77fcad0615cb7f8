import { Injectable, Logger } from '@nestjs/common';
import { createPublicKey, createSecretKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { Errors } from '../../common/errors.js';
import { OutboundHttp } from '../../common/outbound/outbound-http.js';
import { IdentityCache } from '../identity-cache.js';
import type { IssuerSettings } from '../../config/issuer-settings.js';

const FRESH_MS = 10 * 60_000;
/** A token with an unknown `kid` makes us look again, but not oftener than this. */
const LOOK_AGAIN_MS = 30_000;
/** While an issuer is down its known keys serve on, this long at most. */
const STALE_MS = 24 * 3_600_000;
const TIMEOUT_MS = 5_000;
const MOST_BYTES = 256 * 1024;

interface PublicJwk extends JsonWebKey {
  kid?: string;
  use?: string;
  alg?: string;
}

interface KeySet {
  keys: { kid: string | undefined; alg: string | undefined; type: 'RSA' | 'EC'; key: KeyObject }[];
  fetchedAt: number;
}

interface Known {
  set?: KeySet;
  triedAt: number;
  looking?: Promise<KeySet> | undefined;
}

/** The public keys of issuers: fetched through the guarded client, kept, looked up by `kid` among what the issuer has published and nowhere else. */
@Injectable()
export class IssuerKeys {
  private readonly logger = new Logger('auth');
  private readonly known = new Map<string, Known>();

  constructor(
    private readonly http: OutboundHttp,
    private readonly cache: IdentityCache,
  ) {}

  /**
   * The key that a token must be signed with.
   * @returns undefined when the issuer has no such key
   * @throws UNAVAILABLE when the issuer does not answer and nothing of it is known
   */
  async find(issuer: IssuerSettings, header: { alg: string; kid?: unknown }, now = Date.now()): Promise<KeyObject | undefined> {
    if (header.alg === 'HS256') return createSecretKey(Buffer.from(issuer.secret ?? '', 'utf8'));
    const known = this.known.get(issuer.issuer) ?? { triedAt: 0 };
    this.known.set(issuer.issuer, known);
    const isFresh = known.set && now - known.set.fetchedAt < FRESH_MS;
    if (!isFresh) await this.look(issuer, known, now);
    let key = pick(known.set, header);
    if (!key && now - known.triedAt >= LOOK_AGAIN_MS) {
      await this.look(issuer, known, now);
      key = pick(known.set, header);
    }
    return key;
  }

  private async look(issuer: IssuerSettings, known: Known, now: number): Promise<void> {
    const canWait = known.set && now - known.set.fetchedAt < STALE_MS;
    // An issuer that is down is not asked anew by every request.
    if (now - known.triedAt < LOOK_AGAIN_MS && !known.looking) {
      if (canWait) return;
      throw down(issuer);
    }
    known.triedAt = now;
    known.looking ??= this.fetch(issuer, now).finally(() => (known.looking = undefined));
    try {
      const fresh = await known.looking;
      // Tokens of a key that the issuer has taken back count no longer.
      if (known.set?.keys.some(({ kid }) => !fresh.keys.some((each) => each.kid === kid))) this.cache.forget();
      known.set = fresh;
    } catch (cause) {
      this.logger.warn({ event: 'issuer.unreachable', issuer: issuer.issuer, err: cause }, 'issuer.unreachable');
      if (!canWait) throw down(issuer, cause);
    }
  }

  private async fetch(issuer: IssuerSettings, now: number): Promise<KeySet> {
    const url = issuer.jwksUri ?? (await this.discover(issuer));
    const { keys } = (await this.json(url)) as { keys?: unknown };
    if (!Array.isArray(keys)) throw new Error(`${url} is no list of keys`);
    return { keys: keys.slice(0, 100).flatMap(imported), fetchedAt: now };
  }

  private async discover({ issuer, kind }: IssuerSettings): Promise<string> {
    const base = issuer.replace(/\/$/, '');
    if (kind !== 'oidc') return `${base}/.well-known/jwks.json`;
    const found = (await this.json(`${base}/.well-known/openid-configuration`)) as { issuer?: unknown; jwks_uri?: unknown };
    if (found.issuer !== issuer) throw new Error(`The discovery document of ${issuer} is of another issuer`);
    if (typeof found.jwks_uri !== 'string') throw new Error(`The discovery document of ${issuer} names no jwks_uri`);
    return found.jwks_uri;
  }

  private async json(url: string): Promise<object> {
    const headers = { accept: 'application/json' };
    const answer = await this.http.request({ method: 'GET', url, headers, timeoutMs: TIMEOUT_MS, maxBytes: MOST_BYTES });
    if (answer.status !== 200) throw new Error(`${url} answered ${answer.status}`);
    const value = JSON.parse(answer.body.toString('utf8')) as unknown;
    if (typeof value !== 'object' || value === null) throw new Error(`${url} is no JSON object`);
    return value;
  }
}

function imported(jwk: PublicJwk): KeySet['keys'] {
  if ((jwk.kty !== 'RSA' && jwk.kty !== 'EC') || (jwk.use !== undefined && jwk.use !== 'sig')) return [];
  try {
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    return [{ kid: typeof jwk.kid === 'string' ? jwk.kid : undefined, alg: jwk.alg, type: jwk.kty, key }];
  } catch {
    return [];
  }
}

/** By `kid`, exactly; without one only where there is no choice. */
function pick(set: KeySet | undefined, { alg, kid }: { alg: string; kid?: unknown }): KeyObject | undefined {
  const fit = (set?.keys ?? []).filter(
    (each) => each.type === (alg.startsWith('ES') ? 'EC' : 'RSA') && (each.alg ?? alg) === alg,
  );
  if (kid === undefined) return fit.length === 1 ? fit[0]?.key : undefined;
  return fit.find((each) => each.kid === kid)?.key;
}

function down({ issuer }: IssuerSettings, cause?: unknown) {
  return Errors.unavailable(`The issuer ${issuer} does not answer, so its tokens can't be checked now; try again.`, { cause });
}
