import { Injectable } from '@nestjs/common';
import type { Trx } from '../catalog/catalog.js';
import { redact } from '../common/logging/redaction.js';
import { EngineError } from '../engine/errors.js';
import { withClient } from '../engine/postgres/client.js';
import { type OpenDestination, Stores } from '../destinations/stores.js';
import { Outbox } from '../outbox/outbox.js';
import { SourcesService } from '../sources/sources.service.js';
import type { ScheduleRow } from './schedules.repository.js';

const CHECK_TIMEOUT_MS = 15_000;
const AT_ONCE = 4;

/** Looks whether sources and destinations answer, and tells when that changes. */
@Injectable()
export class StatusChecks {
  constructor(
    private readonly sources: SourcesService,
    private readonly stores: Stores,
    private readonly outbox: Outbox,
  ) {}

  /** What does not answer, as sentences; of one source, or of all of the organization. */
  async problems(organizationId: string, sourceId: string | null): Promise<string[]> {
    const sources = await this.sources.all(organizationId, sourceId);
    const found: (string | null)[] = [...(await this.destinationProblems(organizationId))];
    for (let start = 0; start < sources.length; start += AT_ONCE) {
      const some = sources
        .slice(start, start + AT_ONCE)
        .map((source) =>
          saying(`The source ${source.name}`, () =>
            withClient(
              this.sources.connectionOf(source),
              { applicationName: 'backstay:check', signal: AbortSignal.timeout(CHECK_TIMEOUT_MS) },
              (client) => client.query('SELECT 1'),
            ),
          ),
        );
      found.push(...(await Promise.all(some)));
    }
    return found.filter((problem) => problem !== null);
  }

  private async destinationProblems(organizationId: string): Promise<(string | null)[]> {
    const destinations = await this.stores.ofOrganization(organizationId);
    const check = ({ name, store }: OpenDestination) =>
      saying(`The destination ${name}`, () => store.check({ signal: AbortSignal.timeout(CHECK_TIMEOUT_MS) }));
    return Promise.all(destinations.map(check));
  }

  /** Records that the last check of this schedule came out otherwise. */
  async tell(trx: Trx, schedule: ScheduleRow, problems: readonly string[]): Promise<void> {
    await this.outbox.record(trx, {
      organizationId: schedule.organization_id,
      type: problems.length > 0 ? 'status.degraded' : 'status.recovered',
      subject: schedule.id,
      data: {
        status: {
          schedule: { id: schedule.id, name: schedule.name },
          status: problems.length > 0 ? 'degraded' : 'healthy',
          problems: [...problems],
          message: problems.join(' ') || 'Every source and destination answers again.',
        },
      },
    });
  }
}

async function saying(what: string, look: () => Promise<unknown>): Promise<string | null> {
  try {
    await look();
    return null;
  } catch (error) {
    const why = error instanceof EngineError ? `${error.message} ${error.hint}` : 'it does not answer.';
    return `${what}: ${redact(why)}`;
  }
}
