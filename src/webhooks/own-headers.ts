import { Errors } from '../common/errors.js';

const NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/;
const VALUE = /^[\t\x20-\x7e]{1,2000}$/;
const MOST = 20;
/** What signs the message, what frames it, and what proxies and browsers rely on. */
const TAKEN =
  /^(webhook-.*|proxy-.*|sec-.*|host|connection|content-.*|transfer-encoding|keep-alive|te|trailer|upgrade|expect|accept-encoding|user-agent|date)$/i;

/** Checks the headers that an endpoint's owner wants to be sent along. @throws VALIDATION_ERROR that names the header, never its value */
export function checkOwnHeaders(headers: Record<string, unknown>): Record<string, string> {
  const entries = Object.entries(headers);
  if (entries.length > MOST) throw Errors.validation({ headers: `may be ${MOST} at most` });
  const seen = new Set<string>();
  for (const [name, value] of entries) {
    const field = `headers.${name.slice(0, 100)}`;
    if (!NAME.test(name)) throw Errors.validation({ [field]: 'is not the name of a header' });
    if (TAKEN.test(name)) throw Errors.validation({ [field]: 'is sent by the server itself; choose another name' });
    if (seen.has(name.toLowerCase())) throw Errors.validation({ [field]: 'stands twice' });
    seen.add(name.toLowerCase());
    if (typeof value !== 'string' || !VALUE.test(value) || value.trim() !== value)
      throw Errors.validation({ [field]: 'must be a text of 1 to 2000 printable ASCII characters' });
  }
  return headers as Record<string, string>;
}
