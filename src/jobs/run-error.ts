import type { RunErrorColumn } from '../catalog/tables.js';
import { redact } from '../common/logging/redaction.js';
import { EngineError } from '../engine/errors.js';

/** What a run's failure is to its owner; anything unknown stays in the log. */
export function toRunError(thrown: unknown): RunErrorColumn {
  if (thrown instanceof EngineError) return { code: thrown.code, message: redact(thrown.message), hint: redact(thrown.hint) };
  return {
    code: 'INTERNAL_ERROR',
    message: 'Something went wrong inside the server.',
    hint: "The server's log has the cause under this run's id.",
  };
}
