import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { randomBytes } from 'node:crypto';
import { EngineError } from '../errors.js';
import { inParts } from './parts.js';
import { isTaken, statusOf } from './s3-errors.js';
import { MOST_PARTS, type S3Config } from './s3-config.js';
import { removeObject } from './s3-versions.js';

/** Parts on their way at the same time; with the one being filled, this bounds the memory of a write. */
const PARTS_AT_ONCE = 2;
const COPIED_PART_BYTES = 1024 ** 3;
const WRITE_ID = 'backstay-write';

interface UploadOptions {
  overwrite: boolean;
  signal: AbortSignal | undefined;
  explain(error: unknown): EngineError;
  taken(): EngineError;
}

/** One write of one object: in one call when it is small, else in equal parts. Leaves nothing when it fails. */
export class S3Upload {
  /** Tells an object of ours from another's when the answer to a write was lost. */
  private readonly writeId = randomBytes(12).toString('hex');

  constructor(
    private readonly client: S3Client,
    private readonly config: S3Config,
    private readonly key: string,
    private readonly options: UploadOptions,
  ) {}

  async send(body: AsyncIterable<Buffer>, partSize: number): Promise<{ bytes: number }> {
    const parts = inParts(body, partSize);
    const first = await parts.next();
    const second = await parts.next();
    if (second.done === true) {
      await this.putWhole(first.value as Buffer);
      return { bytes: (first.value as Buffer).length };
    }
    return this.sendParts(
      (async function* () {
        yield first.value as Buffer;
        yield second.value;
        yield* parts;
      })(),
    );
  }

  private async putWhole(body: Buffer): Promise<void> {
    const command = new PutObjectCommand({ ...this.place(), ...this.condition(), ...this.about(), Body: body });
    try {
      await this.client.send(command, this.sent());
      this.options.signal?.throwIfAborted();
    } catch (error) {
      if (await this.isOurs(body.length)) {
        if (this.options.signal?.aborted) await this.takeBack();
        else return;
      }
      throw isTaken(error) ? this.options.taken() : this.options.explain(error);
    }
  }

  private async sendParts(parts: AsyncIterable<Buffer>): Promise<{ bytes: number }> {
    const UploadId = await this.begin();
    const running = new Set<Promise<void>>();
    const done: CompletedPart[] = [];
    const failed: { error: unknown }[] = [];
    let [bytes, count] = [0, 0];
    try {
      for await (const Body of parts) {
        bytes += Body.length;
        count += 1;
        if (count > MOST_PARTS) throw this.tooLarge(bytes);
        const PartNumber = count;
        const sending = this.client
          .send(new UploadPartCommand({ ...this.place(), UploadId, PartNumber, Body }), this.sent())
          .then(({ ETag }) => void done.push({ PartNumber, ETag }))
          .catch((error: unknown) => void failed.push({ error: this.options.explain(error) }))
          .finally(() => running.delete(sending));
        running.add(sending);
        while (running.size >= PARTS_AT_ONCE && failed.length === 0) await Promise.race(running);
        if (failed[0]) throw failed[0].error;
      }
      await Promise.all(running);
      if (failed[0]) throw failed[0].error;
      this.options.signal?.throwIfAborted();
      await this.complete(UploadId, done, bytes);
      return { bytes };
    } catch (error) {
      await Promise.allSettled(running);
      await this.abandon(UploadId);
      throw error;
    }
  }

  private async begin(): Promise<string> {
    try {
      const { UploadId } = await this.client.send(
        new CreateMultipartUploadCommand({ ...this.place(), ...this.about() }),
        this.sent(),
      );
      if (UploadId) return UploadId;
      throw new Error('The store gave no id for the upload.');
    } catch (error) {
      throw this.options.explain(error);
    }
  }

  private async complete(UploadId: string, parts: CompletedPart[], bytes: number): Promise<void> {
    const Parts = parts.sort((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0));
    try {
      await this.client.send(
        new CompleteMultipartUploadCommand({ ...this.place(), UploadId, ...this.condition(), MultipartUpload: { Parts } }),
        this.sent(),
      );
    } catch (error) {
      // The answer may have been lost, and the retry have found the upload gone.
      if (await this.isOurs(bytes)) {
        if (!this.options.signal?.aborted) return;
        await this.takeBack();
      }
      throw isTaken(error) ? this.options.taken() : this.options.explain(error);
    }
  }

  /** Whether the object that is there now was written by this very write, whole. */
  private async isOurs(bytes: number): Promise<boolean> {
    try {
      const found = await this.client.send(new HeadObjectCommand(this.place()));
      return found.Metadata?.[WRITE_ID] === this.writeId && found.ContentLength === bytes;
    } catch {
      return false;
    }
  }

  private async takeBack(): Promise<void> {
    await removeObject(this.client, this.config, this.key, {}).catch(() => undefined);
  }

  /** What can't be ended now is ended by the sweep. */
  private async abandon(UploadId: string): Promise<void> {
    await this.client.send(new AbortMultipartUploadCommand({ ...this.place(), UploadId })).catch(() => undefined);
  }

  private place(): { Bucket: string; Key: string } {
    return { Bucket: this.config.bucket, Key: this.key };
  }

  private condition(): { IfNoneMatch?: string } {
    return this.options.overwrite ? {} : { IfNoneMatch: '*' };
  }

  private about() {
    const { serverSideEncryption, kmsKeyId, storageClass } = this.config;
    return {
      ContentType: 'application/octet-stream',
      Metadata: { [WRITE_ID]: this.writeId },
      ...(serverSideEncryption ? { ServerSideEncryption: serverSideEncryption } : {}),
      ...(kmsKeyId ? { SSEKMSKeyId: kmsKeyId } : {}),
      ...(storageClass ? { StorageClass: storageClass as never } : {}),
    };
  }

  private sent(): { abortSignal?: AbortSignal } {
    return this.options.signal ? { abortSignal: this.options.signal } : {};
  }

  private tooLarge(bytes: number): EngineError {
    return new EngineError(
      'STORE_FAILED',
      `${this.key} is larger than ${bytes} bytes, the most that ${MOST_PARTS} parts of the destination's size hold.`,
      "Raise the destination's partMiB, then run the backup again.",
    );
  }
}

/** Copies an object that is too large for one call, inside the store. */
export async function copyInParts(
  client: S3Client,
  { bucket, serverSideEncryption, kmsKeyId, storageClass, copiedPartBytes = COPIED_PART_BYTES }: S3Config,
  copy: { source: string; bytes: number; key: string; signal: AbortSignal | undefined },
): Promise<void> {
  const place = { Bucket: bucket, Key: copy.key };
  const sent = copy.signal ? { abortSignal: copy.signal } : {};
  const { UploadId } = await client.send(
    new CreateMultipartUploadCommand({
      ...place,
      ...(serverSideEncryption ? { ServerSideEncryption: serverSideEncryption } : {}),
      ...(kmsKeyId ? { SSEKMSKeyId: kmsKeyId } : {}),
      ...(storageClass ? { StorageClass: storageClass as never } : {}),
    }),
    sent,
  );
  try {
    const Parts: CompletedPart[] = [];
    for (let start = 0, PartNumber = 1; start < copy.bytes; start += copiedPartBytes, PartNumber += 1) {
      const CopySourceRange = `bytes=${start}-${Math.min(start + copiedPartBytes, copy.bytes) - 1}`;
      const { CopyPartResult } = await client.send(
        new UploadPartCopyCommand({ ...place, UploadId, PartNumber, CopySource: copy.source, CopySourceRange }),
        sent,
      );
      Parts.push({ PartNumber, ETag: CopyPartResult?.ETag });
    }
    await client.send(new CompleteMultipartUploadCommand({ ...place, UploadId, MultipartUpload: { Parts } }), sent);
  } catch (error) {
    if (statusOf(error) === 404) {
      // Completed, but the answer was lost: whoever asked compares the sizes.
      const found = await client.send(new HeadObjectCommand(place)).catch(() => undefined);
      if (found?.ContentLength === copy.bytes) return;
    }
    await client.send(new AbortMultipartUploadCommand({ ...place, UploadId })).catch(() => undefined);
    throw error;
  }
}
