import { Body, Controller, Delete, Get, Headers, Param, Post, Query, Req, Res } from '@nestjs/common';
import { ApiHeader, ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { CachedRead } from '../common/cache/cached-read.interceptor.js';
import { Errors } from '../common/errors.js';
import { Answers, AnswersRaw } from '../common/http/answers.js';
import { Page, RawAnswer } from '../common/http/envelope.interceptor.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { goneSignal, sendEvents } from '../common/http/server-sent-events.js';
import { hasEnded } from '../jobs/run.js';
import { LendsIdentity, LentIdentity } from '../keys/lent-identity.js';
import { LentIdentityDto } from '../keys/lent-identity.dto.js';
import { WaitDto } from '../jobs/run.dto.js';
import { RunWatcher } from '../jobs/run-watcher.js';
import { BackupDetails } from './backup-details.js';
import { BackupDownload } from './backup-download.js';
import { BackupStats } from './backup-stats.js';
import { toBackup } from './backup-view.js';
import { BackupDetailsDto, BackupDto, BackupStatsDto, CreateBackupDto, DownloadDto, ListBackupsDto } from './backup.dto.js';
import { BackupsService } from './backups.service.js';

const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,200}$/;

@ApiTags('Backups')
@Controller('backups')
export class BackupsController {
  constructor(
    private readonly backups: BackupsService,
    private readonly details: BackupDetails,
    private readonly statistics: BackupStats,
    private readonly downloads: BackupDownload,
    private readonly watcher: RunWatcher,
  ) {}

  /** List backups, the newest first. */
  @Get('list')
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @CachedRead('short', 'backups')
  @Answers(BackupDto, { page: true, errors: [404] })
  async list(@Caller() caller: Identity, @Query() filter: ListBackupsDto): Promise<Page<BackupDto>> {
    const page = await this.backups.list(caller, filter);
    return new Page(page.items.map(toBackup), page.meta);
  }

  /** Totals, success rate, bytes, durations, and each source's newest proven backup. */
  @Get('stats')
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @CachedRead('short', 'backups', 'sources')
  @Answers(BackupStatsDto)
  stats(@Caller() caller: Identity): Promise<BackupStatsDto> {
    return this.statistics.of(caller.organizationId);
  }

  /** Queue a backup; `wait` holds the answer until it ends. */
  @Post('create')
  @RequirePermissions('backup:create')
  @RateLimit('strict')
  @ApiHeader({
    name: 'Idempotency-Key',
    required: false,
    description: 'The same key with the same request returns the same backup',
  })
  @Answers(BackupDto, { errors: [404, 409, 503] })
  async create(
    @Caller() caller: Identity,
    @Body() dto: CreateBackupDto,
    @Query() { wait }: WaitDto,
    @Headers('idempotency-key') key: string | undefined,
    @Req() request: Request,
  ): Promise<BackupDto> {
    if (key && !IDEMPOTENCY_KEY.test(key))
      throw Errors.validation({ 'Idempotency-Key': 'must be 1 to 200 printable characters without spaces' });
    const backup = await this.backups.create(caller, dto, key || undefined);
    if (!wait || hasEnded(backup.status)) return toBackup(backup);
    await this.watcher.waitForEnd(caller.organizationId, 'backup', backup.id, wait, goneSignal(request));
    return toBackup(await this.backups.get(caller.organizationId, backup.id));
  }

  /** A backup with its artifacts, tables, omissions, runs and progress. */
  @Get(':id/details')
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @Answers(BackupDetailsDto, { errors: [404] })
  async getDetails(@Caller() caller: Identity, @Param('id') id: string): Promise<BackupDetailsDto> {
    return this.details.of(await this.backups.get(caller.organizationId, id));
  }

  /** Progress as server-sent events: `progress` whenever it changes, then one `end` with the backup. */
  @Get(':id/progress')
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @RawAnswer()
  @AnswersRaw('text/event-stream', 'Events until the run ends', { errors: [404] })
  async progress(
    @Caller() caller: Identity,
    @Param('id') id: string,
    @Req() request: Request,
    @Res() response: Response,
  ): Promise<void> {
    await this.backups.get(caller.organizationId, id);
    const shown = async () => toBackup(await this.backups.get(caller.organizationId, id));
    await sendEvents(response, this.watcher.events(caller.organizationId, 'backup', id, goneSignal(request), shown));
  }

  /** Stop a queued or running backup. */
  @Post(':id/cancel')
  @RequirePermissions('backup:create')
  @Answers(BackupDto, { errors: [404, 409] })
  async cancel(@Caller() caller: Identity, @Param('id') id: string): Promise<BackupDto> {
    return toBackup(await this.backups.cancel(caller, id));
  }

  /** Keep a backup until it is unpinned. */
  @Post(':id/pin')
  @RequirePermissions('backup:delete')
  @Answers(BackupDto, { errors: [404] })
  async pin(@Caller() caller: Identity, @Param('id') id: string): Promise<BackupDto> {
    return toBackup(await this.backups.setPinned(caller, id, true));
  }

  /** Let retention and people remove a backup again. */
  @Post(':id/unpin')
  @RequirePermissions('backup:delete')
  @Answers(BackupDto, { errors: [404] })
  async unpin(@Caller() caller: Identity, @Param('id') id: string): Promise<BackupDto> {
    return toBackup(await this.backups.setPinned(caller, id, false));
  }

  /** Send an artifact, as stored (with ranges) or decrypted and decompressed. */
  @Get(':id/download')
  @RequirePermissions('backup:download')
  @RateLimit('strict')
  @RawAnswer()
  @LendsIdentity()
  @AnswersRaw('application/octet-stream', "The artifact's bytes", { errors: [404, 409, 422], binary: true })
  async download(
    @Caller() caller: Identity,
    @Param('id') id: string,
    @Query() dto: DownloadDto,
    @Headers('range') range: string | undefined,
    @Headers('if-range') ifRange: string | undefined,
    @LentIdentity() lent: LentIdentityDto,
    @Res() response: Response,
  ): Promise<void> {
    await this.downloads.send(caller, await this.backups.get(caller.organizationId, id), dto, { range, ifRange }, lent, response);
  }

  /** Move a backup to the trash, where it can be restored and brought back for TRASH_DAYS. */
  @Delete(':id')
  @RequirePermissions('backup:delete')
  @RateLimit('strict')
  @Answers(BackupDto, { errors: [404, 409] })
  async delete(@Caller() caller: Identity, @Param('id') id: string): Promise<BackupDto> {
    return toBackup(await this.backups.delete(caller, id));
  }

  /** Bring a backup back from the trash. */
  @Post(':id/undelete')
  @RequirePermissions('backup:delete')
  @Answers(BackupDto, { errors: [404, 409] })
  async undelete(@Caller() caller: Identity, @Param('id') id: string): Promise<BackupDto> {
    return toBackup(await this.backups.undelete(caller, id));
  }
}
