import { Controller, Get, Headers, HttpCode, Query, Res } from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, ApiTags, getSchemaPath } from '@nestjs/swagger';
import type { Response } from 'express';
import { pipeline } from 'node:stream/promises';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { AnswersErrors } from '../common/http/answers.js';
import { RawAnswer } from '../common/http/envelope.interceptor.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { ComplianceQueryDto, ComplianceReportDto, type ReportFormat } from './report.dto.js';
import { reportCsv } from './report-csv.js';
import { reportPdf } from './report-pdf.js';
import { ReportsService } from './reports.service.js';

const TYPES = { json: 'application/json', csv: 'text/csv', pdf: 'application/pdf' } as const satisfies Record<
  ReportFormat,
  string
>;

@ApiTags('Reports')
@Controller('reports')
export class ReportsController {
  constructor(private readonly reports: ReportsService) {}

  /** What was promised for each source and what was held in a period: schedules, recovery point and time, proof, retention, keys, restores, the audit trail. */
  @Get('compliance')
  @RequirePermissions('report:read')
  @RateLimit('default')
  @RawAnswer()
  @HttpCode(200)
  @ApiExtraModels(ComplianceReportDto)
  @ApiOkResponse({
    description: 'The report; JSON in the envelope',
    content: {
      [TYPES.json]: {
        schema: {
          type: 'object',
          required: ['success', 'data'],
          properties: { success: { type: 'boolean', enum: [true] }, data: { $ref: getSchemaPath(ComplianceReportDto) } },
        },
      },
      [TYPES.csv]: { schema: { type: 'string' } },
      [TYPES.pdf]: { schema: { type: 'string', format: 'binary' } },
    },
  })
  @AnswersErrors()
  async compliance(
    @Caller() caller: Identity,
    @Query() query: ComplianceQueryDto,
    @Headers('accept') accept: string | undefined,
    @Res() response: Response,
  ): Promise<void> {
    const format = query.format ?? formatOf(accept);
    const report = await this.reports.compliance(caller, query, format);
    response.vary('Accept');
    if (format === 'json') {
      response.json({ success: true, data: report });
      return;
    }
    const days = [report.from, report.to].map((moment) => moment.slice(0, 10)).join('_');
    response.setHeader('Content-Type', format === 'csv' ? `${TYPES.csv}; charset=utf-8` : TYPES.pdf);
    response.setHeader('Content-Disposition', `attachment; filename="compliance_${days}.${format}"`);
    if (format === 'csv') response.send(reportCsv(report));
    else await pipeline(reportPdf(report), response);
  }
}

/** The first of our types that `Accept` names; whoever names none gets JSON. */
function formatOf(accept: string | undefined): ReportFormat {
  const wanted = (accept ?? '').split(',').map((entry) => entry.split(';')[0]?.trim().toLowerCase());
  for (const type of wanted) for (const [format, name] of Object.entries(TYPES)) if (type === name) return format as ReportFormat;
  return 'json';
}
