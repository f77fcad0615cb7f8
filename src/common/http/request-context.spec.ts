import { describe, expect, it } from '@jest/globals';
import type { Request, Response } from 'express';
import { requestContext, requestContextMiddleware } from './request-context.js';

function addressOf(ip: string | undefined, remoteAddress?: string): string | null | undefined {
  let address: string | null | undefined;
  requestContextMiddleware(
    { ip, headers: {}, socket: { remoteAddress } } as Request,
    { setHeader: () => undefined } as unknown as Response,
    () => {
      address = requestContext()?.address;
    },
  );
  return address;
}

describe("a client's address in logs and the audit trail", () => {
  it.each([
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['192.0.2.7', '192.0.2.7'],
    ['2001:db8::1', '2001:db8::1'],
    ['::ffff:a:1', '::ffff:a:1'],
    [undefined, null],
  ])('is written in its own family: %s', (ip, written) => {
    expect(addressOf(ip)).toBe(written);
  });

  it("is the socket's where a proxy passes on what is no address", () => {
    expect(addressOf('unknown\nline', '::ffff:192.0.2.7')).toBe('192.0.2.7');
  });
});
