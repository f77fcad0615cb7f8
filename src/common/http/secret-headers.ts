import type { IncomingHttpHeaders } from 'node:http';

/** An age identity that a request lends. */
export const AGE_IDENTITY_HEADER = 'x-age-identity';
/** The passphrase of one. */
export const AGE_PASSPHRASE_HEADER = 'x-age-passphrase';

/** Headers, besides those of the caller's identity, that hold a secret: no log has them. */
export const SECRET_HEADERS = [AGE_IDENTITY_HEADER, AGE_PASSPHRASE_HEADER] as const;

/** Whether a request came with such a secret: what is answered to it is for nobody else. */
export function carriesSecret(headers: IncomingHttpHeaders): boolean {
  return SECRET_HEADERS.some((name) => headers[name] !== undefined);
}
