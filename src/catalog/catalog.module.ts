import { type DynamicModule, Global, Module } from '@nestjs/common';
import { Catalog } from './catalog.js';
import { CatalogSignals } from './catalog-signals.js';
import { SnapshotTaker } from './snapshot-taker.js';

/** Gives every module the open catalog. Whoever opened it closes it, after everything else has stopped. */
@Global()
@Module({})
export class CatalogModule {
  static with(catalog: Catalog): DynamicModule {
    return {
      module: CatalogModule,
      providers: [{ provide: Catalog, useValue: catalog }, CatalogSignals, SnapshotTaker],
      exports: [Catalog, CatalogSignals],
    };
  }
}
