import { type ArgumentMetadata, type ValidationError, ValidationPipe } from '@nestjs/common';
import { Errors } from '../errors.js';
import { assertPlainInput } from './plain-input.js';

/** Checks each request against its DTO: unknown fields are refused, every fault is named by its path. */
class RequestPipe extends ValidationPipe {
  constructor() {
    super({
      whitelist: true,
      forbidNonWhitelisted: true,
      transform: true,
      validationError: { target: false, value: false },
      exceptionFactory: (errors) => Errors.validation(fieldsOf(errors)),
    });
  }

  override async transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    if (metadata.type === 'body' || metadata.type === 'query') assertPlainInput(value, metadata.type);
    return super.transform(value, metadata);
  }
}

/** The pipe of every route. */
export function validationPipe(): ValidationPipe {
  return new RequestPipe();
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

/** The field's name stands before its reason; of a list's rules, which name it in their middle, the values stay the subject. */
function withoutName(text: string, property: string): string {
  if (text.startsWith(`${property} `)) return text.slice(property.length + 1);
  return text.replace(`each value in ${property} must `, 'must have values that each ');
}
