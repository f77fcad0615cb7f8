import { randomBytes } from 'node:crypto';
import { EngineError } from '../errors.js';
import { abortReason } from './abort.js';
import { type Abortable, ArtifactStore } from './artifact-store.js';
import { readAll } from './read-all.js';

/** What stores behind a client of their own have in common. */
export abstract class RemoteStore extends ArtifactStore {
  /** The store, as it is named in errors. */
  protected abstract readonly where: string;

  /** Turns what the client threw into the EngineError that says what failed; EngineErrors pass unchanged. */
  protected abstract errorOf(error: unknown, action: string, key: string): EngineError;

  async check({ signal }: Abortable = {}): Promise<void> {
    const key = `.canary-${randomBytes(8).toString('hex')}`;
    const content = randomBytes(64);
    await this.write(key, [content], { signal });
    try {
      if (content.equals(await readAll(this, key, content.length, signal))) return;
      throw new EngineError('STORE_FAILED', `${this.where} gave back other bytes than were written.`, 'Check the store.');
    } finally {
      await this.remove(key);
    }
  }

  /** Does what a client is called for. @throws the signal's reason; EngineError */
  protected async explained<T>(action: string, key: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (signal?.aborted) throw abortReason(signal);
      throw this.errorOf(error, action, key);
    }
  }
}
