import { Controller, Get, Post, Query, Res } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers, AnswersRaw } from '../common/http/answers.js';
import { RawAnswer } from '../common/http/envelope.interceptor.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { KeysDto } from '../keys/key.dto.js';
import { KeysService } from '../keys/keys.service.js';
import { RecoveryKitDto } from './recovery-kit.dto.js';
import { RecoveryKit } from './recovery-kit.js';

@ApiTags('Keys')
@Controller('keys/recovery-kit')
export class RecoveryKitController {
  constructor(
    private readonly kit: RecoveryKit,
    private readonly keys: KeysService,
  ) {}

  /** Everything that restores backups when this server is lost, as one text to print: keys, destinations, commands. It is a secret. */
  @Get()
  @RequirePermissions('key:manage')
  @RateLimit('strict')
  @RawAnswer()
  @AnswersRaw('text/plain', 'The kit; also an age identity file')
  async download(@Caller() caller: Identity, @Query() { secrets }: RecoveryKitDto, @Res() response: Response): Promise<void> {
    const text = await this.kit.of(caller, secrets === 'true');
    response.setHeader('Content-Type', 'text/plain; charset=utf-8');
    response.setHeader('Content-Disposition', 'attachment; filename="recovery-kit.txt"');
    response.setHeader('Cache-Control', 'private, no-store');
    response.send(text);
  }

  /** Confirm that the kit is kept somewhere else; health is degraded until then. */
  @Post()
  @RequirePermissions('key:manage')
  @RateLimit('strict')
  @Answers(KeysDto)
  confirmSaved(@Caller() caller: Identity): Promise<KeysDto> {
    return this.keys.confirmSaved(caller);
  }
}
