import { type ChildProcess, spawn } from 'node:child_process';
import { basename } from 'node:path';
import { PassThrough, type Readable, type Writable } from 'node:stream';
import { EngineError } from '../errors.js';
import type { ProgramOutput } from './program-output.js';

const STDERR_TAIL_BYTES = 8 * 1024;
const KILL_AFTER_MS = 5000;

export interface RunOptions {
  /** The whole environment: nothing of our own passes. */
  env: Readonly<Record<string, string>>;
  cwd?: string;
  signal?: AbortSignal;
  /** `ignore`, the default, gives the child /dev/null. */
  stdin?: 'pipe' | 'ignore';
  /** How much of the end of stderr is kept; 8 KiB where it is left out. */
  stderrBytes?: number;
  /** For a program that writes much; a plain pipe where it is left out. */
  output?: ProgramOutput;
}

/** A running child process. Its stdout must be read, or it stands still. */
export interface RunningProgram {
  pid: number | undefined;
  stdin: Writable | null;
  stdout: Readable;
  /** The end of what it wrote to stderr so far. */
  stderrTail(): string;
  /**
   * Settles when the process has ended and its streams are closed. Rejects with ProgramFailed unless it exited with 0, and with
   * EngineError TOOL_MISSING where it cannot be started.
   */
  done: Promise<void>;
}

/** A child process that ended other than with exit code 0. */
export class ProgramFailed extends Error {
  override readonly name = 'ProgramFailed';

  constructor(
    readonly program: string,
    /** null where a signal ended it. */
    readonly exitCode: number | null,
    readonly signal: NodeJS.Signals | null,
    /** The end of what it wrote to stderr. */
    readonly stderr: string,
    /** True where we ended it ourselves, because it was canceled or its output no longer wanted. */
    readonly stopped: boolean,
  ) {
    super(`${program} ended with ${signal ?? `exit code ${exitCode}`}`);
  }
}

/**
 * Starts a program without a shell. It is ended (SIGTERM, after 5 s SIGKILL) when `signal` is aborted, or when its stdout is
 * destroyed before its end.
 */
export function startProgram(path: string, args: readonly string[], options: RunOptions): RunningProgram {
  const child = spawn(path, args, {
    env: { ...options.env },
    shell: false,
    // A process group of its own: what the program starts in turn (PG_BIN_DIRS may hold wrappers) is ended with it, and a Ctrl-C at
    // our terminal does not end it while we give it time.
    detached: true,
    stdio: [options.stdin ?? 'ignore', options.output?.childEnd ?? 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  // The child has its own by now; as long as we hold ours, the output does not end.
  options.output?.childEnd.destroy();
  const { stdin, stderr } = child;
  const stdout = options.output?.stdout ?? keptUntilRead(child.stdout);
  if (stdout === null || stderr === null) throw new Error('a child process was started without its streams');

  let tail = Buffer.alloc(0);
  stderr.on('data', (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk]).subarray(-(options.stderrBytes ?? STDERR_TAIL_BYTES));
  });
  // A child that ends before it has read everything breaks the pipe: its exit code tells more than EPIPE does.
  stdin?.on('error', () => undefined);
  // Whoever reads our stdout hears of its error; before somebody does, or when nobody does, it must not end the process.
  stdout.on('error', () => undefined);

  let stopped = false;
  let closed = false;
  let killer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    if (stopped || closed) return;
    stopped = true;
    signalGroup(child, 'SIGTERM');
    killer = setTimeout(() => {
      signalGroup(child, 'SIGKILL');
      // Whoever left the group may hold the pipes open for ever.
      for (const stream of [stdout, child.stdout, stderr]) stream?.destroy();
    }, KILL_AFTER_MS);
  };
  const abort = (): void => {
    stop();
    // Whoever reads our stdout must not take a cut stream for a whole one.
    stdout.destroy(new EngineError('CANCELED', `${basename(path)} was canceled.`, 'Start it again if it is still wanted.'));
  };
  stdout.once('close', () => {
    if (!stdout.readableEnded) stop();
  });

  const done = new Promise<void>((resolve, reject) => {
    child.once('error', (error) => {
      stdout.destroy();
      reject(cannotStart(path, error));
    });
    child.once('close', (code, signal) => {
      closed = true;
      clearTimeout(killer);
      options.signal?.removeEventListener('abort', abort);
      if (code === 0 && !stopped) resolve();
      else reject(new ProgramFailed(basename(path), code, signal, tail.toString('utf8'), stopped));
    });
  });
  // Whoever forgets to await must not end the process; whoever awaits still gets the rejection.
  done.catch(() => undefined);
  if (options.signal?.aborted) abort();
  else options.signal?.addEventListener('abort', abort, { once: true });
  return { pid: child.pid, stdin, stdout, stderrTail: () => tail.toString('utf8'), done };
}

/**
 * When a child has ended, Node lets what nobody is reading yet of its output run to waste. A program that is quick would so have
 * printed nothing, and ended well: a reader of our own stands in between from the start.
 */
function keptUntilRead(stdout: Readable | null): Readable | null {
  if (stdout === null) return null;
  const kept = new PassThrough();
  stdout.on('error', (error) => kept.destroy(error));
  return stdout.pipe(kept);
}

/** Signals a program and everything that it started. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    child.kill(signal);
  }
}

function cannotStart(path: string, error: Error): EngineError {
  return new EngineError(
    'TOOL_MISSING',
    `${path} cannot be started: ${error.message}.`,
    'Install the PostgreSQL client programs, or name their folder in PG_BIN_DIRS.',
    { cause: error },
  );
}
