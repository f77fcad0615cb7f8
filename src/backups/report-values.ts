const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, sec: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 };
const UNIT_BYTES: Record<string, number> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
};
const ISO = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$/;
const CLOCK = /^(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)$/;
const PARTS = /^(?:\d+(?:\.\d+)?\s*(?:ms|sec|s|min|m|h|d)\s*)+$/;

/**
 * A duration as scripts write it, in milliseconds: `15s`, `1m 30s`, `2.5h`, `500ms`, `00:01:30`, `PT15S`; a bare number is seconds.
 * @returns undefined when it is none
 */
export function parseDuration(value: string | number): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? Math.round(value * 1000) : undefined;
  const text = value.trim();
  if (/^\d+(\.\d+)?$/.test(text)) return Math.round(Number(text) * 1000);
  const clock = CLOCK.exec(text);
  if (clock) return Math.round((Number(clock[1] ?? 0) * 3600 + Number(clock[2]) * 60 + Number(clock[3])) * 1000);
  const iso = ISO.exec(text);
  if (iso && /\d/.test(text)) {
    const [days = 0, hours = 0, minutes = 0, seconds = 0] = iso.slice(1).map((part) => Number(part ?? 0));
    return Math.round((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000);
  }
  if (!PARTS.test(text.toLowerCase())) return undefined;
  const parts = [...text.toLowerCase().matchAll(/(\d+(?:\.\d+)?)\s*([a-z]+)/g)];
  return Math.round(parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (UNIT_MS[unit ?? ''] ?? 0), 0));
}

/** A size as scripts write it, in bytes: `1048576`, `12MB`, `1.5 GiB`. @returns undefined when it is none */
export function parseSize(value: string | number): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/.exec(value.trim().toLowerCase());
  const unit = match && (match[2] === '' ? 1 : UNIT_BYTES[match[2] ?? '']);
  const bytes = match && unit ? Math.round(Number(match[1]) * unit) : undefined;
  return bytes !== undefined && Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The time that stands in a backup's id. @returns undefined when there is no such time */
export function timeOfId(id: string): Date | undefined {
  const match = /^backup_(\d{4}-\d{2}-\d{2})_(\d{2})-(\d{2})-(\d{2})/.exec(id);
  if (!match) return undefined;
  const text = `${match[1]}T${match[2]}:${match[3]}:${match[4]}.000Z`;
  const time = new Date(text);
  // 30 February would quietly become a day in March.
  return !Number.isNaN(time.getTime()) && time.toISOString() === text ? time : undefined;
}
