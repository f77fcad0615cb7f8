import { DiscoveryService } from '@nestjs/core';
import type { Selectable } from 'kysely';
import type { Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';

export type OutboxRow = Selectable<CatalogTables['outbox']>;

/** Declares a provider as one who takes the outbox's events, under a name that never changes. */
export const TakesEvents = DiscoveryService.createDecorator<string>();

/** Someone who tells others of events. */
export interface OutboxConsumer {
  /**
   * Writes down, in the transaction given, what is to be done about these events; they count as taken when it commits, and come again
   * when it does not. They come in the order in which they were recorded, and nothing slow belongs here.
   */
  take(trx: Trx, events: readonly OutboxRow[]): Promise<void>;
  /** After the commit: what was written down may be done. */
  taken(): void;
}
