import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { Logger } from 'nestjs-pino';
import { AppModule, type Foundation } from './app.module.js';
import { Catalog } from './catalog/catalog.js';
import type { Settings } from './config/settings.js';
import { QuietLogger } from './common/logging/quiet-logger.js';
import { configureHttp } from './http.js';
import { forgetOwnerKey, openInstallation } from './installation/installation.js';
import { StartError } from './common/start-error.js';
import { openDataDir } from './installation/data-dir.js';
import { createDefaultSource } from './installation/default-source.js';
import { openSecretBox, openServerKeys } from './keys/server-keys.js';
import { setUpDocs } from './openapi-document.js';

/** A running server. */
export interface RunningServer {
  /** Where it listens, such as http://127.0.0.1:3000. */
  url: string;
  foundation: Foundation;
  app: NestExpressApplication;
  /** Gives running jobs back, closes streams and connections, and the catalog last. */
  stop(): Promise<void>;
}

/** Opens the catalog and the keys, founds the installation at the first start, and serves. */
export async function startServer(settings: Settings): Promise<RunningServer> {
  await openDataDir(settings.dataDir);
  const catalog = await Catalog.open(settings);
  let unshownKey: string | undefined;
  try {
    const secrets = await openSecretBox(settings);
    const keys = await openServerKeys(catalog, settings, secrets);
    const installation = await openInstallation(catalog, settings);
    unshownKey = installation.newOwnerKey;
    await createDefaultSource(catalog, settings, installation, secrets);
    const foundation: Foundation = { settings, catalog, installation, keys, secrets };
    const app = await createApp(foundation);
    await listen(app, settings);
    const stop = async () => {
      await app.close();
      await catalog.close();
    };
    return { url: addressOf(app.getHttpServer() as Server, settings.host), foundation, app, stop };
  } catch (error) {
    // Otherwise the key would be in force and known to nobody.
    if (unshownKey !== undefined) await forgetOwnerKey(catalog).catch(() => undefined);
    await catalog.close();
    throw error;
  }
}

async function createApp(foundation: Foundation): Promise<NestExpressApplication> {
  const app = await NestFactory.create<NestExpressApplication>(AppModule.with(foundation), {
    bufferLogs: true,
    bodyParser: false,
    // A webhook's signature is over the exact bytes.
    rawBody: true,
    forceCloseConnections: true,
    abortOnError: false,
  });
  app.useLogger(new QuietLogger(app.get(Logger)));
  configureHttp(app, foundation.settings);
  setUpDocs(app, foundation.settings);
  return app;
}

async function listen(app: NestExpressApplication, { port, host }: Settings): Promise<void> {
  try {
    await (host === '' ? app.listen(port) : app.listen(port, host));
  } catch (error) {
    await app.close().catch(() => undefined);
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE')
      throw new StartError(
        `Port ${port} is taken by another program. Stop that one, or choose another port: PORT=${port + 1} npm start`,
        { cause: error },
      );
    if ((error as NodeJS.ErrnoException).code === 'EACCES')
      throw new StartError(`Port ${port} may not be opened by this user. Choose one above 1023: PORT=3000 npm start`, {
        cause: error,
      });
    throw error;
  }
}

function addressOf(server: Server, host: string): string {
  const { port } = server.address() as AddressInfo;
  const shown = host === '' || host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return `http://${shown.includes(':') ? `[${shown}]` : shown}:${port}`;
}
