#!/usr/bin/env node
import 'reflect-metadata';
import { EngineError } from '../engine/errors.js';
import { inspect, type Outcome, restore, type Surroundings, verify } from './commands.js';
import { EXIT, exitCodeOf, UsageError } from './exit-codes.js';
import { type Options, readOptions, USAGE } from './options.js';
import { ProgressBar } from './progress-bar.js';

async function main(): Promise<number> {
  let json = process.argv.includes('--json');
  const bar = new ProgressBar(json ? undefined : process.stderr);
  try {
    const options = readOptions(process.argv.slice(2), process.env);
    if (options === 'help') {
      process.stdout.write(USAGE);
      return EXIT.ok;
    }
    json = options.json;
    const outcome = await run(options, { env: process.env, signal: stopSignal(), onProgress: bar.show });
    bar.clear();
    return tell(outcome, json);
  } catch (error) {
    bar.clear();
    const code = exitCodeOf(error);
    const message = sentenceOf(error);
    if (json) process.stdout.write(`${JSON.stringify({ ok: false, exitCode: code, code: codeOf(error), error: message })}\n`);
    else process.stderr.write(`${message}\n${code === EXIT.usage ? 'backstay --help says more.\n' : ''}`);
    return code;
  }
}

async function run(options: Options, around: Surroundings): Promise<Outcome> {
  switch (options.command) {
    case 'inspect':
      return inspect(options, around);
    case 'verify':
      return verify(options, around);
    case 'restore':
      return restore(options, around);
    case 'adopt':
      // The only one that needs the server's code, and its catalog.
      return (await import('./adopt.js')).adopt(options, around);
  }
}

function tell({ lines, data, failure }: Outcome, json: boolean): number {
  const code = failure === null ? EXIT.ok : exitCodeOf(failure);
  const error = failure === null ? null : sentenceOf(failure);
  if (json) process.stdout.write(`${JSON.stringify({ ok: failure === null, exitCode: code, error, ...data })}\n`);
  else {
    process.stdout.write(`${lines.join('\n')}\n`);
    if (error !== null) process.stderr.write(`${error}\n`);
  }
  return code;
}

function sentenceOf(error: unknown): string {
  if (error instanceof EngineError) return `${error.message} ${error.hint}`.trim();
  if (error instanceof UsageError) return error.message;
  return error instanceof Error ? error.message : String(error);
}

function codeOf(error: unknown): string {
  return error instanceof EngineError ? error.code : error instanceof UsageError ? 'USAGE' : 'FAILED';
}

/** Ctrl-C stops the work in good order: what was begun at the target is taken back. */
function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => stop.abort(new EngineError('CANCELED', 'Stopped by a signal.', '')));
  return stop.signal;
}

process.exitCode = await main();
