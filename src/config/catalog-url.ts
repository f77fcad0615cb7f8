import { accessSync, constants } from 'node:fs';
import { fault, type EnvironmentReader } from './environment-reader.js';

const NAME = 'DATABASE_URL';
const TLS_MODES = ['disable', 'require', 'verify-ca', 'verify-full'];
const FILES = ['sslrootcert', 'sslcert', 'sslkey'];
const KEYWORDS = ['sslmode', ...FILES, 'application_name'];

/**
 * Checks the URL of the shared catalog as far as that goes without a connection; adds a fault that names the part, never its value.
 * The operator's own URL may name certificate files, unlike a source's.
 */
export function checkCatalogUrl(read: EnvironmentReader, url: string): void {
  if (read.faults.some((found) => found.startsWith(NAME))) return;
  const { username, password, pathname, searchParams } = new URL(url);
  const problem = (what: string, mend: string) => read.faults.push(fault(NAME, what, mend));
  if (![username, password, pathname].every(isEncoded))
    problem('is not well percent-encoded', 'write "%" itself as "%25" in the user name, the password and the database name');
  for (const keyword of new Set(searchParams.keys())) {
    const [value = '', ...more] = searchParams.getAll(keyword);
    if (!KEYWORDS.includes(keyword))
      problem(`has the keyword "${keyword}", which is not known`, `use one of ${KEYWORDS.join(', ')}`);
    else if (more.length > 0) problem(`has the keyword "${keyword}" twice`, 'give it once');
    else if (keyword === 'sslmode' && !TLS_MODES.includes(value))
      problem('has an sslmode that is not known', `use one of ${TLS_MODES.join(', ')}`);
    else if (FILES.includes(keyword) && !isReadable(value))
      problem(`names a file as ${keyword} that can't be read`, 'mount it, or correct its path and rights');
  }
  if (searchParams.get('sslmode') === 'verify-ca' && !searchParams.has('sslrootcert'))
    problem('has sslmode=verify-ca and no sslrootcert', 'add sslrootcert=/path/to/ca.pem, or use verify-full');
}

function isEncoded(part: string): boolean {
  try {
    decodeURIComponent(part);
    return true;
  } catch {
    return false;
  }
}

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
