import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BackupRequest, commitBackup, type StagedBackup, stageBackup } from '../../src/engine/backup.js';
import {
  type AgeKeyPair,
  generateAgeKeyPair,
  generateSigningKeyPair,
  type SigningKeyPair,
} from '../../src/engine/artifact/keys.js';
import type { PgConnection } from '../../src/engine/postgres/connection.js';
import type { RestoreOutcome, RestoreRequest } from '../../src/engine/restore-request.js';
import type { RestoreTarget } from '../../src/engine/restore-target.js';
import { restoreBackup } from '../../src/engine/restore.js';
import { LocalStore } from '../../src/engine/store/local-store.js';

/** The engine's verbs with a store in a temporary folder and keys of its own, without a server. */
export class EngineRuns {
  private runs = 0;

  private constructor(
    readonly folder: string,
    readonly store: LocalStore,
    readonly age: AgeKeyPair,
    readonly signing: SigningKeyPair,
  ) {}

  static async open(): Promise<EngineRuns> {
    const folder = await mkdtemp(join(tmpdir(), 'backstay-runs-'));
    return new EngineRuns(folder, new LocalStore(join(folder, 'store')), await generateAgeKeyPair(), generateSigningKeyPair());
  }

  async backUp(
    connection: PgConnection,
    source: Partial<BackupRequest['source']> = {},
    more: Partial<BackupRequest> = {},
  ): Promise<StagedBackup> {
    const staged = await stageBackup({
      ids: { installation: 'i', organization: 'o', source: 's', backup: `b${++this.runs}` },
      attempt: 'a1',
      source: {
        name: 'tried',
        connection,
        excludeSchemas: [],
        excludeTables: [],
        lockTimeoutMs: 30_000,
        statementTimeoutMs: 0,
        maxRunMs: 600_000,
        configPaths: [],
        ...source,
      },
      type: 'database',
      components: ['database'],
      compress: true,
      configRoots: [],
      programs: { binDirs: [], requirePatched: false },
      store: this.store,
      recipients: [this.age.recipient],
      signingKeyPem: this.signing.privateKeyPem,
      previousManifestSha256: null,
      backstayVersion: '0.0.0',
      signal: new AbortController().signal,
      onProgress: () => undefined,
      snapshotWarningMs: 0,
      onWarning: () => undefined,
      ...more,
    });
    await commitBackup(staged, this.store, [this.signing.publicKeyPem], new AbortController().signal);
    return staged;
  }

  restore(staged: StagedBackup, target: RestoreTarget, more: Partial<RestoreRequest> = {}): Promise<RestoreOutcome> {
    return restoreBackup({
      runId: `restore_${randomBytes(6).toString('hex')}`,
      ids: staged.ids,
      target,
      store: this.store,
      verifyingKeys: [this.signing.publicKeyPem],
      identities: [this.age.identity],
      programs: { binDirs: [], requirePatched: false },
      jobs: 2,
      selection: {},
      createRoles: false,
      attempt: 1,
      signal: new AbortController().signal,
      onProgress: () => undefined,
      beforeChange: async () => undefined,
      onFinished: async () => undefined,
      onCommitting: async () => undefined,
      ...more,
    });
  }

  close(): Promise<void> {
    return rm(this.folder, { recursive: true, force: true });
  }
}
