import { ApiProperty } from '@nestjs/swagger';
import { IsEmail, IsIn, IsOptional, IsString, Length, Matches, MaxLength, ValidateIf } from 'class-validator';
import { LowerCased, ONE_LINE } from '../auth/auth.dto.js';
import { ALL_PERMISSIONS, type Permission, type Role, ROLES } from '../auth/permissions.js';

/** An organization to create, or its new name. */
export class OrganizationNameDto {
  @IsString()
  @Length(1, 100)
  @Matches(ONE_LINE, { message: 'name must be one line without control characters' })
  name!: string;
}

/** Confirms that an organization is to go. */
export class DeleteOrganizationDto {
  /** The organization's name; needed when there is still something in it. */
  @IsOptional()
  @IsString()
  @MaxLength(100)
  confirm?: string;
}

/** An organization that the caller belongs to. */
export class OrganizationDto {
  id!: string;

  name!: string;

  /** What the caller is there: `owner` for the bootstrap key; null for other keys, whose permissions are their own. */
  @ApiProperty({ type: String, enum: ROLES, nullable: true })
  role!: Role | null;

  @ApiProperty({ format: 'date-time' })
  createdAt!: string;
}

/** Who is calling. */
export class MeDto {
  @ApiProperty({ enum: ['api-key', 'user'] })
  kind!: 'api-key' | 'user';

  id!: string;

  name!: string;

  /** The organization of this call; `x-organization` picks another. */
  organization!: OrganizationDto;

  /** All that the caller belongs to; every one for the bootstrap key. */
  organizations!: OrganizationDto[];

  @ApiProperty({ enum: ALL_PERMISSIONS, isArray: true })
  permissions!: Permission[];

  /** The bootstrap key. */
  instanceOwner!: boolean;
}

/** Somebody to be made a member: by `email` (an account of this server, made when there is none), or by `issuer` and `subject` of their tokens. */
export class AddMemberDto {
  /** Is lower-cased. */
  @ValidateIf((dto: AddMemberDto) => dto.issuer === undefined || dto.email !== undefined)
  @LowerCased()
  @IsEmail()
  @MaxLength(254)
  email?: string;

  /** An issuer of AUTH_ISSUERS. */
  @ValidateIf((dto: AddMemberDto) => dto.email === undefined || dto.subject !== undefined)
  @IsString()
  @Length(1, 500)
  issuer?: string;

  /** The `sub` of their tokens. */
  @ValidateIf((dto: AddMemberDto) => dto.issuer !== undefined)
  @IsString()
  @Length(1, 255)
  @Matches(ONE_LINE, { message: 'subject must be one line without control characters' })
  subject?: string;

  @ApiProperty({ enum: ROLES })
  @IsIn(ROLES)
  role!: Role;

  /** For people. */
  @IsOptional()
  @IsString()
  @Length(1, 100)
  @Matches(ONE_LINE, { message: 'name must be one line without control characters' })
  name?: string;

  /** The first password of a new account; one is made and shown once when it is left out. */
  @IsOptional()
  @IsString()
  @Length(1, 256)
  password?: string;
}

/** A member's new role. */
export class ChangeMemberDto {
  @ApiProperty({ enum: ROLES })
  @IsIn(ROLES)
  role!: Role;
}

/** A member's new password. */
export class ResetPasswordDto {
  /** One is made and shown once when it is left out. */
  @IsOptional()
  @IsString()
  @Length(1, 256)
  password?: string;
}

/** Somebody who belongs to an organization. */
export class MemberDto {
  /** The person's id. */
  id!: string;

  @ApiProperty({ type: String, nullable: true })
  email!: string | null;

  name!: string;

  @ApiProperty({ enum: ROLES })
  role!: Role;

  /** Whose tokens they come with; null for an account of this server. */
  @ApiProperty({ type: String, nullable: true })
  issuer!: string | null;

  @ApiProperty({ type: String, nullable: true })
  subject!: string | null;

  /** Who made them a member: an owner, a claim of their token, or the issuer's `autoJoinRole`. */
  @ApiProperty({ enum: ['owner', 'claim', 'auto'] })
  origin!: 'owner' | 'claim' | 'auto';

  @ApiProperty({ format: 'date-time' })
  createdAt!: string;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  lastLoginAt!: string | null;
}

/** A member, and the password that was made for them, once. */
export class MemberWithPasswordDto extends MemberDto {
  /** Null when none was made. */
  @ApiProperty({ type: String, nullable: true })
  password!: string | null;
}
