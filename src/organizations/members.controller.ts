import { Body, Controller, Delete, Get, Param, Post, Put, Query } from '@nestjs/common';
import { ApiParam, ApiTags } from '@nestjs/swagger';
import { OrganizationInPath, RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import type { Page } from '../common/http/envelope.interceptor.js';
import { PagingDto } from '../common/http/paging.dto.js';
import { MembersService } from './members.service.js';
import { AddMemberDto, ChangeMemberDto, MemberDto, MemberWithPasswordDto, ResetPasswordDto } from './organization.dto.js';

@ApiTags('Identity')
@Controller('organizations/:id/members')
export class MembersController {
  constructor(private readonly members: MembersService) {}

  /** List the members of an organization. */
  @Get()
  @RequirePermissions('member:manage')
  @OrganizationInPath()
  @ApiParam({ name: 'id', type: String })
  @Answers(MemberDto, { page: true, errors: [404] })
  list(@Caller() caller: Identity, @Query() paging: PagingDto): Promise<Page<MemberDto>> {
    return this.members.list(caller, paging);
  }

  /** Make somebody a member; a new account's password is shown once when none was given. */
  @Post()
  @RequirePermissions('member:manage')
  @OrganizationInPath()
  @ApiParam({ name: 'id', type: String })
  @Answers(MemberWithPasswordDto, { errors: [404, 409] })
  add(@Caller() caller: Identity, @Body() dto: AddMemberDto): Promise<MemberWithPasswordDto> {
    return this.members.add(caller, dto);
  }

  /** Change a member's role. */
  @Put(':memberId')
  @RequirePermissions('member:manage')
  @OrganizationInPath()
  @ApiParam({ name: 'id', type: String })
  @Answers(MemberDto, { errors: [404, 409] })
  changeRole(
    @Caller() caller: Identity,
    @Param('memberId') memberId: string,
    @Body() { role }: ChangeMemberDto,
  ): Promise<MemberDto> {
    return this.members.changeRole(caller, memberId, role);
  }

  /** Take a member out of the organization, at once. */
  @Delete(':memberId')
  @RequirePermissions('member:manage')
  @OrganizationInPath()
  @ApiParam({ name: 'id', type: String })
  @Answers(MemberDto, { errors: [404, 409] })
  remove(@Caller() caller: Identity, @Param('memberId') memberId: string): Promise<MemberDto> {
    return this.members.remove(caller, memberId);
  }

  /** Give a member another password, and end their sessions. */
  @Post(':memberId/reset-password')
  @RequirePermissions('member:manage')
  @OrganizationInPath()
  @ApiParam({ name: 'id', type: String })
  @Answers(MemberWithPasswordDto, { errors: [404, 409] })
  resetPassword(
    @Caller() caller: Identity,
    @Param('memberId') memberId: string,
    @Body() { password }: ResetPasswordDto,
  ): Promise<MemberWithPasswordDto> {
    return this.members.resetPassword(caller, memberId, password);
  }
}
