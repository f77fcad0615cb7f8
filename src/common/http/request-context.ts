import { AsyncLocalStorage } from 'node:async_hooks';
import type { NextFunction, Request, Response } from 'express';
import { randomBytes } from 'node:crypto';
import { isIP } from 'node:net';

/** Who acts: filled in once the caller is known; `system` for the server's own work. */
export interface Actor {
  kind: 'api-key' | 'user' | 'system';
  id: string;
  name: string;
}

/** How an actor is written in logs. */
export function actorName(actor: Actor): string {
  return `${actor.kind}:${actor.id}`;
}

export const SYSTEM_ACTOR: Actor = { kind: 'system', id: 'system', name: 'Backstay' };

export interface RequestContext {
  requestId: string;
  address: string | null;
  userAgent: string | null;
  actor?: Actor;
  organizationId?: string;
}

const storage = new AsyncLocalStorage<RequestContext>();

/** The request that is being served, wherever in the code; undefined in background work. */
export function requestContext(): RequestContext | undefined {
  return storage.getStore();
}

const GIVEN_ID = /^[\w.:-]{1,64}$/;

/** The caller's `x-request-id` when it is harmless, else a new one. */
function requestIdOf(request: { headers: Record<string, string | string[] | undefined>; id?: unknown }): string {
  const given = request.headers['x-request-id'];
  if (typeof given === 'string' && GIVEN_ID.test(given)) return given;
  return `req_${randomBytes(9).toString('base64url')}`;
}

/**
 * The client's address: as the trusted proxies say (TRUST_PROXY), or the socket's where that is no address. An IPv4 client of a socket that
 * listens on IPv6 too is told as IPv4.
 */
function addressOf({ ip, socket }: Request): string | null {
  const address = ip !== undefined && isIP(ip) !== 0 ? ip : socket.remoteAddress;
  return address?.replace(/^::ffff:(?=\d+\.)/i, '') ?? null;
}

/** Gives each request its id (also in the answer's `x-request-id`) and a context that logs and audit entries read. */
export function requestContextMiddleware(
  request: Request & { requestId?: string },
  response: Response,
  next: NextFunction,
): void {
  const requestId = requestIdOf(request);
  request.requestId = requestId;
  response.setHeader('x-request-id', requestId);
  const userAgent = request.headers['user-agent'];
  storage.run({ requestId, address: addressOf(request), userAgent: userAgent?.slice(0, 300) ?? null }, next);
}
