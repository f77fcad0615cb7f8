import { createHmac } from 'node:crypto';
import { sql } from 'kysely';
import type { Role } from '../../src/auth/permissions.js';
import { newId, newTimedId } from '../../src/common/identifiers.js';
import { type Run, backUp, createRestore, ended, good, verify } from './runs.js';
import { type TestServer, urlOf } from './server.js';
import type { TestPostgres } from './postgres.js';

export const PASSWORD = 'violet harbour nineteen';

interface Made {
  id: string;
}

/** An organization with one row of everything, for requests about them; and makers of more where a request uses one up. */
export class RouteWorld {
  organization = '';
  source = '';
  destination = '';
  backup = '';
  restore = '';
  verification = '';
  endpoint = '';
  delivery = '';

  private constructor(
    readonly server: TestServer,
    private readonly receiverUrl: string,
  ) {}

  static async make(server: TestServer, postgres: TestPostgres, receiverUrl: string): Promise<RouteWorld> {
    const world = new RouteWorld(server, receiverUrl);
    world.organization = server.foundation.installation.defaultOrganizationId;
    const database = await postgres.createDatabase();
    await postgres.exec(database, 'CREATE TABLE cat (id int PRIMARY KEY); INSERT INTO cat VALUES (1), (2)');
    world.source = await world.add('/api/sources', { name: 'ours-shop', url: urlOf(postgres.connection(database)) });
    world.destination = await world.folder();
    world.backup = (await backUp(server, { source: world.source })).id;
    world.verification = (await verify(server, world.backup)).id;
    const target = { mode: 'new-database', database: 'ours_copy' };
    world.restore = (await ended(server, (await createRestore(server, world.backup, target)).id)).id;
    world.endpoint = await world.hook();
    world.delivery = (await good(server.api<Made>('POST', `/api/webhooks/endpoints/${world.endpoint}/test`))).id;
    return world;
  }

  /** What nobody of another organization may find in an answer. */
  get marks(): string[] {
    const rows = [this.organization, this.source, this.destination, this.backup, this.restore];
    return rows.concat(this.verification, this.endpoint, this.delivery, 'ours-shop');
  }

  /** A name that no row has yet. */
  name(): string {
    return newId('ours').replace('_', '-');
  }

  async apiKey(): Promise<string> {
    return this.add('/api/auth/api-keys', { name: this.name(), permissions: ['apikey:manage'] });
  }

  async folder(): Promise<string> {
    const name = this.name();
    return this.add('/api/destinations', { name, kind: 'local', folder: name });
  }

  idleSource(): Promise<string> {
    return this.add('/api/sources', { name: this.name(), url: 'postgresql://a:b@db.example.org/x' });
  }

  channel(): Promise<string> {
    return this.add('/api/notifications/channels', this.channelBody());
  }

  channelBody(): object {
    return { name: this.name(), kind: 'json', url: `${this.receiverUrl}/channel` };
  }

  hook(): Promise<string> {
    return this.add('/api/webhooks/endpoints', this.hookBody());
  }

  hookBody(): object {
    return { url: `${this.receiverUrl}/hook`, events: ['status.degraded'] };
  }

  schedule(): Promise<string> {
    return this.add('/api/backups/schedule', this.scheduleBody());
  }

  scheduleBody(): object {
    return { name: this.name(), source: this.source, cron: '0 2 29 2 *' };
  }

  policy(): Promise<string> {
    return this.add('/api/retention-policies', { name: this.name(), keepLast: 3, sources: [this.source] });
  }

  /** Somebody who belongs to our organization alone. */
  async member(role: Role = 'viewer'): Promise<{ id: string; email: string }> {
    const email = `${newId('ours').replace('_', '-')}@example.org`;
    const path = `/api/organizations/${this.organization}/members`;
    return { id: await this.add(path, { email, role, password: PASSWORD }), email };
  }

  /** Signs in. */
  async session(email: string): Promise<{ token: string; refreshToken: string }> {
    return good(this.server.api('POST', '/api/auth/login', { email, password: PASSWORD }, null));
  }

  /** A backup like the one that was made, without objects of its own. */
  backupLike(changes: Record<string, unknown> = {}): Promise<string> {
    return this.copy('backups', this.backup, newTimedId('backup', new Date()), changes);
  }

  restoreLike(changes: Record<string, unknown>): Promise<string> {
    return this.copy('restores', this.restore, newTimedId('restore', new Date()), changes);
  }

  verificationLike(changes: Record<string, unknown>): Promise<string> {
    return this.copy('verifications', this.verification, newTimedId('verification', new Date()), changes);
  }

  async alert(): Promise<string> {
    const id = newId('alert');
    const row = { id, organization_id: this.organization, source_id: this.source, rule: 'table-lost' };
    const detail = JSON.stringify({ message: '1 table is gone', before: 1, after: 0, tables: ['public.cat'] });
    await this.db
      .insertInto('alerts')
      .values({ ...row, base_backup_id: this.backup, backup_id: this.backup, detail })
      .execute();
    return id;
  }

  /** A report of a backup made elsewhere, signed with a new secret of our organization. */
  async report(): Promise<{ body: object; headers: Record<string, string> }> {
    const secret = await this.inboundSecret();
    const body = { backupId: newTimedId('backup', new Date()), status: 'completed' };
    const signature = createHmac('sha256', secret).update(JSON.stringify(body)).digest('hex');
    return { body, headers: { 'x-webhook-signature': `sha256=${signature}` } };
  }

  async inboundSecret(): Promise<string> {
    const made = await good(this.server.api<{ secret: string }>('POST', '/api/webhooks/inbound-secret/rotate', {}));
    return made.secret;
  }

  async add(path: string, body: object): Promise<string> {
    return (await good(this.server.api<Made>('POST', path, body))).id;
  }

  /** Makes a backup and leaves it to its own devices. */
  async queuedBackup(): Promise<string> {
    return (await good(this.server.api<Run>('POST', '/api/backups/create', { source: this.source }))).id;
  }

  private get db() {
    return this.server.foundation.catalog.db;
  }

  private async copy(
    table: 'backups' | 'restores' | 'verifications',
    id: string,
    newId: string,
    changes: object,
  ): Promise<string> {
    const json = JSON.stringify({ ...changes, id: newId, ...(table === 'backups' ? { prefix: newId } : {}) });
    const from = sql.table(`backstay.${table}`);
    await sql`INSERT INTO ${from} SELECT (jsonb_populate_record(t, ${json}::jsonb)).* FROM ${from} t WHERE id = ${id}`.execute(
      this.db,
    );
    return newId;
  }
}
