import { applyDecorators, HttpCode, type Type } from '@nestjs/common';
import {
  ApiBadRequestResponse,
  ApiConflictResponse,
  ApiExtraModels,
  ApiForbiddenResponse,
  ApiInternalServerErrorResponse,
  ApiNotFoundResponse,
  ApiOkResponse,
  ApiServiceUnavailableResponse,
  ApiTooManyRequestsResponse,
  ApiUnauthorizedResponse,
  ApiUnprocessableEntityResponse,
  getSchemaPath,
} from '@nestjs/swagger';
import { CursorMetaDto, ErrorAnswerDto, PageMetaDto } from './answers.dto.js';

/** Errors that only some routes answer with. */
type SomeError = 401 | 404 | 409 | 422 | 503;

const SOME_ERRORS = {
  401: ApiUnauthorizedResponse({ type: ErrorAnswerDto, description: 'Nothing proves who has sent it' }),
  404: ApiNotFoundResponse({ type: ErrorAnswerDto, description: 'There is no such thing in this organization' }),
  409: ApiConflictResponse({ type: ErrorAnswerDto, description: 'It is in a state that does not allow this' }),
  422: ApiUnprocessableEntityResponse({
    type: ErrorAnswerDto,
    description: 'A check before the work said no; the sentence says how to mend it',
  }),
  503: ApiServiceUnavailableResponse({ type: ErrorAnswerDto, description: 'Something that is needed does not answer' }),
} as const;

/** Documents a route's answer in its envelope, and every error it can give; successes are always 200. */
export function Answers(
  model: Type,
  options: {
    or?: Type;
    orOne?: Type;
    page?: boolean;
    cursor?: boolean;
    list?: boolean;
    errors?: readonly SomeError[];
    public?: boolean;
  } = {},
) {
  const item = options.or
    ? { oneOf: [{ $ref: getSchemaPath(model) }, { $ref: getSchemaPath(options.or) }] }
    : { $ref: getSchemaPath(model) };
  const meta = options.page ? PageMetaDto : options.cursor ? CursorMetaDto : undefined;
  const many = meta !== undefined || options.list === true;
  const data = many ? { type: 'array', items: item } : item;
  const { orOne } = options;
  return applyDecorators(
    HttpCode(200),
    ApiExtraModels(model, ...(options.or ? [options.or] : []), ...(orOne ? [orOne] : []), ...(meta ? [meta] : [])),
    ApiOkResponse({
      description: 'Done',
      schema: {
        type: 'object',
        required: ['success', 'data', ...(meta && !orOne ? ['meta'] : [])],
        properties: {
          success: { type: 'boolean', enum: [true] },
          data: orOne ? { oneOf: [data, { $ref: getSchemaPath(orOne) }] } : data,
          ...(meta ? { meta: { $ref: getSchemaPath(meta) } } : {}),
        },
      },
    }),
    ...commonErrors(options.public === true),
    ...(options.errors ?? []).map((status) => SOME_ERRORS[status]),
  );
}

/** Documents a route that answers with bytes or text. */
export function AnswersRaw(
  contentType: string,
  description: string,
  options: { errors?: readonly SomeError[]; public?: boolean; binary?: boolean } = {},
) {
  return applyDecorators(
    HttpCode(200),
    ApiOkResponse({
      description,
      content: { [contentType]: { schema: { type: 'string', ...(options.binary ? { format: 'binary' } : {}) } } },
    }),
    ...commonErrors(options.public === true),
    ...(options.errors ?? []).map((status) => SOME_ERRORS[status]),
  );
}

/** Documents the errors of a route whose answers have several forms. */
export function AnswersErrors() {
  return applyDecorators(...commonErrors(false));
}

function commonErrors(isPublic: boolean) {
  return [
    ApiBadRequestResponse({ type: ErrorAnswerDto, description: 'The request is not valid; `fields` says where' }),
    ...(isPublic
      ? []
      : [
          ApiUnauthorizedResponse({ type: ErrorAnswerDto, description: 'No key, or one that is not known' }),
          ApiForbiddenResponse({ type: ErrorAnswerDto, description: 'The key lacks the permission' }),
        ]),
    ApiTooManyRequestsResponse({ type: ErrorAnswerDto, description: 'Over the rate limit; wait for `Retry-After` seconds' }),
    ApiInternalServerErrorResponse({
      type: ErrorAnswerDto,
      description: 'A fault of the server; its log has the cause under the request id',
    }),
  ];
}
