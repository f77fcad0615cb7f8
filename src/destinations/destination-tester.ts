import { Injectable } from '@nestjs/common';
import { randomBytes } from 'node:crypto';
import type { Identity } from '../auth/identity.js';
import { CacheService } from '../common/cache/cache.service.js';
import { redact } from '../common/logging/redaction.js';
import { EngineError } from '../engine/errors.js';
import type { ArtifactStore } from '../engine/store/artifact-store.js';
import { readAll } from '../engine/store/read-all.js';
import { DEFAULT_DESTINATION } from './destination.js';
import type { CapabilitiesDto, DestinationTestDto } from './destination.dto.js';
import { DestinationsRepository } from './destinations.repository.js';
import { DestinationsService } from './destinations.service.js';
import { asksForLock, lockMissing } from './object-lock.js';
import { Stores } from './stores.js';

const TIMEOUT_MS = 60_000;
const PROBE_BYTES = 8 * 1024 * 1024;

/** Finds out what a destination can do by trying it: some stores answer yes and do nothing. */
@Injectable()
export class DestinationTester {
  constructor(
    private readonly service: DestinationsService,
    private readonly destinations: DestinationsRepository,
    private readonly stores: Stores,
    private readonly cache: CacheService,
  ) {}

  async test(caller: Identity, idOrName: string): Promise<DestinationTestDto> {
    if (idOrName === DEFAULT_DESTINATION) return probe(this.stores.local);
    const row = await this.service.get(caller.organizationId, idOrName);
    const found = await probe(this.stores.storeOf(row), asksForLock(row.config));
    if (found.capabilities) {
      await this.destinations.recordTest(row.id, JSON.stringify(found.capabilities));
      await this.cache.invalidate(caller.organizationId, ['destinations']);
    }
    return found;
  }
}

/** @param isToLock whether the destination asks for object lock */
async function probe(store: ArtifactStore, isToLock = false): Promise<DestinationTestDto> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const folder = `.canary-${randomBytes(8).toString('hex')}`;
  try {
    const [latencyMs] = await timed(() => store.write(`${folder}/small`, [Buffer.from('0123456789')], { signal }));
    const content = randomBytes(PROBE_BYTES);
    const [writeMs] = await timed(() => store.write(`${folder}/large`, [content], { signal }));
    const [readMs, read] = await timed(() => readAll(store, `${folder}/large`, PROBE_BYTES, signal));
    if (!read.equals(content))
      throw new EngineError('STORE_FAILED', 'The destination gave back other bytes than were written.', 'Check the store.');
    const range = String(await rangeOf(store, `${folder}/small`, signal)) === '345';
    const strongList = await listsAtOnce(store, folder, signal);
    const lock = await store.probeLock(`${folder}/lock`, { signal });
    if (isToLock && lock.obstacle !== null) throw lockMissing(lock.obstacle);
    const capabilities: CapabilitiesDto = {
      conditionalWrite: await store.refusesTakenKeys(`${folder}/small`, signal),
      objectLock: lock.holds,
      range,
      strongList,
    };
    return {
      ok: true,
      error: null,
      capabilities,
      latencyMs: Math.round(latencyMs),
      writeBytesPerSecond: perSecond(writeMs),
      readBytesPerSecond: perSecond(readMs),
      freeBytes: await store.freeBytes({ signal }),
    };
  } catch (error) {
    return {
      ok: false,
      error: sentenceOf(error, signal),
      capabilities: null,
      latencyMs: null,
      writeBytesPerSecond: null,
      readBytesPerSecond: null,
      freeBytes: null,
    };
  } finally {
    await store.removeTree(folder).catch(() => undefined);
  }
}

async function timed<T>(work: () => Promise<T>): Promise<[number, T]> {
  const startedAt = performance.now();
  const result = await work();
  return [performance.now() - startedAt, result];
}

function perSecond(ms: number): number {
  return Math.round(PROBE_BYTES / Math.max(ms / 1000, 0.001));
}

async function rangeOf(store: ArtifactStore, key: string, signal: AbortSignal): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of await store.read(key, { start: 3, end: 5, signal })) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

async function listsAtOnce(store: ArtifactStore, folder: string, signal: AbortSignal): Promise<boolean> {
  const keys = async () => {
    const found: string[] = [];
    for await (const { key } of store.list(folder, { signal })) found.push(key);
    return found.sort().join();
  };
  const written = (await keys()) === `${folder}/large,${folder}/small`;
  await store.remove(`${folder}/large`, { signal });
  return written && (await keys()) === `${folder}/small`;
}

function sentenceOf(error: unknown, signal: AbortSignal): string {
  if (signal.aborted) return `The destination did not answer within ${TIMEOUT_MS / 1000} s.`;
  if (error instanceof EngineError) return redact(`${error.message} ${error.hint}`);
  return error instanceof Error ? redact(error.message) : 'The destination failed.';
}
