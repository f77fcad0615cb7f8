import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** What a fake does instead of what it is asked. */
export type Fault =
  | 'error500'
  | 'slowDown'
  | 'denied'
  | 'missing'
  | 'reset'
  | 'hang'
  /** Takes the body and gives the answer in small pieces, with pauses. */
  | 'slow'
  /** Half of what is uploaded, or of the answer's body, then the connection is cut. */
  | 'cut'
  /** Does it, and cuts the connection before the answer. */
  | 'lostAnswer'
  /** Does it twice. */
  | 'twice'
  | 'clockSkew'
  /** Answers 200 and does nothing. */
  | 'pretend';

export const FAULTS = [
  'error500',
  'slowDown',
  'denied',
  'missing',
  'reset',
  'hang',
  'slow',
  'cut',
  'twice',
  'lostAnswer',
  'clockSkew',
] as const satisfies readonly Fault[];

/** Of slow ones, each of so many pieces comes after a pause. */
const [SLOW_PIECES, SLOW_PAUSE_MS] = [8, 20];

interface Which {
  /** How many calls are left that it meets. */
  times?: number;
  /** How many calls it lets pass before. */
  after?: number;
  /** Which paths; all when left out. */
  path?: RegExp;
  /** From the first call that it meets on, it meets every call. */
  lasts?: boolean;
}

interface Rule {
  fault: Fault;
  /** Which operations, such as `UploadPart`; all when left out. */
  operation: RegExp;
  /** How many calls are left that it meets. */
  times: number;
  /** How many calls it lets pass before. */
  after: number;
  path: RegExp;
  lasts: boolean;
}

/** Which calls of a fake go wrong, and how. */
class FaultRules {
  private rules: Rule[] = [];

  add(fault: Fault, operation = /./, { times = Infinity, after = 0, path = /./, lasts = false }: Which = {}): void {
    this.rules.push({ fault, operation, times, after, path, lasts });
  }

  clear(): void {
    this.rules = [];
  }

  /** The fault that this call meets, if any. */
  next({ operation, url }: FakeCall): Fault | undefined {
    for (const rule of this.rules) {
      if (!rule.operation.test(operation) || !rule.path.test(url.pathname)) continue;
      if (rule.after > 0) {
        rule.after -= 1;
        continue;
      }
      if (rule.times <= 0) continue;
      rule.times -= 1;
      if (rule.lasts) rule.operation = rule.path = /./;
      return rule.fault;
    }
    return undefined;
  }
}

export interface Reply {
  status: number;
  headers?: Record<string, string>;
  body?: Buffer | string;
}

export interface FakeCall {
  /** Such as `UploadPart`. */
  operation: string;
  request: IncomingMessage;
  url: URL;
  body: Buffer;
}

/** A small local server in the place of a service of the world, which misbehaves on demand. */
export abstract class FaultyServer<Call extends FakeCall> {
  /** Every operation in order, with its status. */
  readonly calls: string[] = [];
  /** Bytes a second that it takes of each request; as fast as it can when undefined. */
  bytesPerSecond: number | undefined;
  private readonly faults = new FaultRules();
  private readonly hung: IncomingMessage[] = [];
  private readonly server = createServer((request, response) => {
    this.answer(request, response).catch(() => response.destroy());
  });

  /** What a request asks for; its body comes later. */
  protected abstract read(request: IncomingMessage, url: URL): Call;
  /** What a caller without the right to it is told. */
  protected abstract refuse(call: Call): Reply | undefined;
  /** What the fault says in the service's own form; undefined for those of the connection. */
  protected abstract replyOf(fault: Fault | undefined): Reply | undefined;
  /** What is answered to something that was not done. */
  protected abstract readonly pretended: Reply;
  protected abstract perform(call: Call): Reply;

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  fail(fault: Fault, operation?: RegExp, which?: Which): void {
    this.faults.add(fault, operation, which);
  }

  /** From now on all is well; who waits for an answer that never comes loses the connection. */
  heal(): void {
    this.faults.clear();
    for (const { socket } of this.hung.splice(0)) socket.destroy();
    this.bytesPerSecond = undefined;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  protected async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return this;
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const call = this.read(request, new URL(request.url ?? '', 'http://fake'));
    const fault = this.faults.next(call);
    const note = (status: number | string) => this.calls.push(`${call.operation} ${status}`);
    if (fault === 'reset') {
      note('reset');
      request.socket.destroy();
      return;
    }
    const length = Number(request.headers['content-length'] ?? 0);
    if (fault === 'cut' && request.method === 'PUT' && length > 0) {
      note('cut');
      await this.bodyOf(request, { most: length / 2 });
      request.socket.destroy();
      return;
    }
    call.body = await this.bodyOf(request, { slowly: fault === 'slow' });
    if (fault === 'hang') {
      note('hang');
      this.hung.push(request);
      return;
    }
    const refusal = this.replyOf(fault) ?? this.refuse(call);
    if (refusal) {
      note(refusal.status);
      return send(response, refusal, request.method);
    }
    if (fault === 'pretend') {
      note('pretend');
      return send(response, this.pretended, request.method);
    }
    const answer = this.perform(call);
    if (fault === 'twice') this.perform(call);
    note(answer.status);
    if (fault === 'lostAnswer') return void request.socket.destroy();
    if (fault === 'cut' && answer.body) {
      const body = Buffer.from(answer.body);
      response.writeHead(answer.status, { ...answer.headers, 'content-length': body.length });
      response.write(body.subarray(0, body.length / 2), () => setImmediate(() => response.destroy()));
      return;
    }
    if (fault === 'slow') return sendSlowly(response, answer, request.method);
    send(response, answer, request.method);
  }

  private async bodyOf(request: IncomingMessage, { most = Infinity, slowly = false } = {}): Promise<Buffer> {
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const part of request as AsyncIterable<Buffer>) {
      parts.push(part);
      bytes += part.length;
      if (bytes >= most) break;
      if (slowly && parts.length <= SLOW_PIECES) await pause(SLOW_PAUSE_MS);
      // Being slow is what it is asked for.
      if (this.bytesPerSecond) await pause((part.length / this.bytesPerSecond) * 1000);
    }
    return Buffer.concat(parts);
  }
}

function send(response: ServerResponse, { status, headers = {}, body }: Reply, method?: string): void {
  const length: Record<string, number> =
    status === 204 ? {} : { 'content-length': body === undefined ? 0 : Buffer.byteLength(body) };
  response.writeHead(status, { ...headers, ...length });
  response.end(method === 'HEAD' || status === 204 ? undefined : body);
}

async function sendSlowly(response: ServerResponse, { status, headers = {}, body = '' }: Reply, method?: string): Promise<void> {
  if (method === 'HEAD' || status === 204) {
    await pause(SLOW_PAUSE_MS);
    return send(response, { status, headers, body }, method);
  }
  const content = Buffer.from(body);
  response.writeHead(status, { ...headers, 'content-length': content.length });
  response.flushHeaders();
  const size = Math.ceil(content.length / SLOW_PIECES) || 1;
  for (let at = 0; at < content.length; at += size) {
    await pause(SLOW_PAUSE_MS);
    response.write(content.subarray(at, at + size));
  }
  response.end();
}
