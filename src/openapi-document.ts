import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';
import type { Settings } from './config/settings.js';
import { VERSION } from './version.js';

const DESCRIPTION = `Backs up PostgreSQL databases and proves that each backup restores.

Every answer is \`{"success":true,"data":…}\` or \`{"success":false,"error":"sentence","code":"…","requestId":"…"}\`. Send your key in \`x-api-key\`, or a token in \`Authorization: Bearer\`.`;

/** The OpenAPI document of the routes. */
export function openApiDocument(app: INestApplication): OpenAPIObject {
  const config = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Backstay')
    .setDescription(DESCRIPTION)
    .setVersion(VERSION)
    .setLicense('Apache-2.0', 'https://www.apache.org/licenses/LICENSE-2.0')
    .addApiKey({ type: 'apiKey', in: 'header', name: 'x-api-key', description: 'bsk_…' }, 'api-key')
    .addBearerAuth({ type: 'http', scheme: 'bearer', description: 'A session token or a JWT of a trusted issuer' }, 'bearer')
    .build();
  const document = SwaggerModule.createDocument(app, config, {
    operationIdFactory: (controller, method) => `${controller.replace(/Controller$/, '').toLowerCase()}_${method}`,
  });
  // The Swagger plugin believes that every POST answers 201; ours answer 200, as `Answers` says.
  for (const { post } of Object.values(document.paths)) if (post?.responses['200']) delete post.responses['201'];
  for (const [path, verbs] of Object.entries(document.paths))
    for (const { parameters } of Object.values(verbs) as { parameters?: { in: string; name: string }[] }[])
      parameters?.sort((a, b) => placeIn(path, a) - placeIn(path, b));
  return document;
}

/** Parts of the path come in their order, whichever way they were declared; the rest stays as it is. */
function placeIn(path: string, parameter: { in: string; name: string }): number {
  return parameter.in === 'path' ? path.indexOf(`{${parameter.name}}`) : path.length;
}

/** Serves Swagger UI at /api/docs and the document at /api/docs-json, unless they are turned off. */
export function setUpDocs(app: INestApplication, settings: Settings): void {
  if (!settings.docsEnabled) return;
  SwaggerModule.setup('api/docs', app, () => openApiDocument(app), {
    jsonDocumentUrl: 'api/docs-json',
    customSiteTitle: 'Backstay API',
    swaggerOptions: { persistAuthorization: true },
  });
}
