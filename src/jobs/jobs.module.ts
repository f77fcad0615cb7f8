import { Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { JobQueue } from './job-queue.js';
import { RunControl } from './run-control.js';
import { RunEvents } from './run-events.js';
import { RunRecovery } from './run-recovery.js';
import { RunWatcher } from './run-watcher.js';
import { RunWorker } from './run-worker.js';
import { RunsRepository } from './runs.repository.js';

/** The queue, the worker, and what happens to runs when a worker dies. */
@Global()
@Module({
  imports: [DiscoveryModule],
  providers: [JobQueue, RunControl, RunEvents, RunRecovery, RunWatcher, RunWorker, RunsRepository],
  exports: [JobQueue, RunControl, RunWatcher],
})
export class JobsModule {}
