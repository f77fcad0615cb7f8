import { Transform } from 'class-transformer';

const PLAIN = /^-?\d{1,15}(\.\d{1,15})?$/;

/** A number in a query, written as people write it: `0x10`, `1e1` and blanks are not, and fail the rules that follow. */
export const QueryNumber = () =>
  Transform(({ value }: { value: unknown }) => (typeof value === 'string' && PLAIN.test(value) ? Number(value) : Number.NaN));
