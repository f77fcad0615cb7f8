import { Module } from '@nestjs/common';
import { SourcesModule } from '../sources/sources.module.js';
import { ChannelTester } from './channel-tester.js';
import { ChannelsController } from './channels.controller.js';
import { ChannelsRepository } from './channels.repository.js';
import { ChannelsService } from './channels.service.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { DeliveryWorker } from './delivery-worker.js';
import { EventTaker } from './event-taker.js';
import { Notifier } from './notifier.js';
import { EmailSender } from './senders/email-sender.js';
import { DiscordSender, JsonSender, PingSender, SlackSender } from './senders/http-senders.js';
import { SettingChannels } from './setting-channels.js';

/** Tells people by mail, Slack, Discord and HTTP what has happened. */
@Module({
  imports: [SourcesModule],
  controllers: [ChannelsController],
  providers: [
    ChannelsService,
    ChannelsRepository,
    ChannelTester,
    DeliveriesRepository,
    DeliveryWorker,
    EventTaker,
    Notifier,
    SettingChannels,
    EmailSender,
    SlackSender,
    DiscordSender,
    JsonSender,
    PingSender,
  ],
})
export class NotificationsModule {}
