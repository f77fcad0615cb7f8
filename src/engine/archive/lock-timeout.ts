import { rewriteHeader } from './header-writer.js';

/**
 * Makes pg_restore wait no longer than this for a lock. It begins every session with `SET lock_timeout = 0`, whatever the session was
 * given; right after that it runs what the archive says of the search path, and this with it.
 * @param header as `readToc` gives it
 */
export function withLockTimeout(header: Buffer, milliseconds: number): Buffer {
  return rewriteHeader(header, ({ desc, defn }) =>
    desc === 'SEARCHPATH' ? { defn: `${defn}SET lock_timeout = ${Math.trunc(milliseconds)};\n` } : undefined,
  );
}
