import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { EngineError } from '../errors.js';
import { ProgramFailed, type RunningProgram, startProgram } from '../postgres/run-program.js';
import { withTemporaryFolder } from '../temporary-folder.js';

export interface RcloneAccess {
  /** Content of an rclone.conf, with the remote and its secrets. */
  rcloneConfig: string;
  /** The program; `rclone` of PATH when left out. */
  program?: string;
  /** How long a connection may stand still. */
  timeoutMs?: number;
}

/** What rclone says with its exit code when a file or folder is not there. */
const NOT_THERE = new Set([3, 4]);
const MOST_OUTPUT_BYTES = 1024 * 1024;

/** Runs rclone with a configuration of its own, which lies in a private folder for as long as the program runs, and in no argument. */
export class RcloneProgram {
  constructor(private readonly access: RcloneAccess) {}

  /**
   * Runs one command, and gives its output as it comes. The command fails unless `use` has come to its end and the program ended well.
   * @throws EngineError TOOL_MISSING; ProgramFailed; what `use` throws
   */
  async run<T>(
    args: readonly string[],
    use: (program: RunningProgram) => Promise<T>,
    { signal, stdin = 'ignore' }: { signal?: AbortSignal | undefined; stdin?: 'pipe' | 'ignore' } = {},
  ): Promise<T> {
    return withTemporaryFolder(async (folder) => {
      signal?.throwIfAborted();
      const config = join(folder, 'rclone.conf');
      await writeFile(config, this.access.rcloneConfig, { mode: 0o600 });
      const seconds = Math.ceil((this.access.timeoutMs ?? 60_000) / 1000);
      const limits = [`--contimeout=${Math.min(seconds, 10)}s`, `--timeout=${seconds}s`, '--retries=1', '--low-level-retries=5'];
      // What lies between its parts would need an answer at a terminal.
      const program = startProgram(this.access.program ?? 'rclone', [...args, '--ask-password=false', ...limits], {
        env: { PATH: process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin', HOME: folder, TMPDIR: folder, RCLONE_CONFIG: config },
        stdin,
        ...(signal ? { signal } : {}),
      });
      program.done.catch(() => {});
      try {
        const result = await use(program);
        await program.done;
        return result;
      } catch (error) {
        program.stdout.destroy();
        // What it died of says more than its broken pipe; yet an error of ours had it ended.
        const death: unknown = await program.done.then(
          () => undefined,
          (failure: unknown) => failure,
        );
        if (death instanceof ProgramFailed && !death.stopped && death.exitCode !== null && death.exitCode > 0 && isPipe(error))
          throw death;
        if (death !== undefined && !(death instanceof ProgramFailed)) throw missingProgram(death);
        throw error;
      }
    });
  }

  /** A command whose output is small. @throws as `run` */
  async output(args: readonly string[], signal: AbortSignal | undefined): Promise<string> {
    return this.run(args, (program) => textOf(program.stdout), { signal });
  }

  /** Feeds a body to a command. @returns how many bytes it had @throws as `run`; an error of the body itself as it is */
  async feed(args: readonly string[], body: Readable, signal: AbortSignal | undefined): Promise<number> {
    let bytes = 0;
    const counted = async function* (content: AsyncIterable<Buffer>) {
      for await (const chunk of content) {
        bytes += chunk.length;
        yield chunk;
      }
    };
    const input = async (program: RunningProgram) => {
      program.stdout.resume();
      let failure: { error: unknown } | undefined;
      body.once('error', (error) => (failure = { error }));
      try {
        await pipeline(body, counted, program.stdin!);
      } catch (error) {
        if (failure) throw failure.error;
        throw error;
      }
    };
    await this.run(args, input, { signal, stdin: 'pipe' });
    return bytes;
  }
}

/** Whether rclone said that there is no such file or folder. */
export function isNotThere(error: unknown): boolean {
  return error instanceof ProgramFailed && error.exitCode !== null && NOT_THERE.has(error.exitCode);
}

/** Turns what a command failed with into the EngineError that says what failed where. EngineErrors pass unchanged. */
export function toRcloneError(error: unknown, action: string, key: string, where: string): EngineError {
  if (error instanceof EngineError) return error;
  const said = error instanceof ProgramFailed ? lastLine(error.stderr) : error instanceof Error ? error.message : String(error);
  return new EngineError(
    'STORE_FAILED',
    `Could not ${action} ${key} in ${where}: rclone says "${said}".`,
    'Check the remote with rclone itself: its configuration, its rights, and the network between.',
    { cause: error },
  );
}

function lastLine(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  return (lines.at(-1) ?? 'nothing').replace(/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d /, '').slice(0, 300);
}

function isPipe(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: string };
  return (
    error instanceof ProgramFailed ||
    ['EPIPE', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED', 'ABORT_ERR'].includes(code ?? '')
  );
}

function missingProgram(error: unknown): unknown {
  if (!(error instanceof EngineError) || error.code !== 'TOOL_MISSING') return error;
  return new EngineError(
    'TOOL_MISSING',
    'The program rclone is not installed on this machine.',
    'Install it where the server runs (apt-get install rclone, or https://rclone.org/install), and have it in PATH.',
    { cause: error },
  );
}

async function textOf(stream: Readable): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of stream as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MOST_OUTPUT_BYTES) throw new Error('the output is longer than expected');
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}
