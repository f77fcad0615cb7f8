import { type DynamicModule, Global, Module } from '@nestjs/common';
import { Installation } from './installation.js';

/** Gives every module the ids of this installation. */
@Global()
@Module({})
export class InstallationModule {
  static with(installation: Installation): DynamicModule {
    return {
      module: InstallationModule,
      providers: [{ provide: Installation, useValue: installation }],
      exports: [Installation],
    };
  }
}
