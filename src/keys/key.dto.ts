import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { ArrayMaxSize, IsArray, IsIn, IsOptional, IsString, Length, Matches } from 'class-validator';
import { AGE_RECIPIENT } from '../engine/artifact/keys.js';

/** A key that manifests are checked with. */
export class SigningKeyDto {
  id!: string;
  /** Ed25519, SPKI PEM. */
  publicKey!: string;
}

/** The server's public keys. */
export class KeysDto {
  installation!: string;

  /** Age public keys that new backups are encrypted to. */
  recipients!: string[];

  /** Whether the server itself can decrypt new backups; false when BACKUP_RECIPIENTS names only keys of yours. */
  serverHoldsIdentity!: boolean;

  /** Ed25519 public key (SPKI PEM) that manifests are checked with. */
  signingPublicKey!: string;

  /** Every signing key that is trusted: the current one first, then older and adopted ones. */
  signingKeys!: SigningKeyDto[];

  /** Where the secret keys lie on the server. */
  keptIn!: string;

  /** When an operator confirmed that the secret keys are kept elsewhere too; health is degraded until then. */
  @ApiProperty({ type: String, nullable: true, format: 'date-time' })
  savedAt!: string | null;
}

/** What to change about the keys; the old ones are kept, for what was made under them. */
export class ChangeKeysDto {
  /** Which key is made anew: the one that backups are encrypted to, or the one that manifests are signed with. */
  @IsOptional()
  @IsIn(['age', 'signing'])
  @ApiPropertyOptional({ enum: ['age', 'signing'], default: 'age' })
  kind?: 'age' | 'signing';

  /** Whose key: the whole server's, or one of the organization's own. The server's when you may hold it, else the organization's. */
  @IsOptional()
  @IsIn(['server', 'organization'])
  @ApiPropertyOptional({ enum: ['server', 'organization'] })
  scope?: 'server' | 'organization';

  /** Age public keys of yours that the organization's backups are encrypted to from now on: the server can't decrypt them. An empty list goes back to the server's. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(20)
  @Matches(AGE_RECIPIENT, { each: true, message: 'each of $property must be an age public key (age1…, 62 characters)' })
  recipients?: string[];

  /** Makes a key of the organization that only this passphrase opens; the server keeps it, and can't open it. */
  @IsOptional()
  @IsString()
  @Length(12, 1024)
  @ApiPropertyOptional({ format: 'password' })
  passphrase?: string;
}
