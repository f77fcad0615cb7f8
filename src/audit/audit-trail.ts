import { Injectable } from '@nestjs/common';
import { CursorPage } from '../common/http/envelope.interceptor.js';
import type { AuditCheckDto, AuditEntryDto, AuditFilterDto, ListAuditDto } from './audit.dto.js';
import { AuditRepository, type AuditRow } from './audit.repository.js';

const STEP = 1_000;

/** The audit trail of an organization, as it is read, exported and checked. */
@Injectable()
export class AuditTrail {
  constructor(private readonly entries: AuditRepository) {}

  async list(organizationId: string, { cursor, limit, ...filter }: ListAuditDto): Promise<CursorPage<AuditEntryDto>> {
    const before = cursor === undefined ? undefined : Number(cursor);
    const rows = await this.entries.list(organizationId, filter, before, limit + 1);
    const shown = rows.slice(0, limit);
    const nextCursor = rows.length > limit ? String(shown.at(-1)?.seq) : null;
    return new CursorPage(shown.map(toEntry), { limit, nextCursor });
  }

  /** Every entry as a line of JSON, the oldest first, with the text that its hash is of. */
  async *lines(organizationId: string, filter: AuditFilterDto): AsyncGenerator<string> {
    const { seq: newest } = await this.entries.head(organizationId);
    for (let after = 0; ;) {
      const rows = await this.entries.after(organizationId, filter, after, STEP);
      const wanted = rows.filter(({ seq }) => seq <= newest);
      if (wanted.length > 0) yield wanted.map((row) => `${JSON.stringify({ ...toEntry(row), hashed: row.hashed })}\n`).join('');
      if (wanted.length < STEP) return;
      after = wanted.at(-1)!.seq;
    }
  }

  /** Computes the whole chain anew, and says where it breaks first. */
  async check(organizationId: string): Promise<AuditCheckDto> {
    const head = await this.entries.head(organizationId);
    const found = { entries: 0, removed: head.base_seq, head: head.hash };
    const broken = (seq: number, id: string | null, kind: 'changed' | 'missing' | 'head', message: string): AuditCheckDto => ({
      intact: false,
      ...found,
      brokenAt: { seq, id, kind, message },
    });
    let last = { seq: head.base_seq, hash: head.base_hash };
    for (;;) {
      const rows = await this.entries.checked(organizationId, last.seq, head.seq, STEP);
      for (const row of rows) {
        if (row.seq !== last.seq + 1) return broken(last.seq + 1, null, 'missing', `Entry ${last.seq + 1} was removed.`);
        if (row.previous_hash !== last.hash)
          return broken(row.seq, row.id, 'changed', `Entry ${row.seq} does not follow from the one before it.`);
        if (row.hash !== row.real_hash) return broken(row.seq, row.id, 'changed', `Entry ${row.seq} is not as it was written.`);
        last = row;
        found.entries += 1;
      }
      if (rows.length < STEP) break;
    }
    if (last.seq !== head.seq || last.hash !== head.hash)
      return broken(last.seq + 1, null, 'head', `The chain ends at ${last.seq}, but ${head.seq} entries were written.`);
    return { intact: true, ...found, brokenAt: null };
  }
}

function toEntry(row: AuditRow): AuditEntryDto {
  return {
    id: row.id,
    seq: row.seq,
    at: row.at.toISOString(),
    actor: { kind: row.actor_kind, id: row.actor_id, name: row.actor_name },
    action: row.action,
    resource: { kind: row.resource_kind, id: row.resource_id },
    result: row.result,
    address: row.address,
    userAgent: row.user_agent,
    requestId: row.request_id,
    changes: row.changes,
    previousHash: row.previous_hash,
    hash: row.hash,
  };
}
