import type { AdoptedState } from '../backups/manifest-import.js';
import type { Permission } from '../auth/permissions.js';
import { secretsOwner } from '../destinations/destination-values.js';
import { urlsOwner } from '../notifications/channel-values.js';
import { passwordOf, serviceKeyOf } from '../sources/sources.service.js';
import { headersOwner, secretOwner } from '../webhooks/endpoint-secrets.js';

/** One row of a table; sealed columns stand apart, opened. */
export interface SavedRow {
  values: Record<string, unknown>;
  secrets: Record<string, string>;
}

/** What a completed backup is known by, besides its manifest. */
export interface SavedState extends AdoptedState {
  id: string;
  manifestSha256: string | null;
  brokenCause: string | null;
}

interface SavedMember {
  role: string;
  user: {
    id: string;
    email: string | null;
    name: string;
    passwordHash: string | null;
    issuer: string | null;
    subject: string | null;
  };
}

/** Everything of one organization that stands in no manifest. */
export interface SavedOrganization {
  id: string;
  name: string;
  recipients: string[] | null;
  tables: Partial<Record<SavedTable, SavedRow[]>>;
  members: SavedMember[];
  auditHead: { seq: number; hash: string } | null;
  backups: SavedState[];
}

/** The content of a catalog backup. */
export interface CatalogContent {
  format: 1;
  installation: string;
  backstay: string;
  madeAt: string;
  organizations: SavedOrganization[];
}

/** The tables that are saved row by row, in the order in which they are brought back. */
export const SAVED_TABLES = [
  'sources',
  'destinations',
  'retention_policies',
  'schedules',
  'notification_channels',
  'webhook_endpoints',
] as const;
export type SavedTable = (typeof SAVED_TABLES)[number];

/** Sealed columns, and what each is bound to. */
export const SEALED_COLUMNS: Record<SavedTable, Record<string, (id: string) => string>> = {
  sources: { sealed_password: passwordOf, sealed_service_role_key: serviceKeyOf },
  destinations: { sealed_secrets: secretsOwner },
  retention_policies: {},
  schedules: {},
  notification_channels: { sealed_urls: urlsOwner },
  webhook_endpoints: { sealed_secret: secretOwner, sealed_previous_secret: secretOwner, sealed_headers: headersOwner },
};

/** Who may bring rows of a table back. */
export const NEEDED_PERMISSION: Record<SavedTable, Permission> = {
  sources: 'source:manage',
  destinations: 'destination:manage',
  retention_policies: 'schedule:manage',
  schedules: 'schedule:manage',
  notification_channels: 'notification:manage',
  webhook_endpoints: 'webhook:manage',
};
