/** Run as a process of its own: starts a throwaway cluster, tells where it is, and waits to be killed. */
import { ThrowawayCluster } from '../../src/engine/postgres/throwaway-cluster.js';

const cluster = await ThrowawayCluster.start();
process.stdout.write(`${JSON.stringify({ port: cluster.port, socketDir: cluster.socketDir })}\n`);
setInterval(() => undefined, 1000);
