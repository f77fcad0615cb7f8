import { Global, Module } from '@nestjs/common';
import { AuditService } from './audit.service.js';
import { Changes } from './changes.js';

/** The audit port: every module writes to it. */
@Global()
@Module({ providers: [AuditService, Changes], exports: [AuditService, Changes] })
export class AuditModule {}
