import { Injectable } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { ExternalBackups, type Report } from '../backups/external-backups.js';
import type { BackupRow } from '../backups/backups.repository.js';
import { parseDuration, parseSize, timeOfId } from '../backups/report-values.js';
import { Errors } from '../common/errors.js';
import type { ReportBackupDto } from './inbound.dto.js';
import { INBOUND_ACTOR, InboundGuard, type InboundRequest } from './inbound.guard.js';
import { InboundRepository } from './inbound.repository.js';

/** Twice the time in which a message of Standard Webhooks is taken. */
const NOTED_MINUTES = 15;
const DAY_MS = 86_400_000;

/** Takes in reports of backups that were made elsewhere. */
@Injectable()
export class InboundService {
  constructor(
    private readonly external: ExternalBackups,
    private readonly rows: InboundRepository,
    private readonly guard: InboundGuard,
  ) {}

  /** @throws UNAUTHORIZED when the very message has come before, VALIDATION_ERROR, CONFLICT */
  async report(
    { organizationId, messageId }: NonNullable<InboundRequest['inbound']>,
    dto: ReportBackupDto,
  ): Promise<{ backup: BackupRow; isNew: boolean }> {
    const report = reportOf(organizationId, dto, new Date());
    let isReplay = false;
    try {
      return await this.external.record(report, INBOUND_ACTOR, async (trx) => {
        isReplay = messageId !== null && !(await this.rows.noteMessage(trx, organizationId, messageId));
        if (isReplay) throw Errors.unauthorized('This very message was taken before; sign a new one, with a new timestamp.');
      });
    } catch (error) {
      if (isReplay) await this.guard.refuse(organizationId, 'replayed');
      throw error;
    }
  }

  @Cron('*/10 * * * *')
  async prune(): Promise<void> {
    await this.rows.prune(NOTED_MINUTES);
  }
}

/** The report with everything read. @throws VALIDATION_ERROR */
function reportOf(organizationId: string, dto: ReportBackupDto, now: Date): Report {
  const { tables = 0, records = 0, duration, size } = dto.metadata ?? {};
  const at = timeOfId(dto.backupId);
  const durationMs = readAs(duration, parseDuration);
  const bytes = readAs(size, parseSize);
  const faults: Record<string, string> = {};
  if (!at) faults['backupId'] = 'holds a time that there is not';
  else if (at.getTime() > now.getTime() + DAY_MS) faults['backupId'] = 'lies in the future; its time is in UTC';
  if (duration !== undefined && durationMs === undefined) faults['metadata.duration'] = 'must be such as 15s, 1m 30s or PT15S';
  if (size !== undefined && bytes === undefined)
    faults['metadata.size'] = 'must be a number of bytes, or such as 12MB or 1.5 GiB';
  if (!at || Object.keys(faults).length > 0) throw Errors.validation(faults);
  return {
    organizationId,
    id: dto.backupId,
    status: dto.status,
    at,
    type: dto.type ?? 'full',
    source: dto.source,
    label: dto.label,
    error: dto.error,
    tables,
    records,
    bytes: bytes ?? 0,
    durationMs,
  };
}

function readAs(value: unknown, parse: (value: string | number) => number | undefined): number | undefined {
  return typeof value === 'string' || typeof value === 'number' ? parse(value) : undefined;
}
