import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const KIB = 1024;
/** What Linux counts process times in, for every program: 1/100 s. */
const TICKS_PER_SECOND = 100;

/** CPU seconds of the children of this process that have ended. Linux only; NaN elsewhere. */
export function childrenCpuSeconds() {
  if (!existsSync('/proc/self/stat')) return Number.NaN;
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND;
}

function statusBytes(pid, field) {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]) * KIB;
}

/** Resident memory of a process. */
export function residentBytes(pid = 'self') {
  return existsSync('/proc') ? statusBytes(pid, 'VmRSS') : process.memoryUsage.rss();
}

/** Begins to watch the peak of a process's resident memory; the function that it gives tells it, in bytes. */
export function peakMemory(pid = 'self') {
  if (!existsSync('/proc')) return () => process.resourceUsage().maxRSS * KIB;
  // 5 sets VmHWM, the peak, back to what is resident now.
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
  return () => statusBytes(pid, 'VmHWM');
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
