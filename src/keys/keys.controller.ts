import { Body, Controller, Get, Post } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { KeyChanger } from './key-changer.js';
import { ChangeKeysDto, KeysDto } from './key.dto.js';
import { KeysService } from './keys.service.js';

@ApiTags('Keys')
@Controller('keys')
export class KeysController {
  constructor(
    private readonly keys: KeysService,
    private readonly changer: KeyChanger,
  ) {}

  /** The server's public keys, and whether the secret ones were saved. */
  @Get()
  @RequirePermissions('key:manage')
  @RateLimit('strict')
  @Answers(KeysDto)
  show(@Caller() caller: Identity): Promise<KeysDto> {
    return this.keys.show(caller.organizationId);
  }

  /** Make a new key, or say who backups are encrypted to from now on; what was made under the old keys stays readable. */
  @Post()
  @RequirePermissions('key:manage')
  @RateLimit('strict')
  @Answers(KeysDto, { errors: [409] })
  change(@Caller() caller: Identity, @Body() dto: ChangeKeysDto): Promise<KeysDto> {
    return this.changer.change(caller, dto);
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
