import type { Readable } from 'node:stream';
import { abortReason } from './abort.js';

/** An object, or the rest of it, as it begins to come. */
export interface OpenedObject {
  body: Readable;
  /** How many bytes are to come; null where the store does not say. */
  bytes: number | null;
  /** Tells one version of the object from another. */
  version: string | undefined;
}

export interface ResumingReadOptions {
  first: OpenedObject;
  start: number;
  /** Opens the object from a position on; null when it has no byte there. */
  open(position: number): Promise<OpenedObject | null>;
  explain(error: unknown): Error;
  signal: AbortSignal | undefined;
}

const MOST_CUTS = 5;

/** Reads on where an answer was cut, as long as it is the same object; gives up after a few cuts without a byte between. */
export async function* resumingRead({ first, start, open, explain, signal }: ResumingReadOptions): AsyncGenerator<Buffer> {
  let [answer, position, cuts] = [first as OpenedObject | null, start, 0];
  const last = first.bytes === null ? null : start + first.bytes;
  while (answer !== null) {
    if (answer.version !== first.version) throw explain({ name: 'the object was replaced while it was read' });
    const { body } = answer;
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        position += chunk.length;
        cuts = 0;
        yield chunk;
      }
      if (last === null || position >= last) return;
      throw new Error('The answer ended before its length.');
    } catch (error) {
      if (signal?.aborted) throw abortReason(signal);
      cuts += 1;
      if (cuts > MOST_CUTS) throw explain(error);
    } finally {
      body.destroy();
    }
    answer = await open(position);
  }
  throw explain({ name: 'the object is shorter than it was' });
}
