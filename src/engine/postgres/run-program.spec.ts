import { text } from 'node:stream/consumers';
import { describe, expect, it } from '@jest/globals';
import { until } from '../../../test/support/until.js';
import { ProgramFailed, startProgram } from './run-program.js';

const env = { PATH: '/usr/bin:/bin' };
const node = process.execPath;

async function failureOf(done: Promise<void>): Promise<ProgramFailed> {
  const error: unknown = await done.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (error instanceof ProgramFailed) return error;
  throw new Error('the program did not fail as expected', { cause: error });
}

describe('startProgram', () => {
  it('gives the output and only the environment that was asked for', async () => {
    const program = startProgram(node, ['-e', 'process.stdout.write(JSON.stringify(Object.keys(process.env)))'], { env });
    expect(JSON.parse(await text(program.stdout))).toEqual(['PATH']);
    await program.done;
  });

  it('rejects with the exit code and a bounded end of stderr', async () => {
    const program = startProgram(node, ['-e', 'process.stderr.write("x".repeat(100_000) + "the end"); process.exitCode = 3'], {
      env,
    });
    program.stdout.resume();
    const failed = await failureOf(program.done);
    expect(failed.exitCode).toBe(3);
    expect(failed.stderr.endsWith('the end')).toBe(true);
    expect(failed.stderr.length).toBe(8192);
  });

  it('ends the process when the signal is aborted, and does not let a cut stream pass for a whole one', async () => {
    const abort = new AbortController();
    const program = startProgram(node, ['-e', 'process.stdout.write("ready"); setInterval(() => {}, 1000)'], {
      env,
      signal: abort.signal,
    });
    const reading = text(program.stdout);
    program.stdout.once('data', () => abort.abort());
    await expect(reading).rejects.toMatchObject({ code: 'CANCELED' });
    expect((await failureOf(program.done)).stopped).toBe(true);
  });

  it('takes no harm from an abort while nobody listens to its output', async () => {
    const abort = new AbortController();
    const program = startProgram(node, ['-e', 'setInterval(() => {}, 1000)'], { env, signal: abort.signal });
    program.stdout.resume();
    abort.abort();
    expect((await failureOf(program.done)).stopped).toBe(true);
    expect(program.stdout.errored).toMatchObject({ code: 'CANCELED' });
  });

  it('ends the process when its output is no longer wanted', async () => {
    const program = startProgram(node, ['-e', 'setInterval(() => process.stdout.write("x"), 5)'], { env });
    program.stdout.once('data', () => program.stdout.destroy());
    expect((await failureOf(program.done)).signal).toBe('SIGTERM');
  });

  it('takes no shell syntax', async () => {
    const program = startProgram('/bin/echo', ['$(id)', ';', 'ls'], { env });
    expect(await text(program.stdout)).toBe('$(id) ; ls\n');
  });

  it('says which program cannot be started', async () => {
    const program = startProgram('/nonexistent/pg_dump', [], { env });
    await expect(program.done).rejects.toMatchObject({ code: 'TOOL_MISSING' });
  });
});

describe('the output of a program that has ended before anybody read it', () => {
  it('is all there', async () => {
    const program = startProgram(node, ['-e', 'process.stdout.write("x".repeat(5000))'], { env });
    const { pid } = program;
    // Only its death is waited for: the streams stay as they are.
    await until(() => {
      try {
        return pid === undefined || !process.kill(pid, 0);
      } catch {
        return true;
      }
    });
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    let bytes = 0;
    for await (const chunk of program.stdout as AsyncIterable<Buffer>) bytes += chunk.length;
    await program.done;
    expect(bytes).toBe(5000);
  });
});
