import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { median } from './measure.mjs';
import { engineRun, plainBackup, unpackedRestore } from './runs.mjs';

const MOST_RATIO = 1.5;

/**
 * Drills of one backup (levels 3 and 4: a server of its own, restored, compared, removed), and the plain programs, by turns: `zstd -d -o file` and
 * `pg_restore -j2 file` into a fresh server, the start of which is not counted.
 * @param {object} context as bench.mjs makes it
 * @param {object} keys for encryption and signing
 * @param {object} job of a backup for `engineRun`
 * @returns {Promise<boolean>} whether it is within the limit
 */
export async function compareDrills({ cluster, dist, folder, programs }, keys, job, runs, say) {
  const { ThrowawayCluster } = await import(new URL('engine/postgres/throwaway-cluster.js', dist));
  const packed = await plainBackup({ programs, connection: cluster.connection('measured'), folder });
  const { ids, plainBytes } = await engineRun(dist, job);
  const [plain, drills] = [[], []];
  for (let index = 0; index < runs; index++) {
    const fresh = await ThrowawayCluster.start({ maxMajor: programs.major });
    try {
      const unpacked = join(folder, 'unpacked.dump');
      plain.push(await unpackedRestore({ programs, connection: fresh.connection(), file: packed.file, unpacked }));
      await rm(unpacked);
    } finally {
      await fresh.stop();
    }
    drills.push(
      await engineRun(dist, {
        folder,
        publicKeyPem: keys.signing.publicKeyPem,
        drill: {
          runId: `verification_${index}`,
          ids,
          identities: [keys.age.identity],
          programs: { binDirs: [], requirePatched: false },
          serverBinDirs: [],
          limits: { diskBytes: 0, memoryBytes: 2 ** 31 },
          compare: true,
          assertions: [],
        },
      }),
    );
  }
  const [one, two] = [plain, drills].map((all) => median(all.map(({ seconds }) => seconds)));
  const each = (all) => all.map(({ seconds }) => `${seconds.toFixed(1)} s`).join(', ');
  const cpu = (all) => (median(all.map(({ cpuSeconds }) => cpuSeconds)) / (plainBytes / 1e9)).toFixed(2);
  say(`Dump: ${(plainBytes / 1e6).toFixed(0)} MB`);
  say(`zstd -d, pg_restore -j2     ${one.toFixed(1)} s   ${cpu(plain)} CPU s/GB   [${each(plain)}]`);
  say(`drill, levels 3 and 4       ${two.toFixed(1)} s   ${cpu(drills)} CPU s/GB   [${each(drills)}]`);
  const phases = drills.map(({ phases }) => phases);
  const shown = Object.keys(phases[0]).map((name) => `${name} ${median(phases.map((all) => all[name] ?? 0)).toFixed(1)} s`);
  say(`  of which ${shown.join(', ')}`);
  say(`memory over idle            ${(Math.max(...drills.map(({ grownBytes }) => grownBytes)) / 1e6).toFixed(0)} MB`);
  say(`ratio of time               ${(two / one).toFixed(2)}   (at most ${MOST_RATIO})`);
  return two / one <= MOST_RATIO;
}
