import { type CanActivate, type ExecutionContext, Injectable, Logger, type RawBodyRequest } from '@nestjs/common';
import type { Request } from 'express';
import { AuditService } from '../audit/audit.service.js';
import { Errors } from '../common/errors.js';
import type { Actor } from '../common/http/request-context.js';
import { Settings } from '../config/settings.js';
import { Installation } from '../installation/installation.js';
import { InboundSecrets } from './inbound-secrets.js';
import { InboundRepository } from './inbound.repository.js';
import { type Proven, proveSender } from './inbound-signature.js';

/** Who acts when a report comes in. */
export const INBOUND_ACTOR: Actor = { kind: 'system', id: 'webhook', name: 'backup-complete webhook' };

/** A flood of refused messages leaves this many lines a minute in the audit trail; the log has the others. */
const LINES_PER_MINUTE = 60;
const MINUTE_MS = 60_000;

/** What the guard leaves on the request. */
export interface InboundRequest {
  inbound?: Proven & { organizationId: string };
}

/** Lets in who proves to share a secret with the organization, before anything of the message is read. */
@Injectable()
export class InboundGuard implements CanActivate {
  private readonly logger = new Logger('webhook');
  private window = { endsAt: 0, lines: 0 };

  constructor(
    private readonly secrets: InboundSecrets,
    private readonly rows: InboundRepository,
    private readonly settings: Settings,
    private readonly installation: Installation,
    private readonly audit: AuditService,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<RawBodyRequest<Request> & InboundRequest>();
    const organizationId = await this.organizationOf(request);
    const secrets = organizationId === undefined ? [] : await this.secrets.valid(organizationId, new Date());
    const proven = proveSender(request.headers, request.rawBody ?? Buffer.alloc(0), secrets, this.settings.webhooks.modes);
    if (proven && organizationId !== undefined) {
      request.inbound = { ...proven, organizationId };
      return true;
    }
    await this.refuse(organizationId ?? this.installation.defaultOrganizationId, 'not proven');
    throw Errors.unauthorized(
      'The signature of the report is missing or wrong: sign the exact body with the shared secret (see docs/WEBHOOKS.md).',
    );
  }

  /** Writes the one line that a refused message leaves. */
  async refuse(organizationId: string, why: string): Promise<void> {
    this.logger.warn({ event: 'webhook.refused', organizationId, why }, 'webhook.refused');
    const now = Date.now();
    if (now >= this.window.endsAt) this.window = { endsAt: now + MINUTE_MS, lines: 0 };
    this.window.lines += 1;
    if (this.window.lines > LINES_PER_MINUTE) return;
    await this.audit.record(undefined, {
      organizationId,
      actor: INBOUND_ACTOR,
      action: 'webhook.refused',
      resource: { kind: 'webhook', id: 'backup-complete' },
      result: 'denied',
      changes: { why },
    });
  }

  /** The one that is named, else the one that was there first. */
  private async organizationOf(request: Request): Promise<string | undefined> {
    const named = request.headers['x-organization'] || request.query['organization'];
    if (named === undefined || named === '') return this.installation.defaultOrganizationId;
    if (typeof named !== 'string' || !(await this.rows.organizationExists(named))) return undefined;
    return named;
  }
}
