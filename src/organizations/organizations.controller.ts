import { Body, Controller, Delete, Get, Post, Put, Query } from '@nestjs/common';
import { ApiParam, ApiTags } from '@nestjs/swagger';
import { InstanceOwnerOnly, OrganizationInPath, RequirePermissions, SignedIn } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import { DeleteOrganizationDto, OrganizationDto, OrganizationNameDto } from './organization.dto.js';
import { OrganizationsService } from './organizations.service.js';

@ApiTags('Identity')
@Controller('organizations')
export class OrganizationsController {
  constructor(private readonly organizations: OrganizationsService) {}

  /** List the organizations that the caller belongs to. */
  @Get()
  @SignedIn()
  @Answers(OrganizationDto, { list: true })
  list(@Caller() caller: Identity): Promise<OrganizationDto[]> {
    return this.organizations.ofCaller(caller);
  }

  /** Create an organization. */
  @Post()
  @InstanceOwnerOnly()
  @Answers(OrganizationDto, { errors: [409] })
  create(@Caller() caller: Identity, @Body() { name }: OrganizationNameDto): Promise<OrganizationDto> {
    return this.organizations.create(caller, name);
  }

  /** One organization. */
  @Get(':id')
  @SignedIn()
  @OrganizationInPath()
  @ApiParam({ name: 'id', type: String })
  @Answers(OrganizationDto, { errors: [404] })
  get(@Caller() caller: Identity): Promise<OrganizationDto> {
    return this.organizations.get(caller);
  }

  /** Rename an organization. */
  @Put(':id')
  @RequirePermissions('member:manage')
  @OrganizationInPath()
  @ApiParam({ name: 'id', type: String })
  @Answers(OrganizationDto, { errors: [404, 409] })
  rename(@Caller() caller: Identity, @Body() { name }: OrganizationNameDto): Promise<OrganizationDto> {
    return this.organizations.rename(caller, name);
  }

  /** Delete an organization with its members and keys: one in which nothing is left, or all that is in it when `confirm` is its name. */
  @Delete(':id')
  @RequirePermissions('member:manage')
  @OrganizationInPath()
  @ApiParam({ name: 'id', type: String })
  @Answers(OrganizationDto, { errors: [404, 409] })
  delete(@Caller() caller: Identity, @Query() { confirm }: DeleteOrganizationDto): Promise<OrganizationDto> {
    return this.organizations.delete(caller, confirm);
  }
}
