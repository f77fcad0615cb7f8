import { ApiProperty } from '@nestjs/swagger';

/** The server's public keys. */
export class KeysDto {
  /** Age public keys that new backups are encrypted to. */
  recipients!: string[];

  /** Whether the server itself can decrypt new backups; false when BACKUP_RECIPIENTS names only keys of yours. */
  serverHoldsIdentity!: boolean;

  /** Ed25519 public key (SPKI PEM) that manifests are checked with. */
  signingPublicKey!: string;

  /** Where the secret keys lie on the server. */
  keptIn!: string;

  /** When an operator confirmed that the secret keys are kept elsewhere too; health is degraded until then. */
  @ApiProperty({ type: String, nullable: true, format: 'date-time' })
  savedAt!: string | null;
}
