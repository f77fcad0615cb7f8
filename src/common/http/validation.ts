import { type ValidationError, ValidationPipe } from '@nestjs/common';
import { Errors } from '../errors.js';

/** Checks each request against its DTO: unknown fields are refused, every fault is named by its path. */
export function validationPipe(): ValidationPipe {
  return new ValidationPipe({
    whitelist: true,
    forbidNonWhitelisted: true,
    transform: true,
    validationError: { target: false, value: false },
    exceptionFactory: (errors) => Errors.validation(fieldsOf(errors)),
  });
}

/** `{ "target.url": "must be …" }` from class-validator's tree. */
function fieldsOf(errors: readonly ValidationError[], path = ''): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const error of errors) {
    const name = path ? `${path}.${error.property}` : error.property;
    const reasons = Object.entries(error.constraints ?? {}).map(([rule, text]) =>
      rule === 'whitelistValidation' ? 'is not a field of this request' : withoutName(text, error.property),
    );
    if (reasons.length > 0) fields[name] = reasons.join(', and ');
    Object.assign(fields, fieldsOf(error.children ?? [], name));
  }
  return fields;
}

function withoutName(text: string, property: string): string {
  return text.startsWith(`${property} `) ? text.slice(property.length + 1) : text;
}
