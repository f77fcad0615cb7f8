import 'reflect-metadata';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadSettings } from './config/settings.js';
import { openApiDocument } from './openapi-document.js';
import { startServer } from './server.js';

/** Writes the OpenAPI document to the file that the first argument names. Run it from `dist`: only there do the DTOs have their schemas. */
const dataDir = await mkdtemp(join(tmpdir(), 'backstay-openapi-'));
const server = await startServer(
  loadSettings({
    DATA_DIR: dataDir,
    PORT: '0',
    HOST: '127.0.0.1',
    LOG_LEVEL: 'silent',
    BOOTSTRAP_API_KEY: `bsk_${'0'.repeat(32)}`,
  }),
);
await writeFile(process.argv[2] ?? 'openapi.json', `${JSON.stringify(openApiDocument(server.app), null, 2)}\n`);
await server.stop();
await rm(dataDir, { recursive: true, force: true });
