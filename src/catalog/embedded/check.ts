import { Worker } from 'node:worker_threads';

/** The newest entries of a catalog: none may be older than in its own snapshot. ISO times and numbers; '' and 0 when there are none. */
export interface Watermark {
  auditId: number;
  attemptEndedAt: string;
}

export const WATERMARK_SQL = `SELECT
  coalesce((SELECT max(id) FROM backstay.audit_entries), 0)::int8::text::float8 AS "auditId",
  coalesce((SELECT to_char(max(finished_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM backstay.attempts), '') AS "attemptEndedAt"`;

/** Opening may have to replay a gigabyte; after this long without a sign of life it is going round in circles. */
const PATIENCE_MS = 120_000;
const WORKER = new URL(import.meta.url.endsWith('.ts') ? './check-worker.ts' : './check-worker.js', import.meta.url);

export type CheckResult = { whole: true; newest: Watermark } | { whole: false; damage: string };

type Message = { step: string } | { found: Watermark } | { damage: string };

/**
 * Opens an embedded catalog in a thread of its own and reads every page, index and row of it. Never throws for damage.
 * @param folder of PGlite; nobody else may have it open
 */
export function checkEmbedded(folder: string, patienceMs = PATIENCE_MS): Promise<CheckResult> {
  return new Promise((resolve) => {
    // What PGlite prints on its way down is neither a log event nor anybody's business.
    const worker = new Worker(WORKER, {
      workerData: { folder, newest: WATERMARK_SQL },
      stdout: true,
      stderr: true,
      execArgv: [],
    });
    let step = 'start';
    let timer: NodeJS.Timeout;
    const end = (result: CheckResult) => {
      clearTimeout(timer);
      resolve(result);
      void worker.terminate();
    };
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(() => end({ whole: false, damage: `it hung at: ${step}` }), patienceMs);
    };
    wait();
    worker.on('message', (message: Message) => {
      if ('step' in message) {
        step = message.step;
        wait();
      } else if ('found' in message) end({ whole: true, newest: message.found });
      else end({ whole: false, damage: oneLine(`${message.damage} (at: ${step})`) });
    });
    worker.on('error', (error) => end({ whole: false, damage: oneLine(`${error.message} (at: ${step})`) }));
    worker.on('exit', (code) => end({ whole: false, damage: `it ended PGlite with code ${code} (at: ${step})` }));
  });
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').slice(0, 300);
}
