import type { Request, Response } from 'express';

const KEEP_ALIVE_MS = 15_000;

/** Sends events until the source of them ends or the client goes away. */
export async function sendEvents(response: Response, events: AsyncIterable<{ event: string; data: object }>): Promise<void> {
  response.status(200);
  response.setHeader('Content-Type', 'text/event-stream; charset=utf-8');
  response.setHeader('Cache-Control', 'no-store');
  // Tells nginx to hand the events on as they come.
  response.setHeader('X-Accel-Buffering', 'no');
  response.flushHeaders();
  const keepAlive = setInterval(() => response.write(': still here\n\n'), KEEP_ALIVE_MS);
  try {
    for await (const { event, data } of events) response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  } finally {
    clearInterval(keepAlive);
    response.end();
  }
}

/** Aborted when the client goes away. */
export function goneSignal(request: Request): AbortSignal {
  const gone = new AbortController();
  request.res?.once('close', () => gone.abort());
  return gone.signal;
}
