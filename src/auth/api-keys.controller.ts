import { Body, Controller, Delete, Get, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { Answers } from '../common/http/answers.js';
import type { Page } from '../common/http/envelope.interceptor.js';
import { PagingDto } from '../common/http/paging.dto.js';
import { RequirePermissions } from './access.js';
import { ApiKeysService } from './api-keys.service.js';
import { ApiKeyDto, ApiKeyWithKeyDto, CreateApiKeyDto } from './auth.dto.js';
import { Caller, type Identity } from './identity.js';

@ApiTags('Identity')
@Controller('auth/api-keys')
export class ApiKeysController {
  constructor(private readonly keys: ApiKeysService) {}

  /** List the organization's API keys. */
  @Get()
  @RequirePermissions('apikey:manage')
  @Answers(ApiKeyDto, { page: true })
  list(@Caller() caller: Identity, @Query() paging: PagingDto): Promise<Page<ApiKeyDto>> {
    return this.keys.list(caller, paging);
  }

  /** Create an API key; the answer holds it, and it is not shown again. */
  @Post()
  @RequirePermissions('apikey:manage')
  @Answers(ApiKeyWithKeyDto)
  create(@Caller() caller: Identity, @Body() dto: CreateApiKeyDto): Promise<ApiKeyWithKeyDto> {
    return this.keys.create(caller, dto);
  }

  /** One API key. */
  @Get(':id')
  @RequirePermissions('apikey:manage')
  @Answers(ApiKeyDto, { errors: [404] })
  get(@Caller() caller: Identity, @Param('id') id: string): Promise<ApiKeyDto> {
    return this.keys.get(caller.organizationId, id);
  }

  /** Revoke an API key, at once. */
  @Delete(':id')
  @RequirePermissions('apikey:manage')
  @Answers(ApiKeyDto, { errors: [404, 409] })
  revoke(@Caller() caller: Identity, @Param('id') id: string): Promise<ApiKeyDto> {
    return this.keys.revoke(caller, id);
  }
}
