import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Answer } from './server.js';
import { until } from './until.js';

/** Something that takes requests as the owner: a server here or in a process of its own. */
export interface Api {
  api<T>(method: string, path: string, body?: unknown): Promise<Answer<T>>;
}

/** What tests look at in a run of any kind. */
export interface Run {
  id: string;
  status: string;
  attempt: number;
  error: { code: string; message: string; hint: string } | null;
  proofLevel?: number | null;
  broken?: boolean;
  brokenCause?: string | null;
  rowCount?: number;
  countsEqual?: boolean | null;
  provenLevel?: number | null;
  checks?: { level: number; ok: boolean; detail: string }[];
  progress: { phase: string } | null;
}

const SHOWN_AT: Record<string, (id: string) => string> = {
  backup: (id) => `/api/backups/${id}/details`,
  restore: (id) => `/api/restores/${id}`,
  verification: (id) => `/api/verifications/${id}`,
};

/** The data of an answer that must be good. */
export async function good<T>(answer: Promise<Answer<T>>): Promise<T> {
  const { status, body } = await answer;
  if (status !== 200) throw new Error(`answered ${status}: ${JSON.stringify(body)}`);
  return body.data;
}

export function show(server: Api, id: string): Promise<Run> {
  return good(server.api<Run>('GET', SHOWN_AT[id.slice(0, id.indexOf('_'))]!(id)));
}

/** Waits until a run has ended, and shows it. */
export async function ended(server: Api, id: string, timeoutMs = 60_000): Promise<Run> {
  let run!: Run;
  await until(async () => ['completed', 'failed', 'canceled'].includes((run = await show(server, id)).status), timeoutMs);
  return run;
}

export function createBackup(server: Api, body: object = {}): Promise<Run> {
  return good(server.api<Run>('POST', '/api/backups/create', body));
}

/** Makes a backup and waits for its end. */
export async function backUp(server: Api, body: object = {}): Promise<Run> {
  return ended(server, (await createBackup(server, body)).id);
}

export function createRestore(server: Api, backupId: string, target: object): Promise<Run> {
  return good(server.api<Run>('POST', `/api/backups/${backupId}/restore`, { target }));
}

export async function verify(server: Api, backupId: string, level = 2): Promise<Run> {
  const { id } = await good(server.api<Run>('POST', `/api/backups/${backupId}/verify`, { level }));
  return ended(server, id);
}

/** Files under DATA_DIR/backups, as paths below it. */
export async function storedFiles(dataDir: string): Promise<string[]> {
  const root = join(dataDir, 'backups');
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
}

/** Stored files that belong to none of these backups. */
export async function strayFiles(dataDir: string, backupIds: readonly string[]): Promise<string[]> {
  const names = /^(?:database\.dump|globals\.sql|config\.tar)(?:\.zst)?\.age$|^manifest\.json(?:\.sig)?$/;
  return (await storedFiles(dataDir)).filter((file) => {
    const [, , , backup, name, ...deeper] = file.split('/');
    return !backup || !backupIds.includes(backup) || !name || deeper.length > 0 || !names.test(name);
  });
}
