import { Controller, Get } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { SignedIn } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import { MeDto } from './organization.dto.js';
import { OrganizationsService } from './organizations.service.js';

@ApiTags('Identity')
@Controller('auth/me')
export class MeController {
  constructor(private readonly organizations: OrganizationsService) {}

  /** Who is calling, for which organization, with which permissions. */
  @Get()
  @SignedIn()
  @Answers(MeDto)
  async me(@Caller() caller: Identity): Promise<MeDto> {
    const { kind, id, name, instanceOwner, permissions } = caller;
    const organization = await this.organizations.get(caller);
    const organizations = await this.organizations.ofCaller(caller);
    return { kind, id, name, instanceOwner, organization, organizations, permissions: [...permissions] };
  }
}
