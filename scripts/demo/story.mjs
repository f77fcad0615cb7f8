import { once } from 'node:events';
import { Api, completed } from './api.mjs';
import { compareDatabases } from './prove.mjs';
import { artifactFolder, dumpSchema, findPrograms, inDatabase, startOwnPostgres, startOwnServer } from './stage.mjs';
import { bold, bytes, count, dim, finding, say, seconds, step } from './transcript.mjs';

const SOURCE = 'shop';
const COPY = 'shop_restored';

/**
 * Backs a sample database up, verifies and restores the backup through the REST API, and compares the copy with the source, row by
 * row, by code that is not the product's.
 * @returns the exit code: 0 when they are equal
 */
export async function demo({ stopAfterProof }) {
  const stopping = new AbortController();
  const stop = () => {
    say('\nStopping …');
    stopping.abort(new Error('The demo was stopped.'));
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const cleanUps = [];
  try {
    return await tell({ signal: stopping.signal, atEnd: (cleanUp) => cleanUps.unshift(cleanUp), stopAfterProof });
  } catch (error) {
    if (stopping.signal.aborted) return 130;
    process.stderr.write(`\n${error.message}${error.hint ? `\n${error.hint}` : ''}\n`);
    return 1;
  } finally {
    for (const cleanUp of cleanUps) await cleanUp().catch((error) => process.stderr.write(`${error.message}\n`));
  }
}

async function tell({ signal, atEnd, stopAfterProof }) {
  const startedAt = performance.now();
  say(bold('\nBackstay demo: back up a PostgreSQL database, restore it, and compare the two\n'));
  const programs = await findPrograms();
  const cluster = await step('A PostgreSQL of its own', async () => {
    const { cluster, databaseBytes } = await startOwnPostgres(programs, SOURCE, { signal, atEnd });
    return { value: cluster, details: `version ${cluster.version}, with a sample database of ${bytes(databaseBytes)}` };
  });
  const server = await step('The server', async () => {
    const { takenPort, ...server } = await startOwnServer({ atEnd });
    return { value: server, details: takenPort ? `${server.url} (port ${takenPort} is taken)` : server.url };
  });
  const api = new Api(server.url, server.key, signal);
  const backup = await step('Backup', (show) => backUp(api, cluster, show));
  await step('Verification', () => verify(api, backup));
  await step(`Restore into ${COPY}`, (show) => restore(api, backup, show));
  const equal = await prove(programs, cluster, signal);
  say(`\n${bold(equal ? 'Equal.' : 'NOT EQUAL.')} ${dim(`It took ${seconds(performance.now() - startedAt)}.`)}\n`);
  if (!stopAfterProof) await lookAround(server, cluster, backup, signal);
  return equal ? 0 : 1;
}

async function backUp(api, cluster, show) {
  const { host, port, user, password } = cluster.connection();
  await api.post('sources', { name: SOURCE, host, port, user, password, database: SOURCE, tls: { mode: 'disable' } });
  const { id } = await api.post('backups/create', { source: SOURCE, label: 'demo' });
  const backup = await api.follow(`backups/${id}`, show);
  const { rowCount, tableCount, plainBytes, sizeBytes } = backup;
  const ratio = (plainBytes / sizeBytes).toFixed(1);
  const details = `${count(rowCount, 'row')} of ${count(tableCount, 'table')}, ${bytes(plainBytes)} in ${bytes(sizeBytes)} (${ratio} : 1), encrypted`;
  return { value: backup, details };
}

async function verify(api, { id }) {
  const run = await api.post(`backups/${id}/verify?wait=240`, { level: 4 });
  // Where this machine can't try a restore, what was read is proven all the same.
  const isCapped = run.status === 'failed' && run.error?.code === 'DRILL_IMPOSSIBLE';
  const { checks, provenLevel } = isCapped ? run : completed(run, 'verification');
  const proven = ['signature', 'every stored byte', 'every table', 'restored', 'rows, sequences and schema equal'];
  const why = isCapped ? `; no more can be tried here: ${run.error.message}` : '';
  return {
    details: `proof level ${provenLevel}, ${count(checks.length, 'check')} hold: ${proven.slice(0, provenLevel + 1).join(', ')}${why}`,
  };
}

async function restore(api, backup, show) {
  const { id } = await api.post(`backups/${backup.id}/restore`, { target: { mode: 'new-database', database: COPY } });
  const { countsEqual, differences, warnings } = await api.follow(`restores/${id}`, show);
  if (!countsEqual) throw new Error(`Row counts differ from the manifest: ${JSON.stringify(differences)}`);
  return { details: ['row counts equal the manifest', ...warnings].join('; ') };
}

/** Compares source and copy, prints what was found, and says whether all is equal. */
async function prove(programs, cluster, signal) {
  say('\n  Is the copy equal? The demo compares it itself, over its own connections:');
  const schemas = [await dumpSchema(programs, cluster, SOURCE, signal), await dumpSchema(programs, cluster, COPY, signal)];
  const findings = await inDatabase(cluster, SOURCE, (source) =>
    inDatabase(cluster, COPY, (copy) => compareDatabases(source, copy, schemas)),
  );
  for (const { name, compared, differences } of findings) {
    finding(differences.length === 0, name, describe(name, compared));
    for (const difference of differences.slice(0, 10)) say(`      ${difference}`);
  }
  return findings.every(({ differences }) => differences.length === 0);
}

function describe(name, compared) {
  if (name === 'schema') return `${count(compared.lines, 'line')} of pg_dump --schema-only`;
  if (name !== 'tables') return `${compared.things}${compared.bytes > 0 ? `, ${bytes(compared.bytes)}` : ''}`;
  const { tables, rows, inOtherOrder } = compared;
  const order = inOtherOrder === 0 ? '' : `, ${inOtherOrder} with the same rows in another order`;
  return `${tables} with materialized views, ${count(rows, 'row')}, ${bytes(compared.bytes)}, SHA-256 of each${order}`;
}

async function lookAround({ url, key, dataDir }, cluster, backup, signal) {
  const folder = await artifactFolder(dataDir, backup.id);
  const { host, port, user, password } = cluster.connection();
  const postgres = `postgresql://${user}:${password}@${host}:${port}`;
  say(`Look around; everything goes when you press Ctrl-C.
  API         ${url}/api/docs
  Key         ${key}
  Try         curl -H 'x-api-key: ${key}' ${url}/api/backups/${backup.id}/details
  Databases   psql '${postgres}/${SOURCE}'   psql '${postgres}/${COPY}'
  Artifacts   ${folder}
  By hand, without the server:
    psql '${postgres}/postgres' -c 'CREATE DATABASE by_hand TEMPLATE template0'
    age -d -i ${dataDir}/keys/age-identity.txt ${folder}/database.dump.zst.age \\
      | zstd -d | pg_restore --exit-on-error -d '${postgres}/by_hand'
`);
  if (!signal.aborted) await once(signal, 'abort');
}
