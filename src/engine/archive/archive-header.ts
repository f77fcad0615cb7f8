import { archiveCorrupt, archiveUnsupported } from './archive-errors.js';

/** 1.14 is written by pg_dump 12 to 15, 1.15 by 16, 1.16 by 17 and 18. */
export const ARCHIVE_VERSIONS = ['1.14', '1.15', '1.16'] as const;
export type ArchiveVersion = (typeof ARCHIVE_VERSIONS)[number];

/** `PGDMP`, three bytes of version, sizes of integers and offsets, format. */
export const PREAMBLE_BYTES = 11;

export interface Preamble {
  version: ArchiveVersion;
  /** Bytes of an integer without its sign: always 4. */
  intSize: number;
  /** Bytes of a file offset: 4 or 8. */
  offSize: number;
}

const MAGIC = 'PGDMP';
const CUSTOM_FORMAT = 1;
const FORMATS = ['unknown', 'custom', 'files', 'tar', 'plain', 'directory'];
const COMPRESSIONS = ['none', 'gzip', 'lz4', 'zstd'];

/**
 * Reads an archive's first bytes, which have the same form in every version.
 * @throws EngineError ARCHIVE_CORRUPT for anything that is no custom archive of a known version.
 */
export function parsePreamble(bytes: Buffer): Preamble {
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) {
    throw archiveUnsupported('it does not begin with PGDMP, as an archive in the custom format of pg_dump does');
  }
  const written = `${bytes.readUInt8(5)}.${bytes.readUInt8(6)}`;
  const version = ARCHIVE_VERSIONS.find((known) => known === written);
  if (version === undefined) {
    throw archiveUnsupported(`it has the archive version ${written}; known are ${ARCHIVE_VERSIONS.join(', ')}`);
  }
  const intSize = bytes.readUInt8(8);
  const offSize = bytes.readUInt8(9);
  const format = bytes.readUInt8(10);
  if (intSize !== 4) throw archiveUnsupported(`its integers have ${intSize} bytes instead of 4`);
  if (offSize !== 4 && offSize !== 8) throw archiveUnsupported(`its file offsets have ${offSize} bytes instead of 8`);
  if (format !== CUSTOM_FORMAT) {
    throw archiveUnsupported(`it has the format ${FORMATS[format] ?? format} instead of custom`);
  }
  return { version, intSize, offSize };
}

/**
 * Refuses compressed archives: their rows could only be counted by decompressing them.
 * `compression` is a zlib level in 1.14 and the number of an algorithm later.
 */
export function refuseCompression(version: ArchiveVersion, compression: number): void {
  if (compression === 0) return;
  const name = version === '1.14' ? 'gzip' : (COMPRESSIONS[compression] ?? `algorithm ${compression}`);
  throw archiveUnsupported(`its data is compressed (${name}) by pg_dump`);
}

/** Second, minute, hour, day of the month, month from 0, years since 1900: the fields of C's `struct tm`. */
export type BrokenDownTime = [seconds: number, minutes: number, hours: number, day: number, month: number, year: number];

/** `2025-12-22T14:30:00`, in the time zone of the machine that dumped: the archive does not say which. */
export function formatCreationTime([seconds, minutes, hours, day, month, year]: BrokenDownTime): string {
  const sound =
    within(seconds, 0, 60) &&
    within(minutes, 0, 59) &&
    within(hours, 0, 23) &&
    within(day, 1, 31) &&
    within(month, 0, 11) &&
    within(year, 70, 8099);
  if (!sound) throw archiveCorrupt('its creation time is no time');
  return `${year + 1900}-${twoDigits(month + 1)}-${twoDigits(day)}T${twoDigits(hours)}:${twoDigits(minutes)}:${twoDigits(seconds)}`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}

function within(value: number, low: number, high: number): boolean {
  return value >= low && value <= high;
}
