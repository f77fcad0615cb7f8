import { Controller, Get, Header, type OnModuleDestroy, Res } from '@nestjs/common';
import { ApiServiceUnavailableResponse, ApiTags, getSchemaPath } from '@nestjs/swagger';
import type { Response } from 'express';
import { Public, RequirePermissions } from '../auth/access.js';
import { Caller, type Identity, MaybeCaller } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { Answers, AnswersRaw } from '../common/http/answers.js';
import { RawAnswer } from '../common/http/envelope.interceptor.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { VERSION } from '../version.js';
import { Health, partsFor } from './health.js';
import { Metrics } from './metrics.js';
import { HealthDto, ProbeDto } from './status.dto.js';

const HEALTH_TTL_MS = 5_000;

@ApiTags('Status')
@Controller('status')
export class StatusController implements OnModuleDestroy {
  private latest: { at: number; answer: Promise<Awaited<ReturnType<Health['look']>>> } | undefined;

  private stopping = false;

  constructor(
    private readonly health: Health,
    private readonly metrics: Metrics,
    private readonly catalog: Catalog,
  ) {}

  /** Balancers should send nobody here any more. */
  onModuleDestroy(): void {
    this.stopping = true;
  }

  /** Whether the process lives. */
  @Get('live')
  @Public()
  @RateLimit('none')
  @Header('Cache-Control', 'no-store')
  @Answers(ProbeDto, { public: true })
  live(): ProbeDto {
    return { status: 'ok' };
  }

  /** Whether requests can be served: the catalog answers. */
  @Get('ready')
  @Public()
  @RateLimit('none')
  @Header('Cache-Control', 'no-store')
  @Answers(ProbeDto, { public: true, errors: [503] })
  async ready(): Promise<ProbeDto> {
    if (this.stopping) throw Errors.unavailable('The server is stopping.');
    await this.catalog.ping().catch((cause: unknown) => {
      throw Errors.unavailable('The catalog does not answer.', { cause });
    });
    return { status: 'ok' };
  }

  /** How the server is: 200 `healthy` or `degraded`, 503 `unhealthy`. The parts are shown to those with system:status. */
  @Get('health')
  @Public()
  @RateLimit('lenient')
  @Header('Cache-Control', 'no-store')
  @Answers(HealthDto, { public: true })
  @ApiServiceUnavailableResponse({
    description: 'unhealthy',
    schema: {
      type: 'object',
      required: ['success', 'data'],
      properties: { success: { type: 'boolean', enum: [true] }, data: { $ref: getSchemaPath(HealthDto) } },
    },
  })
  async getHealth(
    @MaybeCaller() caller: Identity | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<HealthDto> {
    if (!this.latest || Date.now() - this.latest.at > HEALTH_TTL_MS) this.latest = { at: Date.now(), answer: this.health.look() };
    const { at, answer } = this.latest;
    const { status, parts } = await answer;
    response.status(status === 'unhealthy' ? 503 : 200);
    return {
      status,
      version: VERSION,
      uptimeMs: Math.round(process.uptime() * 1000),
      checkedAt: new Date(at).toISOString(),
      ...(caller?.permissions.has('system:status') ? { parts: partsFor(caller, parts) } : {}),
    };
  }

  /** Figures for Prometheus: of every organization for the bootstrap key, else of the caller's own. */
  @Get('metrics')
  @RequirePermissions('system:status')
  @RateLimit('none')
  @RawAnswer()
  @AnswersRaw('text/plain', 'Prometheus text')
  async getMetrics(@Caller() caller: Identity, @Res() response: Response): Promise<void> {
    const text = await this.metrics.text(caller.instanceOwner ? undefined : caller.organizationId);
    response.setHeader('Content-Type', this.metrics.contentType);
    response.send(text);
  }
}
