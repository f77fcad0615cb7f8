import { createHash } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from '@jest/globals';
import { BATCH_BYTES, BatchPool } from '../artifact/batch-pool.js';
import { openProgramOutput } from './program-output.js';
import { type ProgramFailed, startProgram } from './run-program.js';

const env = { PATH: '/usr/bin:/bin' };
const node = process.execPath;
const LINES = 400_000;

async function start(script: string, pool = new BatchPool(), signal?: AbortSignal) {
  return startProgram(node, ['-e', script], { env, output: await openProgramOutput(pool), ...(signal ? { signal } : {}) });
}

describe('openProgramOutput', () => {
  it('gives all that a program wrote, in its order, in few and large pieces, while buffers are used again', async () => {
    const pool = new BatchPool();
    const program = await start(`for (let i = 0; i < ${LINES}; i++) process.stdout.write('line ' + i + '\\n')`, pool);
    const hash = createHash('sha256');
    const buffers = new Set<ArrayBufferLike>();
    let [pieces, bytes] = [0, 0];
    for await (const piece of program.stdout as AsyncIterable<Buffer>) {
      hash.update(piece);
      bytes += piece.length;
      pieces += 1;
      buffers.add(piece.buffer);
      pool.consumed = () => bytes;
    }
    await program.done;
    const expected = createHash('sha256');
    for (let i = 0; i < LINES; i++) expected.update(`line ${i}\n`);
    expect(hash.digest('hex')).toBe(expected.digest('hex'));
    expect(pieces).toBeLessThanOrEqual(Math.ceil(bytes / (BATCH_BYTES * 0.9)));
    expect(buffers.size).toBeLessThan(pieces);
  });

  it('keeps what a program wrote before it ended, however late it is read', async () => {
    const program = await start("process.stdout.write('the last word')");
    await program.done;
    expect(await text(program.stdout)).toBe('the last word');
  });

  it('ends the program when its output is no longer wanted', async () => {
    const program = await start("setInterval(() => process.stdout.write('x'.repeat(100_000)), 1)");
    program.stdout.once('data', () => program.stdout.destroy());
    await expect(program.done).rejects.toMatchObject({ stopped: true } satisfies Partial<ProgramFailed>);
  });

  it('does not let a cut stream pass for a whole one when the signal is aborted', async () => {
    const abort = new AbortController();
    const program = await start("setInterval(() => process.stdout.write('x'.repeat(100_000)), 1)", new BatchPool(), abort.signal);
    const reading = text(program.stdout);
    program.stdout.once('data', () => abort.abort());
    await expect(reading).rejects.toMatchObject({ code: 'CANCELED' });
    await expect(program.done).rejects.toMatchObject({ stopped: true });
  });
});
