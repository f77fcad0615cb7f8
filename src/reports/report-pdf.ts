import { createRequire } from 'node:module';
import Pdf from 'pdfkit';
import type { ComplianceReportDto, ProvenBackupDto, SourceComplianceDto } from './report.dto.js';
import { durationText, metText, percentText, targetText, timeText } from './report-text.js';

type Doc = InstanceType<typeof Pdf>;

/** Covers Latin, Greek, Cyrillic and more, where PDF's own fonts know Western Europe alone. */
const require = createRequire(import.meta.url);
const REGULAR = require.resolve('dejavu-fonts-ttf/ttf/DejaVuSans.ttf');
const BOLD = require.resolve('dejavu-fonts-ttf/ttf/DejaVuSans-Bold.ttf');

const MARGIN = 48;
const WIDTH = 595.28 - 2 * MARGIN;
const BOTTOM = 841.89 - MARGIN - 24;
const INK = '#1b2530';
const PALE = '#667684';
const RULE = '#d4dbe1';
const COLOURS: Record<string, string> = { met: '#17693a', missed: '#b3261e', unknown: '#667684' };
const LABEL_WIDTH = 118;
const SHOWN_RESTORES = 25;

/** The report as an A4 document; write it with `pipe`. */
export function reportPdf(report: ComplianceReportDto): Doc {
  const doc = new Pdf({
    size: 'A4',
    margin: MARGIN,
    bufferPages: true,
    font: REGULAR,
    info: { Title: `Compliance report of ${report.organization.name}`, Author: `Backstay ${report.backstay}` },
  });
  doc.registerFont('regular', REGULAR).registerFont('bold', BOLD);
  writeHead(doc, report);
  writeSummary(doc, report.sources);
  for (const source of report.sources) writeSource(doc, source);
  writeTrail(doc, report);
  writeFooters(doc, report);
  doc.end();
  return doc;
}

function writeHead(doc: Doc, report: ComplianceReportDto): void {
  doc.font('bold').fontSize(19).fillColor(INK).text('Compliance report', MARGIN, MARGIN);
  doc.font('regular').fontSize(10).fillColor(PALE);
  doc.text(`${report.organization.name}, ${timeText(report.from)} to ${timeText(report.to)}`);
  doc.text(`Made ${timeText(report.createdAt)} by ${report.createdBy} with Backstay ${report.backstay}`);
  doc.moveDown(0.8);
}

function writeSummary(doc: Doc, sources: readonly SourceComplianceDto[]): void {
  if (sources.length === 0) {
    doc.fillColor(INK).text('There was no source in this period.');
    return;
  }
  const columns = [
    { name: 'Source', width: 128 },
    { name: 'Verdict', width: 58 },
    { name: 'Schedule', width: 58 },
    { name: 'RPO', width: 72 },
    { name: 'RTO', width: 72 },
    { name: 'Success', width: 52 },
    { name: 'Proof', width: WIDTH - 440 },
  ];
  const rows = sources.map((source) => [
    source.name,
    source.verdict,
    metText(source.schedule.met),
    durationText(source.rpo.measuredMs),
    durationText(source.rto.measuredMs),
    percentText(source.backups.successRate),
    source.newestProven ? `level ${source.newestProven.level}` : 'none',
  ]);
  writeTable(doc, columns, rows);
}

function writeSource(doc: Doc, source: SourceComplianceDto): void {
  makeRoom(doc, 150);
  doc.moveDown(1.2);
  doc.font('bold').fontSize(13).fillColor(INK).text(source.name, MARGIN, doc.y, { continued: true });
  doc.fillColor(COLOURS[source.verdict] ?? INK).text(`   ${source.verdict}${source.deleted ? ', deleted' : ''}`);
  doc.moveDown(0.3);
  const { rpo, rto, newest, retention } = source;
  writeFact(doc, 'RPO', rpoText(source), rpo.met);
  writeFact(doc, 'RTO', rtoText(source), rto.met);
  writeSchedules(doc, source);
  const { completed, failed, canceled, broken, successRate } = source.backups;
  const rate = `success ${percentText(successRate)}`;
  writeFact(doc, 'Backups', `${completed} completed, ${failed} failed, ${canceled} canceled, ${broken} broken; ${rate}`);
  const { verifications } = source;
  const drills = `restore drills: ${verifications.drills}`;
  writeFact(doc, 'Verifications', `${verifications.completed} passed, ${verifications.failed} did not; ${drills}`);
  writeFact(doc, 'Newest backup', newest ? provenText(newest) : 'none', newest?.broken ? false : null);
  writeFact(doc, 'Newest proven', source.newestProven ? provenText(source.newestProven) : 'none');
  writeFact(doc, 'Retention', retentionText(source), retention.met);
  writeFact(doc, 'Encryption', encryptionText(source));
  writeRestores(doc, source);
}

function rpoText({ rpo }: SourceComplianceDto): string {
  const when = rpo.worstFrom ? ` (${timeText(rpo.worstFrom)} to ${timeText(rpo.worstTo)})` : '';
  return `${targetOf(rpo.targetMinutes)}measured ${durationText(rpo.measuredMs)}${when}, restore points: ${rpo.restorePoints}`;
}

function rtoText({ rto }: SourceComplianceDto): string {
  if (rto.measuredBy === null) return `${targetOf(rto.targetMinutes)}nothing whole was restored`;
  const of = rto.measurements > 1 ? `, the longest of ${rto.measurements}` : '';
  return `${targetOf(rto.targetMinutes)}measured ${durationText(rto.measuredMs)} in ${rto.measuredBy}${of}`;
}

function provenText({ id, level, provenAt, broken }: ProvenBackupDto): string {
  return `${id}, level ${level} on ${timeText(provenAt)}${broken ? ', broken' : ''}`;
}

function retentionText({ retention }: SourceComplianceDto): string {
  const rules = retention.policies.map(({ name, rules: what }) => `${name}: ${what}`).join('; ') || 'no policy removes anything';
  const since = retention.oldestAt ? ` since ${timeText(retention.oldestAt)}` : '';
  return `${rules}. Kept: ${retention.kept}${since}; removed: ${retention.removedByPolicy} by policy, ${retention.removedByHand} by hand`;
}

function encryptionText({ encryption }: SourceComplianceDto): string {
  const { method, recipients, notRecorded } = encryption;
  if (recipients.length + notRecorded === 0) return 'no backup was completed';
  const elsewhere = notRecorded > 0 ? `; keys of ${notRecorded} backups stand in their manifest only` : '';
  return `${method}${recipients.length > 0 ? ` to ${recipients.join(', ')}` : ''}${elsewhere}`;
}

function targetOf(minutes: number | null): string {
  return `target ${targetText(minutes)}, `;
}

function writeFact(doc: Doc, label: string, text: string, met?: boolean | null): void {
  const wide = WIDTH - LABEL_WIDTH;
  doc.font('regular').fontSize(9);
  makeRoom(doc, doc.heightOfString(text, { width: wide }) + 4);
  const top = doc.y;
  doc.fillColor(PALE).text(label, MARGIN, top, { width: LABEL_WIDTH - 8, lineBreak: false });
  if (met !== undefined && met !== null) {
    const word = metText(met);
    doc
      .font('bold')
      .fillColor(COLOURS[word] ?? INK)
      .text(word, MARGIN + 74, top, { width: 44, lineBreak: false });
  }
  doc
    .font('regular')
    .fillColor(INK)
    .text(text, MARGIN + LABEL_WIDTH, top, { width: wide });
  doc.y += 2;
}

function writeSchedules(doc: Doc, { schedule }: SourceComplianceDto): void {
  if (schedule.schedules.length === 0) return writeFact(doc, 'Schedule', 'none', null);
  for (const each of schedule.schedules) {
    const missed = each.firstMissed.map((slot) => timeText(slot)).join(', ');
    const from = each.missed > 0 && missed ? `: ${missed}${each.missed > each.firstMissed.length ? ' …' : ''}` : '';
    const text = `${each.name} (${each.cron}, ${each.timezone}${each.enabled ? '' : ', disabled'}): ${each.completed} of ${each.expected} completed, ${each.missed} missed${from}`;
    writeFact(doc, 'Schedule', text, each.expected === 0 ? null : each.missed === 0);
  }
}

function writeRestores(doc: Doc, { restores, restoreCount }: SourceComplianceDto): void {
  if (restoreCount === 0) return writeFact(doc, 'Restores', 'none');
  writeFact(doc, 'Restores', `${restoreCount}`);
  const columns = [
    { name: 'When', width: 112 },
    { name: 'By', width: 140 },
    { name: 'Into', width: 140 },
    { name: 'Took', width: 52 },
    { name: 'Status', width: WIDTH - 444 },
  ];
  const rows = restores
    .slice(0, SHOWN_RESTORES)
    .map(({ at, by, mode, database, durationMs, status }) => [
      timeText(at),
      by ?? 'Backstay',
      `${database} (${mode})`,
      durationText(durationMs),
      status,
    ]);
  writeTable(doc, columns, rows);
  if (restoreCount > rows.length) writeFact(doc, '', `And ${restoreCount - rows.length} more; the JSON form has the newest 100.`);
}

function writeTrail(doc: Doc, { audit, signingKey }: ComplianceReportDto): void {
  makeRoom(doc, 110);
  doc.moveDown(1.2);
  doc.font('bold').fontSize(13).fillColor(INK).text('Audit trail and keys', MARGIN, doc.y);
  doc.moveDown(0.3);
  const found = audit.intact
    ? `The chain of ${audit.entries} entries is whole${audit.removed > 0 ? `; ${audit.removed} before them were removed by age` : ''}.`
    : `The chain is broken: ${audit.brokenAt?.message ?? ''}`;
  writeFact(doc, 'Chain', found, audit.intact);
  writeFact(doc, 'Newest hash', audit.head || '–');
  writeFact(doc, 'Signing key', signingKey.replace(/-----[^-]+-----|\s/g, ''));
}

interface Column {
  name: string;
  width: number;
}

function writeTable(doc: Doc, columns: readonly Column[], rows: readonly (readonly string[])[]): void {
  writeRow(
    doc,
    columns,
    columns.map(({ name }) => name),
    true,
  );
  for (const row of rows) {
    if (writeRow(doc, columns, row, false)) continue;
    doc.addPage();
    writeRow(
      doc,
      columns,
      columns.map(({ name }) => name),
      true,
    );
    writeRow(doc, columns, row, false);
  }
  doc.x = MARGIN;
  doc.y += 4;
}

/** @returns false when it does not fit on the page */
function writeRow(doc: Doc, columns: readonly Column[], cells: readonly string[], isHead: boolean): boolean {
  doc.font(isHead ? 'bold' : 'regular').fontSize(8.5);
  const height = Math.max(...cells.map((cell, i) => doc.heightOfString(cell || ' ', { width: (columns[i]?.width ?? 0) - 6 })));
  if (!isHead && doc.y + height + 6 > BOTTOM) return false;
  const top = doc.y + 3;
  let left = MARGIN;
  for (const [i, cell] of cells.entries()) {
    const width = columns[i]?.width ?? 0;
    doc.fillColor(isHead ? PALE : (COLOURS[cell] ?? INK)).text(cell, left, top, { width: width - 6 });
    left += width;
  }
  doc.y = top + height + 3;
  doc
    .moveTo(MARGIN, doc.y)
    .lineTo(MARGIN + WIDTH, doc.y)
    .lineWidth(0.5)
    .strokeColor(RULE)
    .stroke();
  return true;
}

function makeRoom(doc: Doc, height: number): void {
  if (doc.y + height > BOTTOM) doc.addPage();
}

function writeFooters(doc: Doc, report: ComplianceReportDto): void {
  const { start, count } = doc.bufferedPageRange();
  for (let page = start; page < start + count; page++) {
    doc.switchToPage(page);
    // Text below the margin would begin a new page.
    doc.page.margins.bottom = 0;
    doc.font('regular').fontSize(8).fillColor(PALE);
    const top = 841.89 - MARGIN + 8;
    doc.text(`${report.organization.name} · installation ${report.installation}`, MARGIN, top, {
      width: WIDTH - 80,
      lineBreak: false,
    });
    doc.text(`${page - start + 1} / ${count}`, MARGIN + WIDTH - 80, top, { width: 80, align: 'right', lineBreak: false });
  }
}
