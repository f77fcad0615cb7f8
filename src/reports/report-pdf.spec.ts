import { describe, expect, it } from '@jest/globals';
import { buffer } from 'node:stream/consumers';
import type { ComplianceReportDto, SourceComplianceDto } from './report.dto.js';
import { reportPdf } from './report-pdf.js';

const at = '2026-03-01T02:00:00.000Z';

function source(n: number): SourceComplianceDto {
  const restore = {
    id: `restore_${n}`,
    backupId: `backup_${n}`,
    at,
    status: 'completed',
    mode: 'swap',
    host: 'db',
    database: 'shop',
  };
  return {
    id: `src_${n}`,
    name: `database ${n} of a platform team with a rather long name that needs a second line`,
    deleted: false,
    verdict: n % 3 === 0 ? 'missed' : 'met',
    schedule: {
      met: true,
      schedules: [
        {
          id: 's',
          name: 'nightly',
          cron: '0 2 * * *',
          timezone: 'UTC',
          enabled: true,
          expected: 9,
          completed: 7,
          missed: 2,
          firstMissed: [at, at],
          countedFrom: at,
        },
      ],
    },
    rpo: { targetMinutes: 1440, measuredMs: 90_000_000, worstFrom: at, worstTo: at, restorePoints: 7, met: false },
    rto: { targetMinutes: 30, measuredMs: 61_000, measuredBy: `restore_${n}`, measurements: 2, met: true },
    backups: { completed: 7, failed: 2, canceled: 0, broken: 0, successRate: 7 / 9 },
    verifications: { completed: 7, failed: 0, highestLevel: 4, drills: 1 },
    newest: { id: 'backup_2026-03-01_02-00-00_abcdef', finishedAt: at, level: 2, provenAt: at, broken: false },
    newestProven: { id: 'backup_2026-03-01_02-00-00_abcdef', finishedAt: at, level: 4, provenAt: at, broken: false },
    retention: {
      policies: [{ name: 'standard', rules: 'last 7' }],
      kept: 7,
      oldestAt: at,
      removedByPolicy: 2,
      removedByHand: 0,
      waitingForRemoval: 0,
      met: true,
    },
    encryption: { method: 'age', recipients: ['age1'.padEnd(62, 'q'), 'age1'.padEnd(62, 'z')], notRecorded: 1 },
    restores: Array.from({ length: n === 1 ? 40 : 2 }, () => ({
      ...restore,
      by: 'Ops (user usr_1)',
      durationMs: 61_000,
      countsEqual: true,
    })),
    restoreCount: n === 1 ? 40 : 2,
  };
}

describe('the report as PDF', () => {
  it('goes over as many pages as it needs, each with its number', async () => {
    const report: ComplianceReportDto = {
      organization: { id: 'org_1', name: 'Plattform' },
      installation: 'inst_1',
      backstay: '0.1.0',
      from: at,
      to: at,
      createdAt: at,
      createdBy: 'owner',
      signingKey: '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n',
      audit: {
        intact: false,
        entries: 3,
        removed: 1,
        head: 'ab'.repeat(32),
        brokenAt: { seq: 3, id: '3', kind: 'changed', message: 'Entry 3 is not as it was written.' },
      },
      sources: Array.from({ length: 30 }, (_, n) => source(n)),
    };
    const pdf = await buffer(reportPdf(report));
    const pages = /\/Type \/Pages\s+\/Count (\d+)/.exec(pdf.toString('latin1'))?.[1];
    expect(Number(pages)).toBeGreaterThan(7);
    expect(Number(pages)).toBeLessThan(20);
  });
});
