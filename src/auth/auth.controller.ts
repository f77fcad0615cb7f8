import { Body, Controller, Header, Post } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { Answers } from '../common/http/answers.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { Public, SignedIn } from './access.js';
import { ChangePasswordDto, DoneDto, LoginDto, RefreshDto, SessionDto } from './auth.dto.js';
import { Caller, type Identity } from './identity.js';
import { SessionsService } from './sessions.service.js';

@ApiTags('Identity')
@Controller('auth')
export class AuthController {
  constructor(private readonly sessions: SessionsService) {}

  /** Sign in with e-mail address and password. */
  @Post('login')
  @Public()
  @RateLimit('strict')
  @Header('Cache-Control', 'no-store')
  @Answers(SessionDto, { public: true, errors: [401] })
  login(@Body() { email, password }: LoginDto): Promise<SessionDto> {
    return this.sessions.login(email, password);
  }

  /** New tokens for a session; the old ones end. */
  @Post('refresh')
  @Public()
  @Header('Cache-Control', 'no-store')
  @Answers(SessionDto, { public: true, errors: [401] })
  refresh(@Body() { refreshToken }: RefreshDto): Promise<SessionDto> {
    return this.sessions.refresh(refreshToken);
  }

  /** End the session, at once. */
  @Post('logout')
  @SignedIn()
  @Answers(DoneDto, { errors: [409] })
  async logout(@Caller() caller: Identity): Promise<DoneDto> {
    await this.sessions.logout(caller);
    return { done: true };
  }

  /** Change one's own password; every other session ends. */
  @Post('password')
  @SignedIn()
  @RateLimit('strict')
  @Answers(DoneDto, { errors: [409] })
  async changePassword(@Caller() caller: Identity, @Body() dto: ChangePasswordDto): Promise<DoneDto> {
    await this.sessions.changePassword(caller, dto.currentPassword, dto.newPassword);
    return { done: true };
  }
}
