import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { ArrayMaxSize, IsArray, IsBoolean, IsOptional, IsString, Length, MaxLength } from 'class-validator';

/** What to take in from a destination, and by which keys. Without any, the server's own keys and those it took in before are used. */
export class AdoptDto {
  /** Whose backups, where several installations or organizations have theirs there: an installation, an organization, or `installation/organization`. */
  @IsOptional()
  @IsString()
  @Length(1, 200)
  from?: string;

  /** The whole text of a recovery kit: its keys are taken in. */
  @IsOptional()
  @IsString()
  @MaxLength(200_000)
  kit?: string;

  /** age identities that open the backups (`AGE-SECRET-KEY-1…`); they are kept encrypted. Leave them out where the server shall not hold them. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(50)
  @IsString({ each: true })
  @MaxLength(20_000, { each: true })
  identities?: string[];

  /** Public keys (Ed25519, PEM) that the manifests are signed with. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(50)
  @IsString({ each: true })
  @MaxLength(2000, { each: true })
  signingKeys?: string[];

  /** Whether settings come back too, from the newest backup of the catalog there: sources with credentials, schedules, policies, channels, endpoints, destinations, members. */
  @IsOptional()
  @IsBoolean()
  @ApiPropertyOptional({ default: true })
  settings?: boolean;

  /**
   * The signing key is lost: take in manifests although nothing proves who wrote them, for this reason. Each is written to the audit
   * trail and pinned to its exact bytes. Only for those who may hold the server's keys.
   */
  @IsOptional()
  @IsString()
  @Length(10, 500)
  lostSigningKey?: string;
}

/** A manifest that was not taken in, and why. */
export class UnreadManifestDto {
  /** Its folder. */
  prefix!: string;
  code!: string;
  reason!: string;
}

/** A source that the backups are of. */
export class AdoptedSourceDto {
  id!: string;
  name!: string;
  /** Whether it was made now. */
  created!: boolean;
  /** Whether it can be reached: one that came from a manifest alone has no credentials. */
  hasCredentials!: boolean;
}

/** What came back from the backup of the catalog. */
export class AdoptedSettingsDto {
  /** When that backup was made. */
  madeAt!: string;
  /** How many were made of each kind. */
  @ApiProperty({ type: 'object', additionalProperties: { type: 'integer' } })
  created!: Record<string, number>;
  /** The end of the organization's audit trail then; null when it had none. */
  @ApiProperty({ type: 'object', additionalProperties: true, nullable: true })
  auditHead!: object | null;
}

/** What was found at a destination, and what came of it. */
export class AdoptionDto {
  /** The installation whose backups they are; null when there were none. */
  @ApiProperty({ type: String, nullable: true })
  installation!: string | null;
  @ApiProperty({ type: String, nullable: true })
  organization!: string | null;
  /** Manifests that are there. */
  found!: number;
  /** Backups that are in the catalog now and were not before. */
  adopted!: number;
  /** Backups that the catalog had already. */
  known!: number;
  /** Ids of the adopted backups. */
  backups!: string[];
  sources!: AdoptedSourceDto[];
  unread!: UnreadManifestDto[];
  /** Backups whose source had one before them that is not there any more: retention, or somebody, removed it. */
  chainGaps!: string[];
  @ApiProperty({ type: AdoptedSettingsDto, nullable: true })
  settings!: AdoptedSettingsDto | null;
  /** What else is worth knowing, as sentences. */
  notes!: string[];
}
