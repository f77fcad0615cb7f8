import { applyDecorators, createParamDecorator, type ExecutionContext } from '@nestjs/common';
import { ApiHeader } from '@nestjs/swagger';
import type { Request } from 'express';
import { AGE_IDENTITY_HEADER, AGE_PASSPHRASE_HEADER } from '../common/http/secret-headers.js';
import type { LentIdentityDto } from './lent-identity.dto.js';

/** What a request lends in its headers; a body's fields win over them. */
export const LentIdentity = createParamDecorator((_: unknown, context: ExecutionContext): LentIdentityDto => {
  const { headers } = context.switchToHttp().getRequest<Request>();
  const text = (name: string) => (typeof headers[name] === 'string' && headers[name] !== '' ? headers[name] : undefined);
  const [identity, passphrase] = [text(AGE_IDENTITY_HEADER), text(AGE_PASSPHRASE_HEADER)];
  return { ...(identity === undefined ? {} : { identity }), ...(passphrase === undefined ? {} : { passphrase }) };
});

/** Documents the two headers. */
export const LendsIdentity = () =>
  applyDecorators(
    ApiHeader({
      name: AGE_IDENTITY_HEADER,
      required: false,
      description: 'The age identity that opens the backup, where the server holds no key; kept in memory only',
    }),
    ApiHeader({
      name: AGE_PASSPHRASE_HEADER,
      required: false,
      description: "The passphrase of the organization's passphrase key; kept in memory only",
    }),
  );

/** Body over headers. */
export function lentBy(body: LentIdentityDto, headers: LentIdentityDto): LentIdentityDto {
  return body.identity !== undefined || body.passphrase !== undefined
    ? {
        ...(body.identity === undefined ? {} : { identity: body.identity }),
        ...(body.passphrase === undefined ? {} : { passphrase: body.passphrase }),
      }
    : headers;
}
