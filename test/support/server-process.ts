import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { placeEmptyCatalog } from './empty-catalog.js';
import { type Answer, send, serverEnvironment } from './server.js';
import { until } from './until.js';

const MAIN = join(process.cwd(), 'dist/main.js');

/** How a process ended: by itself with a code, or by a signal. */
export interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A server in a process of its own, which can be killed. Runs what is built: `npm run build` first. */
export class ServerProcess {
  /** Everything that it wrote. */
  output = '';
  private readonly ended: Promise<ProcessEnd>;

  private constructor(
    private readonly child: ChildProcess,
    readonly dataDir: string,
  ) {
    const keep = (chunk: Buffer) => (this.output += chunk.toString());
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    this.ended = once(child, 'close').then(([code, signal]) => ({ code, signal }) as ProcessEnd);
  }

  /** @param user whom it runs as, when that is not who runs the tests; the folder must be theirs */
  static async start(dataDir: string, env: NodeJS.ProcessEnv = {}, user?: { uid: number; gid: number }): Promise<ServerProcess> {
    if (!existsSync(MAIN)) throw new Error('dist/main.js is not there: run `npm run build` first');
    // Another user makes its own: what is copied here would belong to us.
    if (env['DATABASE_URL'] === undefined && user === undefined) await placeEmptyCatalog(dataDir);
    const child = spawn(process.execPath, [MAIN], {
      env: { PATH: process.env['PATH'], ...serverEnvironment(dataDir, env) },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...user,
    });
    const server = new ServerProcess(child, dataDir);
    await until(() => /listens on http|works on queued/.test(server.output) || child.exitCode !== null, 180_000);
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}: ${server.output}`);
    return server;
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('the process was not started');
    return this.child.pid;
  }

  get url(): string {
    const url = /listens on (http\S+)/.exec(this.output)?.[1];
    if (url === undefined) throw new Error('this process serves no HTTP');
    return url;
  }

  /** A JSON request as the owner. */
  api<T>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    return send<T>(this.url, method, path, body === undefined ? {} : { body });
  }

  /** Sends a signal; does not wait. */
  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Sends a signal that ends it, and waits until it has ended. */
  async end(signal: NodeJS.Signals = 'SIGKILL'): Promise<ProcessEnd> {
    this.child.kill(signal);
    return this.ended;
  }
}
