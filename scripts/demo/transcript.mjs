import { styleText } from 'node:util';

const terminal = process.stdout.isTTY === true;
const NAME_WIDTH = 32;

/** A line that stays. */
export function say(text = '') {
  process.stdout.write(`${text}\n`);
}

export const bold = (text) => styleText('bold', text);
export const dim = (text) => styleText('dim', text);

/** `✔ name  details`, or with ✘ what is not well. */
export function finding(ok, name, details) {
  say(`  ${ok ? styleText('green', '✔') : styleText('red', '✘')} ${name.padEnd(NAME_WIDTH)}  ${details}`);
}

/**
 * Does a piece of work and writes one line about it. The work is handed a function that shows a run's progress (on a terminal
 * only), and gives `{ value, details }`.
 */
export async function step(name, work) {
  const startedAt = performance.now();
  const show = (text) => terminal && process.stdout.write(`\r\x1b[2K  … ${name.padEnd(NAME_WIDTH)}  ${text}`);
  const clear = () => terminal && process.stdout.write('\r\x1b[2K');
  show('');
  try {
    const { value, details } = await work(({ phase, percent }) => show(`${phase} ${Math.round(percent)} %`));
    clear();
    finding(true, name, `${seconds(performance.now() - startedAt).padStart(6)}   ${details}`);
    return value;
  } catch (error) {
    clear();
    finding(false, name, seconds(performance.now() - startedAt).padStart(6));
    throw error;
  }
}

export function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}

export function count(number, noun) {
  return `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
}

export function bytes(number) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = number < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(number) / 3));
  return `${(number / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}
