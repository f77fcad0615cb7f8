import type { Progress } from '../engine/progress.js';

const WIDTH = 24;

/** Draws progress on one line of a terminal; on anything else it says nothing. */
export class ProgressBar {
  private drawn = false;

  constructor(private readonly terminal: Pick<NodeJS.WriteStream, 'isTTY' | 'write'> | undefined) {}

  readonly show = ({ phase, percent, bytesPerSecond, etaSeconds }: Progress): void => {
    if (this.terminal?.isTTY !== true) return;
    const full = Math.round((percent / 100) * WIDTH);
    const rate = bytesPerSecond > 0 ? ` ${(bytesPerSecond / 1e6).toFixed(1)} MB/s` : '';
    const eta = etaSeconds === null ? '' : ` ${Math.ceil(etaSeconds)} s left`;
    this.terminal.write(
      `\r\x1b[K${phase.padEnd(10)} [${'#'.repeat(full)}${'.'.repeat(WIDTH - full)}] ${percent.toFixed(0).padStart(3)} %${rate}${eta}`,
    );
    this.drawn = true;
  };

  clear(): void {
    if (this.drawn) this.terminal?.write('\r\x1b[K');
    this.drawn = false;
  }
}
