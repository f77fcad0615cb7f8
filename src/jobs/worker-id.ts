import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

/** Names this process among all workers, past and present. */
export const WORKER_ID = `${hostname()}:${process.pid}:${randomUUID()}`;
