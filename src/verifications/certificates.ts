import { Injectable } from '@nestjs/common';
import type { BackupRow } from '../backups/backups.repository.js';
import { Errors } from '../common/errors.js';
import { signManifest } from '../engine/artifact/signature.js';
import { Installation } from '../installation/installation.js';
import { hasEnded } from '../jobs/run.js';
import { ServerKeys } from '../keys/server-keys.js';
import { VERSION } from '../version.js';
import type { CertificateDto } from './verification.dto.js';
import { toVerification } from './verification-view.js';
import type { VerificationRow } from './verifications.repository.js';

/** Signed evidence of what a verification has found, which can be checked without this server. */
@Injectable()
export class Certificates {
  constructor(
    private readonly keys: ServerKeys,
    private readonly installation: Installation,
  ) {}

  /** @throws CONFLICT while the verification goes on, or when it was canceled */
  of(row: VerificationRow, backup: BackupRow): CertificateDto {
    if (!hasEnded(row.status) || row.status === 'canceled')
      throw Errors.conflict(`The verification is ${row.status}; only one that came to its end has a certificate.`);
    const { id, status, requestedLevel, provenLevel, checks, startedAt, finishedAt, durationMs, error } = toVerification(row);
    const certificate = {
      format: 1,
      installation: this.installation.id,
      backstay: VERSION,
      verification: {
        id,
        status,
        requestedLevel,
        provenLevel,
        startedAt,
        finishedAt,
        durationMs,
        error,
        requestedBy: row.requested_by,
      },
      backup: {
        id: backup.id,
        organization: backup.organization_id,
        source: backup.source_id === null ? null : { id: backup.source_id, name: backup.source_name },
        createdAt: backup.created_at.toISOString(),
        serverVersion: backup.server_version,
        manifestSha256: backup.manifest_sha256,
        tables: backup.table_count,
        rows: backup.row_count,
        omissions: backup.omissions,
      },
      checks,
      drill: row.evidence,
    };
    const signed = JSON.stringify(certificate);
    const [, keyId = '', signature = ''] = signManifest(Buffer.from(signed), this.keys.signingKeyPem)
      .toString()
      .trim()
      .split(' ');
    return { certificate, signed, signature, keyId, publicKey: this.keys.verifyingKeyPem };
  }
}
