/**
 * Run as a process of its own, so that its memory and its CPU are those of one backup, restore or drill: reads one job as JSON from the
 * standard input, does it with the built engine, and writes the measurements to the standard output.
 */
import { text } from 'node:stream/consumers';
import { childrenCpuSeconds, peakMemory, residentBytes } from './measure.mjs';

/** @param {string} dist URL of the folder with the built server, with a slash at its end */
export async function runEngineProcess(dist) {
  const job = JSON.parse(await text(process.stdin));
  const { stageBackup, commitBackup } = await import(new URL('engine/backup.js', dist));
  const { restoreBackup } = await import(new URL('engine/restore.js', dist));
  const { LocalStore } = await import(new URL('engine/store/local-store.js', dist));
  const store = new LocalStore(job.folder);
  const { TeeStore } = await import(new URL('engine/store/tee-store.js', dist));
  const { signal } = new AbortController();
  const idleBytes = residentBytes();
  const peak = peakMemory();
  const [startedAt, cpu, children] = [performance.now(), process.cpuUsage(), childrenCpuSeconds()];
  const answer = job.backup ? await backUp(job.backup) : job.drill ? await drill(job.drill) : await restore(job.restore);
  const own = process.cpuUsage(cpu);
  const measured = {
    seconds: (performance.now() - startedAt) / 1000,
    ownCpuSeconds: (own.user + own.system) / 1e6,
    childrenCpuSeconds: childrenCpuSeconds() - children,
    grownBytes: peak() - idleBytes,
    idleBytes,
  };
  process.stdout.write(JSON.stringify({ ...measured, ...answer }));

  async function backUp(request) {
    const members = job.destinations ? await destinations() : [{ id: 'local', store }];
    const tee = new TeeStore(members, members.length);
    const staged = await stageBackup({
      ...request,
      store: tee,
      signal,
      snapshotWarningMs: 0,
      onProgress: () => {},
      onWarning: () => {},
    });
    if (!job.stageOnly)
      await Promise.all(members.map((member) => commitBackup(staged, member.store, [job.publicKeyPem], signal)));
    const [artifact] = staged.manifest.artifacts;
    return { ids: staged.ids, plainBytes: artifact.plainBytes, storedBytes: artifact.storedBytes };
  }

  async function destinations() {
    const { S3Store } = await import(new URL('engine/store/s3-store.js', dist));
    return job.destinations.map(({ folder, bucket }, index) => ({
      id: String(index),
      store: bucket ? new S3Store(bucket) : new LocalStore(folder),
    }));
  }

  async function drill(request) {
    const { drill: run } = await import(new URL('engine/drill.js', dist));
    const phases = {};
    let current = { name: '', since: performance.now() };
    const next = (name) => {
      const now = performance.now();
      if (current.name) phases[current.name] = (phases[current.name] ?? 0) + (now - current.since) / 1000;
      current = { name, since: now };
    };
    const outcome = await run({
      ...request,
      store,
      verifyingKeys: [job.publicKeyPem],
      signal,
      onProgress: ({ phase }) => phase === current.name || next(phase),
    });
    next('');
    if (outcome.differences?.length !== 0)
      throw new Error(`The restored database differs: ${JSON.stringify(outcome.differences)}`);
    return { phases };
  }

  async function restore(request) {
    const outcome = await restoreBackup({
      ...request,
      store,
      verifyingKeys: [job.publicKeyPem],
      signal,
      onProgress: () => {},
      beforeChange: async () => {},
      onFinished: async () => {},
      onCommitting: async () => {},
    });
    if (!outcome.countsEqual) throw new Error(`The restored database differs: ${JSON.stringify(outcome.differences)}`);
    return {};
  }
}
