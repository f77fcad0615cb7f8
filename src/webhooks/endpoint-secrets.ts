import { Injectable } from '@nestjs/common';
import { randomBytes } from 'node:crypto';
import { SecretBox } from '../keys/secret-box.js';
import type { EndpointRow } from './webhook-view.js';

/** What an endpoint keeps sealed: its signing secrets and its owner's headers. */
@Injectable()
export class EndpointSecrets {
  constructor(private readonly box: SecretBox) {}

  /** A secret in the form of Standard Webhooks: 32 random bytes. */
  make(): string {
    return `whsec_${randomBytes(32).toString('base64')}`;
  }

  sealSecret(endpointId: string, secret: string): string {
    return this.box.seal(secret, secretOwner(endpointId));
  }

  sealHeaders(endpointId: string, headers: Record<string, string>): string | null {
    return Object.keys(headers).length === 0 ? null : this.box.seal(JSON.stringify(headers), headersOwner(endpointId));
  }

  /** The secrets that sign now: the current one, and the one before it while the overlap lasts. */
  signing(row: EndpointRow, now: Date): string[] {
    const sealed = [row.sealed_secret];
    if (row.sealed_previous_secret !== null && row.previous_secret_until && row.previous_secret_until > now)
      sealed.push(row.sealed_previous_secret);
    return sealed.map((each) => this.box.open(each, secretOwner(row.id)));
  }

  headers(row: EndpointRow): Record<string, string> {
    if (row.sealed_headers === null) return {};
    return JSON.parse(this.box.open(row.sealed_headers, headersOwner(row.id))) as Record<string, string>;
  }
}

/** What an endpoint's sealed signing secrets are bound to. */
export function secretOwner(endpointId: string): string {
  return `webhook:${endpointId}:secret`;
}

/** What an endpoint's sealed headers are bound to. */
export function headersOwner(endpointId: string): string {
  return `webhook:${endpointId}:headers`;
}
