import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { EngineError } from '../errors.js';
import { AgeFailure, createAgeDecryptor } from './age-decrypt.js';
import { createAgeEncryptor } from './age-encrypt.js';
import { noKeyFits } from './artifact-errors.js';
import { manifestCorrupt, readOrRefuse } from './manifest-codec.js';
import type { Manifest, SealedContent, SealedSection, TableDigest } from './manifest.js';
import { absentIsNull, count, list, orNull, parseJson, record, sha256, text, type Reader } from './shape.js';

/** A million tables are about 150 MB of JSON; more is a decompression bomb. */
const MAX_CONTENT_BYTES = 400 * 1024 * 1024;

const readContent: Reader<SealedContent> = record<SealedContent>({
  tables: list(record<TableDigest>({ schema: text(), name: text(), rows: count, bytes: count, sha256 })),
  largeObjectsSha256: orNull(sha256),
  storageSha256: absentIsNull(sha256),
});

/** Encrypts the tables' digests as the artifacts are. @throws EngineError KEY_INVALID */
export async function sealTables(content: SealedContent, recipients: readonly string[]): Promise<SealedSection> {
  const plain = Buffer.from(JSON.stringify(readOrRefuse(() => readContent(content, 'tables'))));
  const compressed = await promisify(zstdCompress)(plain, {
    params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
  });
  const sealed = await collect(compressed, await createAgeEncryptor(recipients));
  return { encryption: 'age', compression: 'zstd', data: sealed.toString('base64') };
}

/**
 * Opens the sealed section and checks it against the manifest's totals.
 * @throws EngineError KEY_UNAVAILABLE, KEY_INVALID, MANIFEST_CORRUPT
 */
export async function openTables(
  manifest: Pick<Manifest, 'tables' | 'totals'>,
  identities: readonly string[],
): Promise<SealedContent> {
  const decryptor = await createAgeDecryptor(identities);
  const json = await opened(Buffer.from(manifest.tables.data, 'base64'), decryptor);
  const content = readOrRefuse(() => readContent(parseJson(json), 'tables'));
  const rows = content.tables.reduce((sum, table) => sum + table.rows, 0);
  if (content.tables.length !== manifest.totals.tableCount || rows !== manifest.totals.rowCount) {
    throw manifestCorrupt('its totals are not those of its tables');
  }
  return content;
}

async function opened(sealed: Buffer, decryptor: Awaited<ReturnType<typeof createAgeDecryptor>>): Promise<Buffer> {
  try {
    return await promisify(zstdDecompress)(await collect(sealed, decryptor), { maxOutputLength: MAX_CONTENT_BYTES });
  } catch (error) {
    if (error instanceof EngineError) throw error;
    if (error instanceof AgeFailure && error.reason === 'key') throw noKeyFits("the manifest's table section");
    throw manifestCorrupt('its table section is damaged', error);
  }
}

async function collect(input: Buffer, through: Transform): Promise<Buffer> {
  const [, output] = await Promise.all([pipeline(Readable.from([input]), through), through.toArray()]);
  return Buffer.concat(output as Buffer[]);
}
