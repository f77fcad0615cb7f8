import 'reflect-metadata';
import { redact } from './common/logging/redaction.js';
import { StartError } from './common/start-error.js';
import { loadSettings, SettingsError } from './config/settings.js';
import { EngineError } from './engine/errors.js';
import { KeysService } from './keys/keys.service.js';
import { type RunningServer, startServer } from './server.js';
import { VERSION } from './version.js';

/** Starts the server by the environment, says where it is, and stops it in good order when asked to. */
export async function serve(): Promise<void> {
  try {
    const server = await startServer(loadSettings(process.env));
    stopOnSignal(server);
    say(await greeting(server));
  } catch (error) {
    fail(error);
  }
}

function stopOnSignal(server: RunningServer): void {
  let stopping = false;
  const stop = (signal: NodeJS.Signals) => {
    if (stopping) return;
    stopping = true;
    say(`${signal}: stopping; running work has ${server.foundation.settings.shutdownGraceSeconds} s to end.`);
    server.stop().then(() => process.exit(0), fail);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

/** Where it is, and what is left to do by hand; the owner's key stands here once and nowhere else. */
async function greeting({ url, foundation: { settings, catalog, installation, keys }, app }: RunningServer): Promise<string> {
  const serves = settings.role !== 'worker';
  const lines = [serves ? `Backstay ${VERSION} listens on ${url}` : `Backstay ${VERSION} works on queued runs`];
  const line = (name: string, value: string) => lines.push(`  ${name.padEnd(11)}${value}`);
  if (serves && settings.docsEnabled) line('API', `${url}/api/docs`);
  line('Data', catalog.embedded ? settings.dataDir : `${settings.dataDir}, catalog in PostgreSQL`);
  if (installation.newOwnerKey) line('Owner key', `${installation.newOwnerKey}   (shown only this once)`);
  if (serves && keys.holdsIdentity && (await app.get(KeysService).savedAt()) === null) {
    line('To do', `keep ${url}/api/keys/recovery-kit (keys: ${keys.keptIn}) somewhere else,`);
    line('', `then POST ${url}/api/keys/confirm-saved`);
  }
  return lines.join('\n');
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function fail(error: unknown): never {
  process.stderr.write(`Backstay can't start.\n${explain(error)}\n`);
  process.exit(1);
}

/** A sentence where the failure is one that we foresaw, else all that is known of it. */
function explain(error: unknown): string {
  // Its sentences repeat no value, and what they show as an example must stay readable.
  if (error instanceof SettingsError) return error.message;
  if (error instanceof EngineError) return redact(`${error.message} ${error.hint}`);
  if (!(error instanceof Error)) return redact(String(error));
  return redact(error instanceof StartError ? error.message : (error.stack ?? error.message));
}
