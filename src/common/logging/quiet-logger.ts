import type { LoggerService } from '@nestjs/common';

/** What Nest tells of its own start is of use to nobody who runs the server. */
const CHATTER = new Set(['InstanceLoader', 'NestFactory', 'NestApplication', 'RouterExplorer', 'RoutesResolver']);

/** A logger without Nest's chatter at start; warnings and errors pass. */
export class QuietLogger implements LoggerService {
  constructor(private readonly logger: LoggerService) {}

  log(message: unknown, ...more: unknown[]): void {
    if (!CHATTER.has(String(more.at(-1)))) this.logger.log(message, ...more);
  }

  error(message: unknown, ...more: unknown[]): void {
    this.logger.error(message, ...more);
  }

  warn(message: unknown, ...more: unknown[]): void {
    this.logger.warn(message, ...more);
  }

  debug(message: unknown, ...more: unknown[]): void {
    this.logger.debug?.(message, ...more);
  }

  verbose(message: unknown, ...more: unknown[]): void {
    this.logger.verbose?.(message, ...more);
  }

  fatal(message: unknown, ...more: unknown[]): void {
    this.logger.fatal?.(message, ...more);
  }
}
