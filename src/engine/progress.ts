/** How far a run is. */
export interface Progress {
  phase: string;
  /** 0 to 100; an estimate until the end. */
  percent: number;
  /** Plain bytes that have passed; in the phase `upload` bytes that are stored. */
  bytes: number;
  tablesDone: number;
  tablesTotal: number;
  bytesPerSecond: number;
  /** Seconds that are left, or null when it can't be told. */
  etaSeconds: number | null;
}

/** Tells of a part of a run, which is done when the part is from `from` to `to` percent of the whole. */
export function spanOf(tell: (progress: Progress) => void, from: number, to: number): (progress: Progress) => void {
  return (progress) => tell({ ...progress, percent: Math.round((from + (progress.percent * (to - from)) / 100) * 10) / 10 });
}

const MIN_SPAN_MS = 500;
/** Weight of the newest measurement in the running rate. */
const SMOOTHING = 0.3;

/** Turns counters into progress; cheap enough to be called for each chunk, it tells at most twice a second. */
export class ProgressMeter {
  private phase = 'preflight';
  private bytes = 0;
  private tablesDone = 0;
  private tablesTotal = 0;
  private expectedBytes = 0;
  private rate = 0;
  private lastAt: number;
  private lastBytes = 0;
  private highest = 0;
  /** What the phases before it have come to, and what the phase may come to. */
  private range = { from: 0, to: 100 };

  constructor(
    private readonly tell: (progress: Progress) => void,
    private readonly now: () => number = Date.now,
  ) {
    this.lastAt = now();
  }

  /**
   * Begins a phase and tells of it at once.
   * @param expectedBytes bytes it will read, by the best estimate; 0 for unknown
   * @param upTo what share of the whole, in percent, is done with it
   */
  begin(phase: string, expectedBytes = 0, upTo = 100): void {
    this.phase = phase;
    this.range = { from: Math.min(this.highest, upTo), to: upTo };
    this.rate = 0;
    this.bytes = 0;
    this.lastBytes = 0;
    this.expectedBytes = expectedBytes;
    this.lastAt = this.now();
    this.tell(this.snapshot());
  }

  tables(done: number, total: number): void {
    this.tablesDone = done;
    this.tablesTotal = total;
  }

  /** @param bytes plain bytes of this phase so far */
  passed(bytes: number): void {
    this.bytes = bytes;
    const now = this.now();
    const span = now - this.lastAt;
    if (span < MIN_SPAN_MS) return;
    const rate = ((bytes - this.lastBytes) * 1000) / span;
    this.rate = this.rate === 0 ? rate : this.rate * (1 - SMOOTHING) + rate * SMOOTHING;
    this.lastAt = now;
    this.lastBytes = bytes;
    this.tell(this.snapshot());
  }

  private snapshot(): Progress {
    const share =
      this.expectedBytes > 0 ? this.bytes / this.expectedBytes : this.tablesTotal > 0 ? this.tablesDone / this.tablesTotal : 0;
    // An estimate may be wrong: never back, and never done before it is.
    const { from, to } = this.range;
    this.highest = Math.max(this.highest, Math.min(99, to, from + share * (to - from)));
    const left = this.expectedBytes - this.bytes;
    return {
      phase: this.phase,
      percent: Math.round(this.highest * 10) / 10,
      bytes: this.bytes,
      tablesDone: this.tablesDone,
      tablesTotal: this.tablesTotal,
      bytesPerSecond: Math.round(this.rate),
      etaSeconds: this.rate > 0 && left > 0 ? Math.ceil(left / this.rate) : null,
    };
  }
}
