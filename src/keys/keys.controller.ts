import { Controller, Get, Post } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { KeysDto } from './key.dto.js';
import { KeysService } from './keys.service.js';

@ApiTags('Keys')
@Controller('keys')
export class KeysController {
  constructor(private readonly keys: KeysService) {}

  /** The server's public keys, and whether the secret ones were saved. */
  @Get()
  @RequirePermissions('key:manage')
  @RateLimit('strict')
  @Answers(KeysDto)
  show(): Promise<KeysDto> {
    return this.keys.show();
  }

  /** Confirm that the secret keys are kept somewhere else too. */
  @Post('confirm-saved')
  @RequirePermissions('key:manage')
  @RateLimit('strict')
  @Answers(KeysDto)
  confirmSaved(@Caller() caller: Identity): Promise<KeysDto> {
    return this.keys.confirmSaved(caller);
  }
}
