import { Algorithm, hash, verify } from '@node-rs/argon2';
import { createHash } from 'node:crypto';

const SHORTEST_PASSWORD = 12;
const LONGEST_PASSWORD = 256;

/** As OWASP advises for argon2id: 19 MiB, two passes, one lane. */
const COST = { algorithm: 2 as Algorithm.Argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 };

/** What people take when twelve characters are asked for. */
const COMMON = [
  'password', 'passwort', 'qwerty', 'qwertz', 'azerty', 'letmein', 'welcome', 'iloveyou', 'admin', 'administrator', 'changeme', 'secret',
  'monkey', 'dragon', 'football', 'baseball', 'sunshine', 'princess', 'trustno1', 'superman', 'batman', 'master', 'login', 'abc', 'abcdef',
  'backstay', 'backup', 'postgres', 'supabase', 'database', 'test', 'default', 'root', 'hello', 'asdfgh', 'asdfghjkl', 'qwertyuiop', 'zxcvbnm',
  'pass', 'word', 'user', 'owner', 'summer', 'winter', 'spring', 'autumn', 'company',
].sort((a, b) => b.length - a.length); // prettier-ignore

/** @returns why the password is too weak; undefined when it will do */
export function weaknessOf(password: string, email: string | null): string | undefined {
  if (password.length < SHORTEST_PASSWORD) return `must have ${SHORTEST_PASSWORD} characters at least`;
  if (password.length > LONGEST_PASSWORD) return `must have ${LONGEST_PASSWORD} characters at most`;
  const plain = password.toLowerCase().normalize('NFKC');
  if (new Set(plain).size < 5) return 'must have five different characters at least';
  const name = email?.split('@')[0] ?? '';
  if (name.length >= 4 && plain.includes(name)) return 'must not hold the name of the e-mail address';
  if (isCommon(plain)) return 'is made of common words and digits; take several words that have nothing to do with each other';
  return undefined;
}

/** True when nothing is left of it but four characters, once common words, runs of digits and what is put between them are gone. */
function isCommon(plain: string): boolean {
  let rest = plain.replaceAll('0', 'o').replaceAll('@', 'a').replaceAll('$', 's').replaceAll('3', 'e');
  for (const word of COMMON) rest = rest.replaceAll(word, '');
  return rest.replaceAll(/[^\p{L}]/gu, '').length < 4;
}

/** An argon2id hash with its salt and costs. */
export function hashPassword(password: string): Promise<string> {
  return hash(password.normalize('NFKC'), COST);
}

let decoy: Promise<string> | undefined;

/** Compares; where there is no account it works just as long, and says no. */
export async function passwordIs(password: string, passwordHash: string | null | undefined): Promise<boolean> {
  decoy ??= hashPassword('an account that does not exist');
  const matches = await verify(passwordHash ?? (await decoy), password.normalize('NFKC'));
  return matches && typeof passwordHash === 'string';
}

/** What failures are counted by: also for addresses without an account, so that nobody learns which there are. */
export function accountHash(email: string): Buffer {
  return createHash('sha256').update(email).digest();
}

const FREE_FAILURES = 5;
const LONGEST_BLOCK_MS = 15 * 60_000;

/** How long an account takes no password after so many failures in a row, in milliseconds: none for five, then 2 s, doubled each time, 15 min at most. */
export function backoffMs(failures: number): number {
  if (failures < FREE_FAILURES) return 0;
  return Math.min(LONGEST_BLOCK_MS, 2_000 * 2 ** Math.min(20, failures - FREE_FAILURES));
}
