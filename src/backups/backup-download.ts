import { Injectable, Logger } from '@nestjs/common';
import type { Response } from 'express';
import { pipeline } from 'node:stream/promises';
import { AuditService } from '../audit/audit.service.js';
import { actorOf, type Identity } from '../auth/identity.js';
import { Errors } from '../common/errors.js';
import { type ByteRange, parseRange } from '../common/http/byte-range.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import { checkArtifact, readArtifactPlain } from '../engine/artifact/artifact-reader.js';
import { loadManifest } from '../engine/artifact/load-manifest.js';
import type { ManifestArtifact } from '../engine/artifact/manifest.js';
import { objectKey } from '../engine/store/layout.js';
import { readSegments } from '../engine/store/segments.js';
import { LentIdentities } from '../keys/lent-identities.js';
import type { LentIdentityDto } from '../keys/lent-identity.dto.js';
import type { ArchiveSource } from '../engine/restore-archive.js';
import { BackupArchives } from './backup-archives.js';
import { refuseExternal } from './backup.js';
import type { DownloadDto } from './backup.dto.js';
import { type ArtifactRow, type BackupRow, BackupsRepository } from './backups.repository.js';

/** What a request says of the part that it wants. */
interface AskedRange {
  range: string | undefined;
  ifRange: string | undefined;
}

/** Sends artifacts, as they are stored or decrypted. */
@Injectable()
export class BackupDownload {
  private readonly logger = new Logger('backup');

  constructor(
    private readonly backups: BackupsRepository,
    private readonly copies: BackupCopies,
    private readonly archives: BackupArchives,
    private readonly lent: LentIdentities,
    private readonly audit: AuditService,
  ) {}

  /** @param lends what the request lends, for what the server can't decrypt */
  async send(
    caller: Identity,
    backup: BackupRow,
    dto: DownloadDto,
    asked: AskedRange,
    lends: LentIdentityDto,
    response: Response,
  ): Promise<void> {
    refuseExternal(backup);
    if (backup.status !== 'completed')
      throw Errors.conflict(`The backup is ${backup.status}; only completed ones have artifacts.`);
    const artifact = await this.choose(backup, dto, response);
    const form = dto.form ?? 'stored';
    const identities = form === 'stored' ? [] : await this.lent.requireFor(backup, lends);
    await this.audit.record(undefined, {
      organizationId: caller.organizationId,
      actor: actorOf(caller),
      action: 'backup.downloaded',
      resource: { kind: 'backup', id: backup.id },
      changes: { artifact: artifact.name, form },
    });
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    if (form === 'stored') await this.sendStored(backup, artifact, asked, response, gone.signal);
    else await this.sendDecrypted(backup, artifact, identities, response, gone.signal);
  }

  private async choose(backup: BackupRow, dto: DownloadDto, response: Response): Promise<ArtifactRow> {
    const component = dto.component ?? 'database';
    const artifacts = (await this.backups.artifacts(backup.id)).filter((artifact) =>
      dto.artifact === undefined ? artifact.component === component : artifact.name === dto.artifact,
    );
    const [first] = artifacts;
    if (!first) throw Errors.notFound('artifact', dto.artifact ?? component);
    // Which one it is stands in the answer; that there are more must not go unseen.
    if (artifacts.length > 1) response.setHeader('X-Artifacts', artifacts.map(({ name }) => name).join(', '));
    return first;
  }

  private async sendStored(
    backup: BackupRow,
    artifact: ArtifactRow,
    asked: AskedRange,
    response: Response,
    signal: AbortSignal,
  ): Promise<void> {
    const etag = `"${artifact.stored_sha256}"`;
    // A client that holds the beginning of another artifact has to get the whole of this one.
    const range =
      asked.ifRange === undefined || asked.ifRange === etag ? parseRange(asked.range, artifact.stored_bytes) : undefined;
    response.setHeader('Accept-Ranges', 'bytes');
    response.setHeader('ETag', etag);
    if (range === null) {
      response.setHeader('Content-Range', `bytes */${artifact.stored_bytes}`);
      response.status(416).json({
        success: false,
        error: `The range lies outside of the artifact's ${artifact.stored_bytes} bytes.`,
        code: 'VALIDATION_ERROR',
        fields: { range: 'lies outside of the artifact' },
        requestId: response.getHeader('x-request-id'),
      });
      return;
    }
    const { store } = await this.copies.readable(backup, signal);
    const key = objectKey(backup.prefix, artifact.name);
    const body = await readSegments(store, key, artifact.stored_bytes, { ...range, signal });
    this.describe(response, artifact.name, range ? range.end - range.start + 1 : artifact.stored_bytes);
    if (range) partial(response, range, artifact.stored_bytes);
    await this.pipe(body, response, backup, signal);
  }

  private async sendDecrypted(
    backup: BackupRow,
    row: ArtifactRow,
    lent: readonly string[],
    response: Response,
    signal: AbortSignal,
  ): Promise<void> {
    const { source } = await this.archives.of(backup, signal, lent);
    const { store, identities } = source;
    const artifact = await this.signedArtifact(source, backup, row.name);
    const key = objectKey(backup.prefix, row.name);
    // Read twice: once a byte is out, damage could only be told by a cut connection.
    await checkArtifact({
      store,
      key,
      name: row.name,
      expected: artifact,
      identities,
      signal,
    });
    const body = await readArtifactPlain({
      store,
      key,
      name: row.name,
      identities,
      expected: artifact,
      signal,
    });
    this.describe(response, row.name.replace(/(\.zst)?\.age$/, ''), artifact.plainBytes);
    await this.pipe(body, response, backup, signal);
  }

  /** The artifact as the signed manifest knows it. */
  private async signedArtifact(source: ArchiveSource, backup: BackupRow, name: string): Promise<ManifestArtifact> {
    const { manifest } = await loadManifest(source.store, backup.prefix, source, source.ids, source.signal);
    const artifact = manifest.artifacts.find((candidate) => candidate.name === name);
    if (!artifact) throw Errors.notFound('artifact', name);
    return artifact;
  }

  private describe(response: Response, name: string, length: number): void {
    response.setHeader('Content-Type', 'application/octet-stream');
    response.setHeader('Content-Disposition', `attachment; filename="${name}"`);
    response.setHeader('Content-Length', length);
    response.setHeader('Cache-Control', 'private, no-store');
  }

  /** Once bytes are out, a failure cuts the connection: the length tells the client that it is not whole. */
  private async pipe(body: NodeJS.ReadableStream, response: Response, backup: BackupRow, signal: AbortSignal): Promise<void> {
    try {
      await pipeline(body, response);
    } catch (error) {
      if (!signal.aborted)
        this.logger.error({ event: 'backup.download-failed', backupId: backup.id, err: error }, 'backup.download-failed');
      response.destroy();
    }
  }
}

function partial(response: Response, range: ByteRange, size: number): void {
  response.status(206);
  response.setHeader('Content-Range', `bytes ${range.start}-${range.end}/${size}`);
}
