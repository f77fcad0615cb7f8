import type { Client } from 'pg';
import type { ArchiveToc, TocEntry } from './archive/toc.js';
import type { TableDigest } from './artifact/manifest.js';
import { EngineError } from './errors.js';
import { failureOf, statementError } from './postgres/connect-errors.js';
import { describeConnection, type PgConnection } from './postgres/connection.js';
import { CopyIn } from './postgres/copy-in.js';
import { redact } from './postgres/program-error.js';
import { quoteName } from './postgres/relations.js';

/** From so many bytes of rows on, a table is emptied and filled in one transaction, frozen: below, that costs more than it saves. */
const FREEZE_FROM_BYTES = 1024 * 1024;

/** One table's COPY. */
export class TableCopy {
  private constructor(
    private readonly client: Client,
    private readonly connection: PgConnection,
    private readonly doing: string,
    private readonly copy: CopyIn,
    private readonly inTransaction: boolean,
  ) {}

  static begin(
    client: Client,
    connection: PgConnection,
    { entry, table }: { entry: TocEntry; table: TableDigest },
    toc: ArchiveToc,
  ): Promise<TableCopy> {
    const name = `${quoteName(table.schema)}.${quoteName(table.name)}`;
    const doing = `Loading the rows of ${name}`;
    const frozen = table.bytes >= FREEZE_FROM_BYTES && isMadeHere(entry, toc);
    return explained(doing, connection, async () => {
      if (frozen) {
        await client.query('BEGIN');
        // What is emptied in the same transaction needs no WAL where wal_level is minimal, and its rows no second look.
        await client.query(`TRUNCATE TABLE ONLY ${name}`);
      }
      const options = [`ENCODING '${encodingOf(toc)}'`, ...(frozen ? ['FREEZE'] : [])];
      const text = (entry.copyStmt ?? '').trimEnd().replace(/;$/, ` WITH (${options.join(', ')})`);
      return new TableCopy(client, connection, doing, await CopyIn.begin(client, text), frozen);
    });
  }

  write(bytes: Buffer, sent: () => void): Promise<void> {
    return explained(this.doing, this.connection, () => this.copy.write(bytes, sent));
  }

  end(): Promise<void> {
    return explained(this.doing, this.connection, async () => {
      await this.copy.end();
      if (this.inTransaction) await this.client.query('COMMIT');
    });
  }
}

/** @throws EngineError that says what the server said, and what was being done */
export async function explained<T>(doing: string, connection: PgConnection, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw loadFailed(error, doing, connection);
  }
}

/** Whether the table comes from this archive: one that an extension brings may hold rows of its own. */
function isMadeHere(rows: TocEntry, toc: ArchiveToc): boolean {
  const table = toc.entries.find((entry) => entry.desc === 'TABLE' && rows.dependencies.includes(entry.dumpId));
  return table !== undefined && (table.tableAccessMethod === null || table.tableAccessMethod === 'heap');
}

function loadFailed(error: unknown, doing: string, connection: PgConnection): EngineError {
  const { code, message } = failureOf(error);
  const known = code === '22021' ? error : statementError(error, connection, doing);
  if (known instanceof EngineError) return known;
  return new EngineError(
    'RESTORE_FAILED',
    redact(`${doing} at ${describeConnection(connection)} failed: ${message}.`, connection),
    'Look at the log of the database server for this time.',
    { cause: error },
  );
}

/** The encoding of the rows. */
export function encodingOf(toc: ArchiveToc): string {
  const defn = toc.entries.find((entry) => entry.desc === 'ENCODING')?.defn ?? '';
  return /^SET client_encoding = '([A-Za-z0-9_]+)'/.exec(defn)?.[1] ?? 'SQL_ASCII';
}
