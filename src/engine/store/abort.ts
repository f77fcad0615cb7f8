import type { Readable } from 'node:stream';

/** The reason of an aborted signal as an Error, whatever was given as reason. */
export function abortReason(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  const isError = typeof reason === 'object' && reason !== null && 'message' in reason && 'name' in reason;
  return isError ? (reason as Error) : new Error('The operation was aborted.', { cause: reason });
}

/** Destroys a stream with the signal's reason when it aborts, and lets go of the signal when the stream closes. */
export function destroyOnAbort(stream: Readable, signal: AbortSignal | undefined): void {
  if (signal === undefined) return;
  const abort = (): void => void stream.destroy(abortReason(signal));
  if (signal.aborted) return abort();
  signal.addEventListener('abort', abort, { once: true });
  stream.once('close', () => signal.removeEventListener('abort', abort));
}
