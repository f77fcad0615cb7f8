import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsInt, IsOptional, Max, Min } from 'class-validator';
import { LentIdentityDto } from '../keys/lent-identity.dto.js';
import { RunDto } from '../jobs/run.dto.js';

/** The highest level that this version proves. */
export const HIGHEST_LEVEL = 5;
/** What is proven where nobody says: it reads the backup, and starts no server. */
export const DEFAULT_LEVEL = 2;

/** What to prove. */
export class CreateVerificationDto extends LentIdentityDto {
  /** Proof level: 0 stored, 1 intact (every stored byte is read and hashed), 2 readable (decrypted and parsed to the last byte, every table equals the manifest), 3 restorable (really restored into a throwaway PostgreSQL), 4 equal (rows, sequences, large objects and schema of what was restored), 5 asserted (the source's own SQL assertions hold in it). */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(HIGHEST_LEVEL)
  @ApiPropertyOptional({ default: DEFAULT_LEVEL, minimum: 0, maximum: HIGHEST_LEVEL })
  level?: number;
}

/** One thing that was looked at. */
export class CheckDto {
  level!: number;
  name!: string;
  ok!: boolean;
  /** What was found. */
  detail!: string;
}

/** One run that raises a backup's proof level. */
export class VerificationDto extends RunDto {
  backupId!: string;
  requestedLevel!: number;
  /** Highest level that was proven; null when none was, or until the end. */
  @ApiProperty({ type: Number, nullable: true })
  provenLevel!: number | null;
  checks!: CheckDto[];
}

/** Signed evidence of a verification. */
export class CertificateDto {
  /** What was verified, by what, and what was found; a drill with its measured restore time in milliseconds. */
  @ApiProperty({ type: 'object', additionalProperties: true })
  certificate!: object;
  /** The exact text that was signed; as JSON it is the certificate. */
  signed!: string;
  /** Ed25519 over the bytes of `signed`, in base64. */
  signature!: string;
  /** Id of the key that signed. */
  keyId!: string;
  /** The key to check with, as PEM; compare it with the one that you kept of GET /api/keys. */
  publicKey!: string;
}
