import { Injectable } from '@nestjs/common';
import { Settings } from '../config/settings.js';

/** Lets as many restore drills go on at once in this process as `DRILL_CONCURRENCY` says; the others wait, those first that came first. */
@Injectable()
export class DrillTurns {
  private free: number;
  private readonly waiting: (() => void)[] = [];

  constructor(settings: Settings) {
    this.free = settings.drillConcurrency;
  }

  /** @throws the signal's reason when it is aborted before the turn has come; what `drill` throws */
  async take<T>(signal: AbortSignal, drill: () => Promise<T>): Promise<T> {
    await this.turn(signal);
    try {
      return await drill();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.free += 1;
    }
  }

  private async turn(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.free > 0) {
      this.free -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const come = () => {
        signal.removeEventListener('abort', give);
        resolve();
      };
      const give = () => {
        this.waiting.splice(this.waiting.indexOf(come), 1);
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', give, { once: true });
      this.waiting.push(come);
    });
  }
}
