import { EngineError } from '../errors.js';

/** A fault in the bytes of an archive. `what` is a clause, e.g. "the table of contents names dump id 7 twice". */
export function archiveCorrupt(what: string): EngineError {
  return new EngineError(
    'ARCHIVE_CORRUPT',
    `The archive is damaged: ${what}.`,
    'Use another copy of this backup, or an older one; when it came straight from pg_dump, run the backup again.',
  );
}

/** An archive that is sound but of a kind that this reader does not know. `what` is a clause. */
export function archiveUnsupported(what: string): EngineError {
  return new EngineError(
    'ARCHIVE_CORRUPT',
    `The archive can not be read: ${what}.`,
    'Archives of pg_dump 12 to 18 made with `--format=custom --compress=0` can be read.',
  );
}
