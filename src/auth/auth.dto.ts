import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsEmail,
  IsIn,
  IsISO8601,
  IsOptional,
  IsString,
  Length,
  Matches,
  MaxLength,
} from 'class-validator';
import { ALL_PERMISSIONS, type Permission } from './permissions.js';

/** An e-mail address, lower-cased. */
export const LowerCased = () =>
  Transform(({ value }: { value: unknown }) => (typeof value === 'string' ? value.trim().toLowerCase() : value));

/** Printable, so that no line of a log can be forged with it. */
export const ONE_LINE = /^[^\p{Cc}\p{Zl}\p{Zp}]*$/u;

/** E-mail address and password of a local account. */
export class LoginDto {
  /** Is lower-cased. */
  @LowerCased()
  @IsEmail()
  @MaxLength(254)
  email!: string;

  @IsString()
  @Length(1, 256)
  password!: string;
}

/** What a session is refreshed with. */
export class RefreshDto {
  /** The newest one; each works once. */
  @IsString()
  @MaxLength(200)
  refreshToken!: string;
}

/** Tokens of a session, shown once. */
export class SessionDto {
  /** For `Authorization: Bearer …`. */
  token!: string;

  /** When the token ends. */
  @ApiProperty({ format: 'date-time' })
  expiresAt!: string;

  /** For POST /api/auth/refresh; works once. */
  refreshToken!: string;

  /** When one has to sign in again at the latest. */
  @ApiProperty({ format: 'date-time' })
  refreshExpiresAt!: string;
}

/** Changes one's own password. */
export class ChangePasswordDto {
  @IsString()
  @Length(1, 256)
  currentPassword!: string;

  /** 12 characters at least, not of common words alone. */
  @IsString()
  @Length(1, 256)
  newPassword!: string;
}

/** That it was done. */
export class DoneDto {
  done!: boolean;
}

/** An API key to create. */
export class CreateApiKeyDto {
  /** A few words that tell whose it is. */
  @IsString()
  @Length(1, 100)
  @Matches(ONE_LINE, { message: 'name must be one line without control characters' })
  name!: string;

  /** What the key may do; no more than the creator. */
  @ApiProperty({ enum: ALL_PERMISSIONS, isArray: true })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @ArrayUnique()
  @IsIn(ALL_PERMISSIONS, { each: true })
  permissions!: Permission[];

  /** When the key ends by itself; never when left out. */
  @ApiPropertyOptional({ format: 'date-time', type: String, nullable: true })
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  expiresAt?: string | null;
}

/** An API key; the key itself is shown when it is created. */
export class ApiKeyDto {
  id!: string;

  name!: string;

  @ApiProperty({ enum: ALL_PERMISSIONS, isArray: true })
  permissions!: Permission[];

  /** What of it holds now: less than `permissions` while whoever made the key may not do all of it, and nothing when they have left. */
  @ApiProperty({ enum: ALL_PERMISSIONS, isArray: true })
  effectivePermissions!: Permission[];

  @ApiProperty({ format: 'date-time', type: String, nullable: true })
  expiresAt!: string | null;

  /** To the minute. */
  @ApiProperty({ format: 'date-time', type: String, nullable: true })
  lastUsedAt!: string | null;

  @ApiProperty({ format: 'date-time' })
  createdAt!: string;

  /** Name of whoever made it; null when it came by a setting. */
  @ApiProperty({ type: String, nullable: true })
  createdBy!: string | null;

  /** True for the owner's key of BOOTSTRAP_API_KEY. */
  bootstrap!: boolean;
}

/** An API key as its creator sees it, once. */
export class ApiKeyWithKeyDto extends ApiKeyDto {
  /** For `x-api-key`; not stored, so it can't be shown again. */
  key!: string;
}
