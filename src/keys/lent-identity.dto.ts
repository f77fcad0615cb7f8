import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsOptional, IsString, MaxLength } from 'class-validator';

/** A key that is lent to the server for one request: it is kept in memory only, and neither logged nor stored. */
export class LentIdentityDto {
  /** The age identity (`AGE-SECRET-KEY-1…`) that opens the backup, or a whole identity file, also one that a passphrase protects; needed where the server holds no key. The header `x-age-identity` does as well. */
  @IsOptional()
  @IsString()
  @MaxLength(20_000)
  @ApiPropertyOptional({ format: 'password' })
  identity?: string;

  /** The passphrase of that identity file, or of the organization's passphrase key. The header `x-age-passphrase` does as well. */
  @IsOptional()
  @IsString()
  @MaxLength(1024)
  @ApiPropertyOptional({ format: 'password' })
  passphrase?: string;
}
