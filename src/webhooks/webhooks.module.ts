import { Module } from '@nestjs/common';
import { BackupsModule } from '../backups/backups.module.js';
import { DeliveriesController } from './deliveries.controller.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { DeliveriesService } from './deliveries.service.js';
import { EndpointDisabling } from './endpoint-disabling.js';
import { EndpointSecrets } from './endpoint-secrets.js';
import { EndpointsController } from './endpoints.controller.js';
import { EndpointsRepository } from './endpoints.repository.js';
import { EndpointsService } from './endpoints.service.js';
import { InboundController } from './inbound.controller.js';
import { InboundGuard } from './inbound.guard.js';
import { InboundRepository } from './inbound.repository.js';
import { InboundSecrets } from './inbound-secrets.js';
import { InboundService } from './inbound.service.js';
import { WebhookConsumer } from './webhook-consumer.js';
import { WebhookSender } from './webhook-sender.js';
import { WebhookWorker } from './webhook-worker.js';

@Module({
  imports: [BackupsModule],
  controllers: [EndpointsController, DeliveriesController, InboundController],
  providers: [
    DeliveriesRepository,
    DeliveriesService,
    EndpointDisabling,
    EndpointSecrets,
    EndpointsRepository,
    EndpointsService,
    InboundGuard,
    InboundRepository,
    InboundSecrets,
    InboundService,
    WebhookConsumer,
    WebhookSender,
    WebhookWorker,
  ],
})
export class WebhooksModule {}
