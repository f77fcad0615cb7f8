import { Global, Module } from '@nestjs/common';
import { AuditRetention } from './audit-retention.js';
import { AuditTrail } from './audit-trail.js';
import { AuditController } from './audit.controller.js';
import { AuditRepository } from './audit.repository.js';
import { AuditService } from './audit.service.js';
import { Changes } from './changes.js';

/** The audit port, to which every module writes, and the trail that is read. */
@Global()
@Module({
  controllers: [AuditController],
  providers: [AuditRepository, AuditRetention, AuditService, AuditTrail, Changes],
  exports: [AuditService, AuditTrail, Changes],
})
export class AuditModule {}
