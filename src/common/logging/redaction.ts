import { SECRET_HEADERS } from '../http/secret-headers.js';

/** Paths of a log line whose values never leave the process. */
export const REDACTED_PATHS = [
  'req.headers.authorization',
  'req.headers["x-api-key"]',
  ...SECRET_HEADERS.map((name) => `req.headers["${name}"]`),
  'req.headers.cookie',
  'res.headers["set-cookie"]',
  ...['password', 'secret', 'key', 'token', 'url', 'identity', 'passphrase', 'kit', 'connectionString'].flatMap((name) => [
    name,
    `*.${name}`,
    `*.*.${name}`,
  ]),
];

const URL_CREDENTIALS = /([a-z][a-z0-9+.-]*:\/\/[^\s:/@]*):[^\s/@]*@/gi;
const KEYWORD_SECRETS = /\b(password|passwd|pgpassword|secret|token)(\s*[=:]\s*)('[^']*'|"[^"]*"|[^\s,;)}]+)/gi;
const API_KEYS = /\bbsk_[\x21-\x7e]{8,}/g;
const AGE_KEYS = /AGE-SECRET-KEY-1[0-9A-Z]+/gi;

/** Takes credentials out of free text, such as a driver's message. */
export function redact(text: string): string {
  return text
    .replace(URL_CREDENTIALS, '$1:***@')
    .replace(KEYWORD_SECRETS, '$1$2***')
    .replace(API_KEYS, 'bsk_***')
    .replace(AGE_KEYS, 'AGE-SECRET-KEY-***');
}
