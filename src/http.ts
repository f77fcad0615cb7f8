import type { NestExpressApplication } from '@nestjs/platform-express';
import compression from 'compression';
import type { NextFunction, Request, Response } from 'express';
import helmet from 'helmet';
import { requestContextMiddleware } from './common/http/request-context.js';
import type { Settings } from './config/settings.js';

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
  app.useBodyParser('json', { limit: settings.bodyLimitBytes, strict: true });
}

/** Events have to go out one by one, and artifacts are compressed already. */
function isStream(response: Response | { getHeader(name: string): unknown }): boolean {
  return /event-stream|octet-stream/.test(String(response.getHeader('content-type')));
}

function redirectToHttps(request: Request, response: Response, next: NextFunction): void {
  // Probes come from inside, without TLS.
  if (request.secure || request.path.startsWith('/api/status/')) next();
  else response.redirect(308, `https://${request.headers.host ?? ''}${request.originalUrl}`);
}
