import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { ERROR_STATUS, type ErrorCode } from '../errors.js';

/** Every error's form. */
export class ErrorAnswerDto {
  @ApiProperty({ type: Boolean, enum: [false] })
  success!: false;

  /** One sentence: what happened, to what, and how to mend it. */
  error!: string;

  /** Machine-readable kind of the error. */
  @ApiProperty({ enum: Object.keys(ERROR_STATUS), enumName: 'ErrorCode' })
  code!: ErrorCode;

  /** Why each field of the request was refused. */
  @ApiPropertyOptional({ type: 'object', additionalProperties: { type: 'string' } })
  fields?: Record<string, string>;

  /** The request's id, as in the log and the header `x-request-id`. */
  requestId!: string;
}

/** Where a page stands in the whole list. */
export class PageMetaDto {
  /** Number of this page, from 1. */
  page!: number;

  /** Entries on a page. */
  limit!: number;

  /** Entries in all. */
  total!: number;
}

/** Where a list goes on. */
export class CursorMetaDto {
  /** Entries on a page. */
  limit!: number;

  /** For `cursor`; null at the end. */
  @ApiProperty({ type: String, nullable: true })
  nextCursor!: string | null;
}

/** Why a run failed. */
export class RunErrorDto {
  /** Stable code, such as `SOURCE_UNREACHABLE`. */
  code!: string;

  /** What happened, and to what. */
  message!: string;

  /** How to mend it. */
  hint!: string;
}
