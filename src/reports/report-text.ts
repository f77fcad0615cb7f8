/** Milliseconds as people read them: `2 d 3 h`, `14 min 2 s`, `820 ms`. */
export function durationText(ms: number | null): string {
  if (ms === null) return '–';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const units = [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
    ['s', 1000],
  ] as const;
  const first = units.findIndex(([, size]) => ms >= size);
  let rest = ms;
  const parts = units.slice(first, first + 2).map(([unit, size]) => {
    const count = Math.floor(rest / size);
    rest -= count * size;
    return count > 0 ? `${count} ${unit}` : '';
  });
  return parts.filter(Boolean).join(' ');
}

/** Minutes of a target. */
export function targetText(minutes: number | null): string {
  return minutes === null ? 'not declared' : durationText(minutes * 60_000);
}

/** A finding as a word. */
export function metText(met: boolean | null): 'met' | 'missed' | 'unknown' {
  return met === null ? 'unknown' : met ? 'met' : 'missed';
}

/** 0 to 1 as percent. */
export function percentText(share: number | null): string {
  return share === null ? '–' : `${(share * 100).toFixed(share === 1 ? 0 : 1)} %`;
}

/** A time of ISO 8601, to the minute. */
export function timeText(iso: string | null): string {
  return iso === null ? '–' : `${iso.slice(0, 16).replace('T', ' ')} UTC`;
}
