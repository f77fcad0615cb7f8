import { type BeforeApplicationShutdown, Injectable, Logger } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { Catalog } from '../catalog/catalog.js';
import { Settings } from '../config/settings.js';
import { SamplesRepository } from './samples.repository.js';
import { DEFAULT_LEVEL } from './verification.dto.js';
import { VerificationsService } from './verifications.service.js';

/** Before this hour of the day, in UTC, nothing is drawn: the night belongs to backups. */
const FIRST_HOUR = 3;

/**
 * Looks at backups without being asked, so that rot is found: once a day each source's newest backup, to the level of its schedule, and
 * a share of the old ones, those first that were not looked at for longest. The day is taken in the transaction that queues the
 * verifications: however many servers there are, it is drawn once.
 */
@Injectable()
export class Sampling implements BeforeApplicationShutdown {
  private readonly logger = new Logger('verification');
  private drawing: Promise<number> = Promise.resolve(0);
  private isStopped = false;

  constructor(
    private readonly samples: SamplesRepository,
    private readonly verifications: VerificationsService,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
  ) {}

  async beforeApplicationShutdown(): Promise<void> {
    this.isStopped = true;
    await this.drawing;
  }

  /** Hourly, so that a server that was away at the hour makes up for it. */
  @Cron('27 * * * *', { timeZone: 'UTC' })
  async tick(): Promise<void> {
    const now = new Date();
    if (this.isStopped || this.settings.role === 'api' || now.getUTCHours() < FIRST_HOUR) return;
    this.drawing = this.draw(now).catch((error: unknown) => {
      this.logger.error({ event: 'verification.not-sampled', err: error }, 'verification.not-sampled');
      return 0;
    });
    await this.drawing;
  }

  /** Queues the verifications of a day, unless somebody has. @returns how many */
  async draw(now: Date): Promise<number> {
    const queued = await this.catalog.transaction(async (trx) => {
      if (!(await this.samples.takeDay(trx, now))) return [];
      const drawn = [
        ...(await this.samples.newest(trx, now, DEFAULT_LEVEL)),
        ...(await this.samples.longestUnseen(trx, now, this.settings.verifySamplePercent, DEFAULT_LEVEL)),
      ];
      const ids: string[] = [];
      for (const { organizationId, backupId, level } of drawn)
        ids.push(await this.verifications.enqueue(trx, organizationId, backupId, level));
      await this.samples.noteQueued(trx, now, ids.length);
      return ids;
    });
    for (const id of queued) await this.verifications.announce(id);
    if (queued.length > 0)
      this.logger.log({ event: 'verification.sampled', verifications: queued.length }, 'verification.sampled');
    return queued.length;
  }
}
