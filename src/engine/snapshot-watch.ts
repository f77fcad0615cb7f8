/**
 * Tells once when something is held longer than a limit, while it is still held: vacuum on the source keeps every row version that an
 * open snapshot might see.
 * @param held settles when it is let go
 * @param limitMs 0 for none
 */
export function tellWhenHeld(held: Promise<unknown>, limitMs: number, tell: () => void): void {
  if (limitMs === 0) return;
  const timer = setTimeout(tell, limitMs);
  const stop = () => clearTimeout(timer);
  held.then(stop, stop);
}
