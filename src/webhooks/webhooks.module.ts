import { Module } from '@nestjs/common';
import { DeliveriesController } from './deliveries.controller.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { DeliveriesService } from './deliveries.service.js';
import { EndpointDisabling } from './endpoint-disabling.js';
import { EndpointSecrets } from './endpoint-secrets.js';
import { EndpointsController } from './endpoints.controller.js';
import { EndpointsRepository } from './endpoints.repository.js';
import { EndpointsService } from './endpoints.service.js';
import { WebhookConsumer } from './webhook-consumer.js';
import { WebhookSender } from './webhook-sender.js';
import { WebhookWorker } from './webhook-worker.js';

@Module({
  controllers: [EndpointsController, DeliveriesController],
  providers: [
    DeliveriesRepository,
    DeliveriesService,
    EndpointDisabling,
    EndpointSecrets,
    EndpointsRepository,
    EndpointsService,
    WebhookConsumer,
    WebhookSender,
    WebhookWorker,
  ],
})
export class WebhooksModule {}
