const STAGE_BYTES = 256 * 1024;
const WORD_BYTES = 8;

/** Memory in which pieces of content are laid together. */
export class Stage {
  static readonly capacity = STAGE_BYTES;
  readonly buffer: Buffer;
  readonly view: DataView;
  readonly words: Int32Array;

  constructor() {
    // Word copies may write up to a word past a piece. Memory of its own, not of the pool: words must lie on word boundaries.
    this.buffer = Buffer.allocUnsafeSlow(STAGE_BYTES + WORD_BYTES);
    this.view = new DataView(this.buffer.buffer, this.buffer.byteOffset, this.buffer.length);
    this.words = new Int32Array(this.buffer.buffer, this.buffer.byteOffset, this.buffer.length / 4);
  }
}

/** Stages that are used again: new ones for each 256 KiB would keep the collector busy. */
export class StagePool {
  private readonly free: Stage[] = [];

  take(): Stage {
    return this.free.pop() ?? new Stage();
  }

  giveBack(stage: Stage): void {
    this.free.push(stage);
  }
}
