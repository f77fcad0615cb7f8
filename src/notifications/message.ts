/** How bad an event is; a channel may ask for the worse ones only. */
export const SEVERITIES = ['info', 'warning', 'error'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** A line of what is known, such as Rows: 1,247. */
export interface Fact {
  name: string;
  value: string;
  /** Ids and names that have to be read letter by letter. */
  verbatim?: boolean;
}

/** What happened, as people are told of it, whatever the channel. */
export interface Message {
  /** Constant over retries. */
  eventId: string;
  type: string;
  severity: Severity;
  /** One line, such as Backup of shop failed. */
  title: string;
  /** What went wrong and how to mend it; null where nothing did. */
  detail: string | null;
  facts: Fact[];
  /** Where more of it is shown; null where the server does not know its own address. */
  link: string | null;
  at: Date;
}

/** An event as the outbox holds it; `data` is what outbound webhooks get. */
export interface ToldEvent {
  id: string;
  type: string;
  occurredAt: Date;
  data: Readonly<Record<string, unknown>>;
}

/**
 * What is told of an event.
 * @param publicUrl where the server is reached, without a slash at its end; null leaves links out
 */
export function messageOf(event: ToldEvent, publicUrl: string | null): Message {
  const [kind = '', verb = ''] = event.type.split('.');
  const run = record(event.data[kind]);
  const base = { eventId: event.id, type: event.type, severity: severityOf(event.type), at: event.occurredAt };
  const source = nameOf(run['source'] ?? record(event.data['backup'])['source'] ?? event.data['source']);
  const error = record(run['error']);
  return {
    ...base,
    title: titleOf(kind, verb, source, run),
    detail: detailOf(error, run),
    facts: factsOf(kind, source, run),
    link: publicUrl === null ? null : linkOf(publicUrl, kind, run),
  };
}

const SEVERE: Readonly<Record<string, Severity>> = {
  failed: 'error',
  unreachable: 'error',
  disabled: 'error',
  canceled: 'warning',
  missed: 'warning',
  degraded: 'warning',
  raised: 'warning',
  requeued: 'warning',
};

export function severityOf(type: string): Severity {
  return SEVERE[type.split('.')[1] ?? ''] ?? 'info';
}

/** Whether all is well after this event with what it speaks of; null where it says nothing of that. */
export function stateOf(type: string): 'good' | 'bad' | null {
  const verb = type.split('.')[1] ?? '';
  if (['completed', 'recovered', 'closed', 'reachable'].includes(verb)) return 'good';
  return ['failed', 'degraded', 'unreachable', 'raised', 'missed', 'disabled'].includes(verb) ? 'bad' : null;
}

const KINDS: Readonly<Record<string, string>> = { backup: 'Backup', restore: 'Restore', verification: 'Verification' };

function titleOf(kind: string, verb: string, source: string | null, run: Fields): string {
  if (kind === 'test') return 'Test message of Backstay';
  const what = KINDS[kind] ?? capitalized(kind.replaceAll('-', ' '));
  const of = source === null ? '' : ` of ${source}`;
  const named = kind === 'schedule' || kind === 'destination' ? ` ${text(run['name']) ?? ''}`.trimEnd() : '';
  return `${what}${named}${of} ${verb.replaceAll('-', ' ')}`;
}

const MOST_WARNINGS = 2;

/** What a run that ended well was warned of, the first of it. */
function warningsOf(run: Fields): string | null {
  const warnings = Array.isArray(run['warnings']) ? run['warnings'].filter((warning) => typeof warning === 'string') : [];
  const more = warnings.length - MOST_WARNINGS;
  return warnings.slice(0, MOST_WARNINGS).join(' ') + (more > 0 ? ` (and ${more} more)` : '') || null;
}

function detailOf(error: Fields, run: Fields): string | null {
  const sentence = [text(error['message']), text(error['hint'])].filter((part) => part !== null).join(' ');
  return sentence || text(run['message']) || text(run['reason']) || warningsOf(run);
}

function factsOf(kind: string, source: string | null, run: Fields): Fact[] {
  const facts: (Fact | null)[] = [
    verbatim(KINDS[kind] ?? 'Id', text(run['id'])),
    kind === 'backup' ? null : verbatim('Backup', text(run['backupId'])),
    verbatim('Source', source),
    fact('Tables', integer(run['tableCount'])),
    fact('Records', integer(run['rowCount'])),
    fact('Size', bytes(run['sizeBytes'])),
    fact('Duration', duration(run['durationMs'])),
    fact('Proof level', integer(run['provenLevel'] ?? run['proofLevel'])),
    verbatim('Error', text(record(run['error'])['code'])),
  ];
  return facts.filter((each) => each !== null);
}

const PATHS: Readonly<Record<string, (id: string) => string>> = {
  backup: (id) => `/api/backups/${id}/details`,
  restore: (id) => `/api/restores/${id}`,
  verification: (id) => `/api/verifications/${id}`,
};

function linkOf(publicUrl: string, kind: string, run: Fields): string {
  const id = text(run['id']);
  return publicUrl + (id === null ? '/api/status/health' : (PATHS[kind]?.(encodeURIComponent(id)) ?? '/api/status/health'));
}

type Fields = Readonly<Record<string, unknown>>;

function record(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function nameOf(source: unknown): string | null {
  return text(record(source)['name']) ?? text(source);
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

function integer(value: unknown): string | null {
  return typeof value === 'number' ? value.toLocaleString('en-US') : null;
}

/** In decimal units, as disks are sold. */
function bytes(value: unknown): string | null {
  if (typeof value !== 'number') return null;
  const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const;
  const power = value < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  return `${(value / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

function duration(value: unknown): string | null {
  if (typeof value !== 'number') return null;
  if (value < 60_000) return `${(value / 1000).toFixed(1)} s`;
  const minutes = Math.round(value / 60_000);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function fact(name: string, value: string | null): Fact | null {
  return value === null ? null : { name, value };
}

function verbatim(name: string, value: string | null): Fact | null {
  return value === null ? null : { name, value, verbatim: true };
}

function capitalized(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
