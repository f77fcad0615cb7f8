import { type DynamicModule, Global, Module } from '@nestjs/common';
import { KeysController } from './keys.controller.js';
import { KeyChanger } from './key-changer.js';
import { Keyring } from './keyring.js';
import { LentIdentities } from './lent-identities.js';
import { KeysService } from './keys.service.js';
import { SecretBox } from './secret-box.js';
import { ServerKeys } from './server-keys.js';

/** The keys that were opened at start, and what may be said of them. */
@Global()
@Module({})
export class KeysModule {
  static with(keys: ServerKeys, secrets: SecretBox): DynamicModule {
    return {
      module: KeysModule,
      controllers: [KeysController],
      providers: [
        { provide: ServerKeys, useValue: keys },
        { provide: SecretBox, useValue: secrets },
        KeysService,
        KeyChanger,
        Keyring,
        LentIdentities,
      ],
      exports: [ServerKeys, SecretBox, KeysService, Keyring, LentIdentities],
    };
  }
}
