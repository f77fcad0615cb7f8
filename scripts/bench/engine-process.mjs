/**
 * Run as a process of its own, so that its memory and its CPU are those of one backup or restore: reads one job as JSON from the
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
  const { signal } = new AbortController();
  const idleBytes = residentBytes();
  const peak = peakMemory();
  const [startedAt, cpu, children] = [performance.now(), process.cpuUsage(), childrenCpuSeconds()];
  const answer = job.backup ? await backUp(job.backup) : await restore(job.restore);
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
    const staged = await stageBackup({ ...request, store, signal, onProgress: () => {} });
    await commitBackup(staged, store, [job.publicKeyPem], signal);
    const [artifact] = staged.manifest.artifacts;
    return { ids: staged.ids, plainBytes: artifact.plainBytes, storedBytes: artifact.storedBytes };
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
