import { type DynamicModule, Module } from '@nestjs/common';
import { APP_FILTER, APP_INTERCEPTOR, APP_PIPE, Reflector } from '@nestjs/core';
import { ScheduleModule } from '@nestjs/schedule';
import { ThrottlerModule } from '@nestjs/throttler';
import { AlertsModule } from './alerts/alerts.module.js';
import { AuditModule } from './audit/audit.module.js';
import { AuthModule } from './auth/auth.module.js';
import { BackupsModule } from './backups/backups.module.js';
import type { Catalog } from './catalog/catalog.js';
import { CatalogModule } from './catalog/catalog.module.js';
import { CacheModule } from './common/cache/cache.module.js';
import { EventsModule } from './common/events/events.module.js';
import { EnvelopeInterceptor } from './common/http/envelope.interceptor.js';
import { ErrorFilter } from './common/http/error.filter.js';
import { throttlerOptions } from './common/http/rate-limit.js';
import { validationPipe } from './common/http/validation.js';
import { LoggingModule } from './common/logging/logging.module.js';
import { ComparisonsModule } from './comparisons/comparisons.module.js';
import { OutboundModule } from './common/outbound/outbound.module.js';
import { ConfigModule } from './config/config.module.js';
import { Settings } from './config/settings.js';
import { DestinationsModule } from './destinations/destinations.module.js';
import type { Installation } from './installation/installation.js';
import { InstallationModule } from './installation/installation.module.js';
import { JobsModule } from './jobs/jobs.module.js';
import { KeysModule } from './keys/keys.module.js';
import type { SecretBox } from './keys/secret-box.js';
import type { ServerKeys } from './keys/server-keys.js';
import { OrganizationsModule } from './organizations/organizations.module.js';
import { OutboxModule } from './outbox/outbox.module.js';
import { NotificationsModule } from './notifications/notifications.module.js';
import { ReportsModule } from './reports/reports.module.js';
import { RecoveryModule } from './recovery/recovery.module.js';
import { RetentionModule } from './retention/retention.module.js';
import { RestoresModule } from './restores/restores.module.js';
import { SchedulesModule } from './schedules/schedules.module.js';
import { SourcesModule } from './sources/sources.module.js';
import { StatusModule } from './status/status.module.js';
import { VerificationsModule } from './verifications/verifications.module.js';
import { WebhooksModule } from './webhooks/webhooks.module.js';

/** What is opened before Nest starts, and closed after it has stopped. */
export interface Foundation {
  settings: Settings;
  catalog: Catalog;
  installation: Installation;
  keys: ServerKeys;
  secrets: SecretBox;
}

/** The whole server. */
@Module({})
export class AppModule {
  static with(foundation: Foundation): DynamicModule {
    return {
      module: AppModule,
      imports: [
        ConfigModule.with(foundation.settings),
        LoggingModule,
        CatalogModule.with(foundation.catalog),
        InstallationModule.with(foundation.installation),
        KeysModule.with(foundation.keys, foundation.secrets),
        EventsModule,
        CacheModule,
        OutboundModule,
        ScheduleModule.forRoot(),
        ThrottlerModule.forRootAsync({ inject: [Settings, Reflector], useFactory: throttlerOptions }),
        AuditModule,
        AuthModule,
        OrganizationsModule,
        OutboxModule,
        JobsModule,
        RecoveryModule,
        DestinationsModule,
        SourcesModule,
        NotificationsModule,
        AlertsModule,
        SchedulesModule,
        ComparisonsModule,
        BackupsModule,
        RetentionModule,
        ReportsModule,
        RestoresModule,
        VerificationsModule,
        WebhooksModule,
        StatusModule,
      ],
      providers: [
        { provide: APP_PIPE, useFactory: validationPipe },
        { provide: APP_FILTER, useClass: ErrorFilter },
        { provide: APP_INTERCEPTOR, useClass: EnvelopeInterceptor },
      ],
    };
  }
}
