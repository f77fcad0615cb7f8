import { Injectable } from '@nestjs/common';
import { Webhook } from 'standardwebhooks';
import type { WebhookAttempt } from '../catalog/tables.js';
import { OutboundError } from '../common/outbound/outbound-error.js';
import { OutboundHttp, type OutboundResponse } from '../common/outbound/outbound-http.js';
import { VERSION } from '../version.js';
import { EndpointSecrets } from './endpoint-secrets.js';
import { retryAfterMs } from './retry-plan.js';
import type { EndpointRow } from './webhook-view.js';

const TIMEOUT_MS = 15_000;
const EXCERPT_BYTES = 1024;

/** How one attempt went. */
export interface Sent {
  attempt: WebhookAttempt;
  /** How long the receiver asked to be left alone. */
  retryAfterMs: number | null;
  /** The receiver said that it is gone for good. */
  isGone: boolean;
}

/** Signs a message as Standard Webhooks 1.0 says, and sends it once. */
@Injectable()
export class WebhookSender {
  constructor(
    private readonly http: OutboundHttp,
    private readonly secrets: EndpointSecrets,
  ) {}

  /** @throws OutboundError ABORTED alone; whatever else went wrong is in the attempt */
  async send(endpoint: EndpointRow, message: { id: string; body: string }, signal?: AbortSignal): Promise<Sent> {
    const at = new Date();
    const startedAt = performance.now();
    try {
      const response = await this.http.request({
        method: 'POST',
        url: endpoint.url,
        headers: this.headersOf(endpoint, message, at),
        body: message.body,
        timeoutMs: TIMEOUT_MS,
        maxBytes: EXCERPT_BYTES,
        beyond: 'cut',
        ...(signal ? { signal } : {}),
      });
      return {
        attempt: attemptOf(at, response),
        retryAfterMs: retryAfterMs(response.headers['retry-after'], new Date()),
        isGone: response.status === 410,
      };
    } catch (error) {
      if (!(error instanceof OutboundError) || error.code === 'ABORTED') throw error;
      const durationMs = Math.round(performance.now() - startedAt);
      const attempt = { at: at.toISOString(), status: null, durationMs, response: null, error: error.message };
      return { attempt, retryAfterMs: null, isGone: false };
    }
  }

  private headersOf(endpoint: EndpointRow, { id, body }: { id: string; body: string }, at: Date): Record<string, string> {
    return {
      ...this.secrets.headers(endpoint),
      'content-type': 'application/json',
      'user-agent': `Backstay/${VERSION}`,
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
      'webhook-signature': this.secrets
        .signing(endpoint, at)
        .map((secret) => new Webhook(secret).sign(id, at, body))
        .join(' '),
    };
  }
}

function attemptOf(at: Date, { status, body, durationMs }: OutboundResponse): WebhookAttempt {
  // PostgreSQL stores no NUL in jsonb.
  const response = body.toString('utf8').replaceAll('\0', '\uFFFD');
  return { at: at.toISOString(), status, durationMs, response, error: verdict(status) };
}

/** Why an answer does not count as delivered; null when it does. */
function verdict(status: number): string | null {
  if (status >= 200 && status < 300) return null;
  if (status >= 300 && status < 400) return `The receiver answered ${status}; redirects are not followed.`;
  if (status === 410) return 'The receiver answered 410: it is gone.';
  return `The receiver answered ${status}.`;
}
