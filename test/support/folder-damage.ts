import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Numbers from 0 to below n, the same for the same seed. */
export type Random = (n: number) => number;

/** A small generator (mulberry32), so that a round can be run again. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

const DAMAGES = ['cut', 'empty', 'remove', 'flip'] as const;
export type Damage = (typeof DAMAGES)[number];

/** Files below a folder, in a fixed order. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** Does one thing to one file. @returns what was done */
export function damageFile(file: string, damage: Damage, random: Random): string {
  const { size } = statSync(file);
  if (damage === 'remove') rmSync(file);
  else if (damage === 'empty') truncateSync(file, 0);
  else if (damage === 'cut') truncateSync(file, random(size + 1));
  else if (size > 0) {
    const bytes = readFileSync(file);
    const at = random(size);
    bytes[at] = bytes[at]! ^ (1 << random(8));
    writeFileSync(file, bytes);
  }
  return `${damage} ${file}`;
}

/** Damages one to three files below a folder. @returns what was done */
export function damageSome(folder: string, random: Random): string[] {
  const done: string[] = [];
  for (let left = 1 + random(3); left > 0; left -= 1) {
    const files = filesBelow(folder);
    done.push(damageFile(files[random(files.length)]!, DAMAGES[random(DAMAGES.length)]!, random));
  }
  return done;
}
