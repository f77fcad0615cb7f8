import type { ComplianceReportDto, SourceComplianceDto } from './report.dto.js';
import { metText } from './report-text.js';

type Cell = string | number | boolean | null;

const SOURCE_COLUMNS: readonly [string, (source: SourceComplianceDto, report: ComplianceReportDto) => Cell][] = [
  ['from', (_, { from }) => from],
  ['to', (_, { to }) => to],
  ['organization', (_, { organization }) => organization.name],
  ['source', ({ name }) => name],
  ['sourceId', ({ id }) => id],
  ['deleted', ({ deleted }) => deleted],
  ['verdict', ({ verdict }) => verdict],
  ['schedule', ({ schedule }) => metText(schedule.met)],
  ['slotsExpected', ({ schedule }) => total(schedule.schedules.map(({ expected }) => expected))],
  ['slotsMissed', ({ schedule }) => total(schedule.schedules.map(({ missed }) => missed))],
  ['rpo', ({ rpo }) => metText(rpo.met)],
  ['rpoTargetMinutes', ({ rpo }) => rpo.targetMinutes],
  ['rpoMeasuredMs', ({ rpo }) => rpo.measuredMs],
  ['rto', ({ rto }) => metText(rto.met)],
  ['rtoTargetMinutes', ({ rto }) => rto.targetMinutes],
  ['rtoMeasuredMs', ({ rto }) => rto.measuredMs],
  ['rtoMeasuredBy', ({ rto }) => rto.measuredBy],
  ['backupsCompleted', ({ backups }) => backups.completed],
  ['backupsFailed', ({ backups }) => backups.failed],
  ['successRate', ({ backups }) => backups.successRate],
  ['newestBackup', ({ newest }) => newest?.id ?? null],
  ['newestAt', ({ newest }) => newest?.finishedAt ?? null],
  ['newestLevel', ({ newest }) => newest?.level ?? null],
  ['newestProvenBackup', ({ newestProven }) => newestProven?.id ?? null],
  ['newestProvenLevel', ({ newestProven }) => newestProven?.level ?? null],
  ['newestProvenAt', ({ newestProven }) => newestProven?.provenAt ?? null],
  ['verificationsCompleted', ({ verifications }) => verifications.completed],
  ['verificationsFailed', ({ verifications }) => verifications.failed],
  ['retention', ({ retention }) => metText(retention.met)],
  ['retentionPolicies', ({ retention }) => retention.policies.map(({ name, rules }) => `${name}: ${rules}`).join('; ')],
  ['kept', ({ retention }) => retention.kept],
  ['oldestKeptAt', ({ retention }) => retention.oldestAt],
  ['removedByPolicy', ({ retention }) => retention.removedByPolicy],
  ['removedByHand', ({ retention }) => retention.removedByHand],
  ['encryption', ({ encryption }) => encryption.method],
  ['recipients', ({ encryption }) => encryption.recipients.join(' ')],
  ['restores', ({ restoreCount }) => restoreCount],
  [
    'restoredBy',
    ({ restores }) =>
      restores.map(({ at, by, mode, database, status }) => `${at} ${by ?? 'Backstay'} ${mode} ${database} ${status}`).join('; '),
  ],
  ['auditIntact', (_, { audit }) => audit.intact],
  ['auditEntries', (_, { audit }) => audit.entries],
  ['auditHead', (_, { audit }) => audit.head],
];

/** The report as RFC 4180 CSV with a header: a row for each source. */
export function reportCsv(report: ComplianceReportDto): string {
  const rows: Cell[][] = report.sources.map((source) => SOURCE_COLUMNS.map(([, of]) => of(source, report)));
  return [SOURCE_COLUMNS.map(([name]) => name), ...rows].map((cells) => `${cells.map(written).join(',')}\r\n`).join('');
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, each) => sum + each, 0);
}

/** Spreadsheets take text that begins with these for a formula. */
const FORMULA = /^[=+\-@\t\r]/;

function written(cell: Cell): string {
  if (cell === null) return '';
  if (typeof cell !== 'string') return String(cell);
  const text = FORMULA.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
