import { DeleteObjectCommand, ListObjectVersionsCommand, type S3Client } from '@aws-sdk/client-s3';
import { isMissing } from './s3-errors.js';
import type { S3Config } from './s3-config.js';

/** One version of an object, or the mark that it was removed. */
export interface S3Version {
  key: string;
  versionId: string;
}

/** Every version of every object whose key begins with `prefix`, removal marks too. Keys are whole, with the destination's own prefix. */
export async function* versionsBelow(
  client: S3Client,
  Bucket: string,
  prefix: string,
  sent: { abortSignal?: AbortSignal },
): AsyncGenerator<S3Version> {
  let marker: { KeyMarker?: string; VersionIdMarker?: string } = {};
  for (;;) {
    const page = await client.send(new ListObjectVersionsCommand({ Bucket, Prefix: prefix, ...marker }), sent);
    for (const { Key, VersionId } of [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])])
      if (Key?.startsWith(prefix) && VersionId !== undefined) yield { key: Key, versionId: VersionId };
    if (!page.IsTruncated || page.NextKeyMarker === undefined) return;
    marker = {
      KeyMarker: page.NextKeyMarker,
      ...(page.NextVersionIdMarker ? { VersionIdMarker: page.NextVersionIdMarker } : {}),
    };
  }
}

/**
 * Removes an object. Where versions are kept, a mere removal leaves all of them behind a mark; in a bucket whose objects we lock they are
 * removed one by one, which a lock refuses.
 */
export async function removeObject(
  client: S3Client,
  { bucket: Bucket, objectLock }: Pick<S3Config, 'bucket' | 'objectLock'>,
  Key: string,
  sent: { abortSignal?: AbortSignal },
): Promise<void> {
  const remove = (VersionId?: string) =>
    client
      .send(new DeleteObjectCommand({ Bucket, Key, ...(VersionId === undefined ? {} : { VersionId }) }), sent)
      .catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
  if (!objectLock) return void (await remove());
  for await (const { key, versionId } of versionsBelow(client, Bucket, Key, sent)) if (key === Key) await remove(versionId);
}
