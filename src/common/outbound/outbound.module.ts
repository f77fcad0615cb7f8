import { Global, Module } from '@nestjs/common';
import { Settings } from '../../config/settings.js';
import { OutboundHttp } from './outbound-http.js';

/** HTTP to the outside, for every module that needs it. */
@Global()
@Module({
  providers: [{ provide: OutboundHttp, inject: [Settings], useFactory: (settings: Settings) => new OutboundHttp(settings) }],
  exports: [OutboundHttp],
})
export class OutboundModule {}
