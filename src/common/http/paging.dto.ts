import { IsInt, IsOptional, Max, Min } from 'class-validator';
import { QueryNumber } from './query-number.js';

/** Which page of a list. */
export class PagingDto {
  /** Number of the page, from 1. */
  @IsOptional()
  @QueryNumber()
  @IsInt()
  @Min(1)
  @Max(1_000_000)
  page: number = 1;

  /** Entries on a page. */
  @IsOptional()
  @QueryNumber()
  @IsInt()
  @Min(1)
  @Max(100)
  limit: number = 20;
}
