import { describe, expect, it } from '@jest/globals';
import { messageOf, severityOf, stateOf, type ToldEvent } from './message.js';

const AT = new Date('2025-12-22T14:30:15.000Z');
const BACKUP = {
  id: 'backup_2025-12-22_14-30-00_k7m2qd',
  status: 'completed',
  source: { id: 'src_1', name: 'shop' },
  tableCount: 2,
  rowCount: 1247,
  sizeBytes: 5_346_816,
  durationMs: 15_230,
  proofLevel: 2,
  error: null,
};
const event = (type: string, data: Record<string, unknown>): ToldEvent => ({ id: 'evt_1', type, occurredAt: AT, data });

describe('what is told of an event', () => {
  it('names the backup, its source, tables, records, size, duration and proof', () => {
    expect(messageOf(event('backup.completed', { backup: BACKUP }), 'https://backstay.example.org')).toEqual({
      eventId: 'evt_1',
      type: 'backup.completed',
      severity: 'info',
      title: 'Backup of shop completed',
      detail: null,
      facts: [
        { name: 'Backup', value: BACKUP.id, verbatim: true },
        { name: 'Source', value: 'shop', verbatim: true },
        { name: 'Tables', value: '2' },
        { name: 'Records', value: '1,247' },
        { name: 'Size', value: '5.3 MB' },
        { name: 'Duration', value: '15.2 s' },
        { name: 'Proof level', value: '2' },
      ],
      link: 'https://backstay.example.org/api/backups/backup_2025-12-22_14-30-00_k7m2qd/details',
      at: AT,
    });
  });

  it('says of a failure what happened and how to mend it', () => {
    const error = { code: 'DISK_FULL', message: 'The disk is full.', hint: 'Free some space.' };
    const message = messageOf(event('backup.failed', { backup: { ...BACKUP, proofLevel: null, error } }), null);
    expect(message).toMatchObject({
      severity: 'error',
      title: 'Backup of shop failed',
      detail: 'The disk is full. Free some space.',
      link: null,
    });
    expect(message.facts.at(-1)).toEqual({ name: 'Error', value: 'DISK_FULL', verbatim: true });
  });

  it('says what a run that ended well was warned of, the first of it', () => {
    const told = (warnings: string[]) => messageOf(event('backup.completed', { backup: { ...BACKUP, warnings } }), null).detail;
    expect(told([])).toBeNull();
    expect(told(['It took long.'])).toBe('It took long.');
    expect(told(['One.', 'Two.', 'Three.', 'Four.'])).toBe('One. Two. (and 2 more)');
  });

  it('takes the source of a restore or verification from its backup', () => {
    const verification = { id: 'verification_1', backupId: BACKUP.id, provenLevel: 4, error: null };
    const message = messageOf(event('verification.completed', { verification, backup: BACKUP }), null);
    expect(message.title).toBe('Verification of shop completed');
    expect(message.facts.map(({ name }) => name)).toEqual(['Verification', 'Backup', 'Source', 'Proof level']);
  });

  it('says something of events that it knows nothing of', () => {
    const message = messageOf(event('status.degraded', { status: { message: 'The disk of DATA_DIR is nearly full.' } }), null);
    expect(message).toMatchObject({
      title: 'Status degraded',
      severity: 'warning',
      detail: 'The disk of DATA_DIR is nearly full.',
      facts: [],
    });
  });

  it('tells bad from good, and what says nothing of either', () => {
    expect(['backup.completed', 'status.recovered'].map(stateOf)).toEqual(['good', 'good']);
    expect(['backup.failed', 'destination.unreachable', 'schedule.missed'].map(stateOf)).toEqual(['bad', 'bad', 'bad']);
    expect(['backup.started', 'backup.canceled'].map(stateOf)).toEqual([null, null]);
    expect(['backup.failed', 'backup.canceled', 'backup.queued'].map(severityOf)).toEqual(['error', 'warning', 'info']);
  });
});
