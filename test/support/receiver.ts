import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll } from '@jest/globals';

/** A request that came in. */
export interface Received {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  /** The exact body. */
  body: string;
  /** When it was there in whole, in milliseconds. */
  at: number;
}

/** A small HTTP server that keeps what it is sent and answers as it is told to. */
export class Receiver {
  readonly received: Received[] = [];
  /** What each request is answered with; by default 200. */
  answer: (request: Received, response: ServerResponse) => void = (_, response) => response.end('ok');
  private readonly behaviours = new Map<string, (response: ServerResponse, nth: number) => void>();

  private constructor(private readonly server: Server) {}

  static async start(): Promise<Receiver> {
    const server = createServer((request, response) => void receiver.take(request, response).catch(() => undefined));
    const receiver = new Receiver(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** What requests to a path are answered with from now on; `nth` counts them from 1. */
  on(path: string, behaviour: (response: ServerResponse, nth: number) => void): void {
    this.behaviours.set(path, behaviour);
  }

  /** The requests to a path, in their order. */
  at(path: string): Received[] {
    return this.received.filter((received) => received.path === path);
  }

  /** The requests to a path, each with its body read as JSON. */
  bodies<T>(path: string): T[] {
    return this.at(path).map(({ body }) => JSON.parse(body) as T);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { method = '', url: path = '', headers } = request;
    const received = { method, path, headers, body: Buffer.concat(chunks).toString('utf8'), at: Date.now() };
    this.received.push(received);
    const behaviour = this.behaviours.get(path);
    if (behaviour) behaviour(response, this.at(path).length);
    else this.answer(received, response);
  }
}

/** Starts a receiver before the tests of a file and stops it after them. */
export function useReceiver(): { readonly current: Receiver } {
  let receiver: Receiver | undefined;
  beforeAll(async () => {
    receiver = await Receiver.start();
  });
  afterAll(() => receiver?.stop());
  return {
    get current() {
      if (receiver === undefined) throw new Error('the receiver is there only while tests run');
      return receiver;
    },
  };
}
