import type { NestExpressApplication } from '@nestjs/platform-express';
import compression from 'compression';
import type { NextFunction, Request, Response } from 'express';
import helmet from 'helmet';
import { Errors } from './common/errors.js';
import { errorAnswer, noSuchRoute } from './common/http/error.filter.js';
import { requestContextMiddleware } from './common/http/request-context.js';
import type { Settings } from './config/settings.js';
import { webhookAliases } from './webhooks/webhook-aliases.js';

/** Everything that stands before the routes: proxies, request ids, headers, CORS, compression, bodies. */
export function configureHttp(app: NestExpressApplication, settings: Settings): void {
  app.setGlobalPrefix('api');
  app.set('trust proxy', settings.trustProxy);
  app.set('query parser', 'simple');
  app.disable('x-powered-by');
  app.use(requestContextMiddleware);
  if (settings.requireHttps) app.use(redirectToHttps);
  app.use(
    helmet({
      // Over plain http these two would lock browsers out.
      strictTransportSecurity: settings.requireHttps,
      contentSecurityPolicy: { directives: { upgradeInsecureRequests: settings.requireHttps ? [] : null } },
    }),
  );
  app.enableCors({
    origin: settings.corsOrigins.length > 0 ? [...settings.corsOrigins] : false,
    credentials: true,
    exposedHeaders: [
      'x-request-id',
      'retry-after',
      'x-ratelimit-limit',
      'x-ratelimit-remaining',
      'x-ratelimit-reset',
      'content-disposition',
    ],
  });
  app.use(compression({ filter: (request, response) => !isStream(response) && compression.filter(request, response) }));
  app.use(refuseOutsideApi);
  if (settings.role === 'worker') app.use(refuseButStatus);
  app.use(keepPrivate);
  app.use(webhookAliases);
  app.use(refuseOtherBodies);
  app.useBodyParser('json', { limit: settings.bodyLimitBytes, strict: true });
}

/** Events have to go out one by one, and artifacts are compressed already. */
function isStream(response: Response | { getHeader(name: string): unknown }): boolean {
  return /event-stream|octet-stream/.test(String(response.getHeader('content-type')));
}

/** A body of another kind would be passed over in silence, as if every field had been left out. */
function refuseOtherBodies(request: Request, _response: Response, next: NextFunction): void {
  const isOther = request.headers['content-length'] !== '0' && request.is('application/json') === false;
  next(isOther ? Errors.validation({ 'content-type': 'must be application/json' }) : undefined);
}

/** Nest answers what is not there under its own prefix only. */
function refuseOutsideApi(request: Request, response: Response, next: NextFunction): void {
  if (/^\/api(\/|$)/i.test(request.path)) return next();
  const error = noSuchRoute(request);
  response.status(error.status).json(errorAnswer(error, String(response.getHeader('x-request-id'))));
}

/** A worker has a socket for its probes and figures alone. */
function refuseButStatus(request: Request, response: Response, next: NextFunction): void {
  if (/^\/api\/status(\/|$)/i.test(request.path)) return next();
  const error = Errors.unavailable('This process works on queued runs only (ROLE=worker); ask one with ROLE=api.');
  response.status(error.status).json(errorAnswer(error, String(response.getHeader('x-request-id'))));
}

/** Nothing between us and the caller may give one caller's answer to another; a browser may ask whether its own is still good. */
function keepPrivate(_request: Request, response: Response, next: NextFunction): void {
  response.setHeader('Cache-Control', 'private, no-cache');
  next();
}

function redirectToHttps(request: Request, response: Response, next: NextFunction): void {
  // Probes come from inside, without TLS.
  if (request.secure || request.path.startsWith('/api/status/')) next();
  else response.redirect(308, `https://${request.headers.host ?? ''}${request.originalUrl}`);
}
