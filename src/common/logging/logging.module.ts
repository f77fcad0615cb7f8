import { LoggerModule } from 'nestjs-pino';
import { stdSerializers } from 'pino';
import { Settings } from '../../config/settings.js';
import { actorName, requestContext } from '../http/request-context.js';
import { redact, REDACTED_PATHS } from './redaction.js';

const PROBES = /^\/api\/status\/(live|ready|metrics)/;

/** pino for Nest: JSON lines in production, coloured on a terminal; each line has request id and actor, none has a secret. */
export const LoggingModule = LoggerModule.forRootAsync({
  inject: [Settings],
  useFactory: (settings: Settings) => ({
    pinoHttp: {
      level: settings.logLevel,
      redact: { paths: REDACTED_PATHS, censor: '***' },
      formatters: { level: (label) => ({ level: label }) },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      genReqId: (request) => (request as { requestId?: string }).requestId ?? 'none',
      autoLogging: { ignore: (request) => PROBES.test(request.url ?? '') },
      mixin: contextFields,
      customLogLevel: (_request, response, error) => (error || response.statusCode >= 500 ? 'error' : 'info'),
      customSuccessMessage: () => 'api.request',
      customErrorMessage: () => 'api.request',
      customProps: () => ({ event: 'api.request' }),
      quietReqLogger: true,
      serializers: {
        req: (request: { method: string; url: string; remoteAddress: string }) => ({
          method: request.method,
          path: pathOf(request.url),
          // The client's, past the proxies that are trusted.
          address: requestContext()?.address ?? request.remoteAddress,
        }),
        res: (response: { statusCode: number }) => ({ status: response.statusCode }),
        err: (error: Error) => {
          const plain = stdSerializers.err(error);
          return {
            type: plain.type,
            message: redact(plain.message),
            stack: redact(plain.stack),
            ...('code' in plain ? { code: plain.code as string } : {}),
          };
        },
      },
      ...(settings.logFormat === 'pretty'
        ? {
            transport: {
              target: 'pino-pretty',
              options: { singleLine: true, translateTime: 'SYS:HH:MM:ss', ignore: 'pid,hostname,reqId' },
            },
          }
        : {}),
    },
  }),
});

/** What stands in a query may be a secret that was sent to the wrong place: only its names are logged, encoded as they came. */
function pathOf(url: string): string {
  const [path = '', query] = url.split('?', 2);
  const names =
    query === undefined
      ? []
      : [...new URLSearchParams(query).keys()].map((name) => encodeURIComponent(name.slice(0, 40).toWellFormed()));
  return redact(names.length === 0 ? path : `${path}?${names.join('&')}`);
}

function contextFields(): object {
  const context = requestContext();
  if (!context) return {};
  return {
    requestId: context.requestId,
    ...(context.actor ? { actor: actorName(context.actor) } : {}),
    ...(context.organizationId ? { organizationId: context.organizationId } : {}),
  };
}
