import { Global, Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { Outbox } from './outbox.js';
import { OutboxDispatcher } from './outbox-dispatcher.js';
import { OutboxRepository } from './outbox.repository.js';

/** Events that must not be lost, on their way to those who tell of them. */
@Global()
@Module({
  imports: [DiscoveryModule],
  providers: [Outbox, OutboxDispatcher, OutboxRepository],
  exports: [Outbox],
})
export class OutboxModule {}
