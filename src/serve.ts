import 'reflect-metadata';
import { loadSettings, SettingsError } from './config/settings.js';
import { redact } from './common/logging/redaction.js';
import { EngineError } from './engine/errors.js';
import { type RunningServer, startServer } from './server.js';

const say = (text: string) => process.stdout.write(`${text}\n`);

/** Starts the server, says where it is, and stops it in good order when asked to. */
async function main(): Promise<void> {
  const settings = loadSettings(process.env);
  const server = await startServer(settings);
  greet(server);
  let stopping = false;
  const stop = (signal: NodeJS.Signals) => {
    if (stopping) return;
    stopping = true;
    say(`${signal}: stopping; running work has ${settings.shutdownGraceSeconds} s to end.`);
    server.stop().then(
      () => process.exit(0),
      (error: unknown) => fail(error),
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

function greet({ url, foundation: { settings, installation, keys } }: RunningServer): void {
  if (settings.role !== 'worker') {
    say(`Backstay listens on ${url}`);
    if (settings.docsEnabled) say(`  API and documentation: ${url}/api/docs`);
  }
  if (installation.newOwnerKey) say(`  Your owner key, shown only this once: ${installation.newOwnerKey}`);
  if (keys.holdsIdentity)
    say(`  Save the keys that decrypt your backups (${keys.keptIn}) somewhere else too, then POST ${url}/api/keys/confirm-saved`);
}

function fail(error: unknown): never {
  const known = error instanceof SettingsError || error instanceof EngineError;
  const text =
    error instanceof EngineError
      ? `${error.message} ${error.hint}`
      : error instanceof Error
        ? known
          ? error.message
          : (error.stack ?? error.message)
        : String(error);
  process.stderr.write(
    `Backstay can't start.\n${redact(known || !(error instanceof Error) || !error.cause ? text : error.message)}\n`,
  );
  process.exit(1);
}

await main().catch(fail);
