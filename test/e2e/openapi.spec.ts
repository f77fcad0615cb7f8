import { beforeAll, describe, expect, it } from '@jest/globals';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PUBLIC_ROUTE, REQUIRED_PERMISSIONS } from '../../src/auth/access.js';
import { ALL_PERMISSIONS } from '../../src/auth/permissions.js';
import { useServer } from '../support/server.js';

const run = promisify(execFile);
const BUILT = join(process.cwd(), 'dist/openapi.js');
const COMMITTED = join(process.cwd(), 'openapi.json');
/** What `x-permission` may say besides `public`. */
const ACCESS: readonly string[] = [...ALL_PERMISSIONS, 'signed-in', 'instance-owner'];
const VERBS = ['get', 'post', 'put', 'patch', 'delete'] as const;

interface Schema {
  $ref?: string;
  type?: string;
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  allOf?: Schema[];
  oneOf?: Schema[];
  anyOf?: Schema[];
  enum?: unknown[];
}

interface Operation {
  tags?: string[];
  summary?: string;
  operationId?: string;
  security?: object[];
  parameters?: { name: string; in: string; schema?: Schema }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, { content?: Record<string, { schema?: Schema }> }>;
  'x-permission'?: string;
}

interface Document {
  openapi: string;
  info: { title: string; version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema>; securitySchemes: Record<string, object> };
}

const server = useServer();
let built: Document;
let operations: [name: string, operation: Operation][];

beforeAll(async () => {
  // Only the compiler's own output has the schemas: the tests' compiler does not run the Swagger plugin.
  if (!existsSync(BUILT)) throw new Error('dist/openapi.js is not there: run `npm run build` first');
  const folder = await mkdtemp(join(tmpdir(), 'backstay-openapi-test-'));
  try {
    await run(process.execPath, [BUILT, join(folder, 'openapi.json')]);
    built = JSON.parse(await readFile(join(folder, 'openapi.json'), 'utf8')) as Document;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  operations = Object.entries(built.paths).flatMap(([path, verbs]) =>
    VERBS.flatMap((verb) => (verbs[verb] ? [[`${verb.toUpperCase()} ${path}`, verbs[verb]] as [string, Operation]] : [])),
  );
});

/** What is wrong with each operation, so that a failure names them all. */
function faults(check: (operation: Operation) => string | false | undefined): string[] {
  return operations.flatMap(([name, operation]) => {
    const fault = check(operation);
    return fault ? [`${name}: ${fault}`] : [];
  });
}

/** Each schema in a value, with where it stands. */
function* schemasIn(value: unknown, path: string): Generator<[path: string, schema: Schema]> {
  if (typeof value !== 'object' || value === null) return;
  for (const [name, child] of Object.entries(value)) {
    if (name === 'schema') yield [`${path}/schema`, child as Schema];
    if (name === 'properties')
      for (const [property, schema] of Object.entries(child as object)) yield [`${path}/${property}`, schema as Schema];
    yield* schemasIn(child, `${path}/${name}`);
  }
}

describe('the committed OpenAPI document', () => {
  it('is the one of the code; if not, run `npm run openapi` and commit it', async () => {
    expect(JSON.parse(await readFile(COMMITTED, 'utf8'))).toEqual(built);
  });

  it('is of version 3.1, with operations that each have a name of their own', () => {
    expect(built.openapi).toMatch(/^3\.1\.\d+$/);
    expect(operations.length).toBeGreaterThan(25);
    expect(new Set(operations.map(([, { operationId }]) => operationId)).size).toBe(operations.length);
  });

  it('refers to nothing that it does not have, and has nothing that it does not refer to', () => {
    const text = JSON.stringify(built);
    const referred = new Set([...text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map((match) => match[1]));
    expect([...referred].sort()).toEqual(Object.keys(built.components.schemas).sort());
    expect(text.match(/"\$ref":"(?!#\/components\/schemas\/)[^"]*"/g)).toBeNull();
  });
});

describe('every operation', () => {
  it('has a tag and a summary', () => {
    expect(faults(({ tags, summary }) => (tags?.length !== 1 && 'no tag') || (!summary?.trim() && 'no summary'))).toEqual([]);
  });

  it('says who may call it, and asks for a key unless everybody may', () => {
    expect(
      faults((operation) => {
        const permission = operation['x-permission'];
        if (permission === 'public') return operation.security !== undefined && 'public, yet with security';
        const known = permission?.split(' ').every((each) => ACCESS.includes(each));
        return (!known && `x-permission is ${permission}`) || (operation.security?.length !== 2 && 'not both schemes');
      }),
    ).toEqual([]);
  });

  it('says what it answers with when it is well', () => {
    expect(
      faults(({ responses }) => {
        const contents = Object.values(responses['200']?.content ?? {});
        return (
          (contents.length === 0 || contents.some(({ schema }) => !schema || Object.keys(schema).length === 0)) &&
          'no schema for 200'
        );
      }),
    ).toEqual([]);
    expect(faults(({ responses }) => responses['201'] && 'answers 201')).toEqual([]);
  });

  it('says what errors it answers with, all in one form', () => {
    expect(
      faults(({ responses, ...operation }) => {
        const wanted = ['400', '429', '500', ...(operation['x-permission'] === 'public' ? [] : ['401', '403'])];
        const missing = wanted.filter((status) => !responses[status]);
        if (missing.length > 0) return `does not tell of ${missing.join()}`;
        const other = Object.entries(responses)
          .filter(([status, { content }]) => {
            const schema = content?.['application/json']?.schema;
            // Health answers 503 with what it found.
            return (
              status !== '200' &&
              schema?.$ref !== '#/components/schemas/ErrorAnswerDto' &&
              !(status === '503' && schema?.properties)
            );
          })
          .map(([status]) => status);
        return other.length > 0 && `another form for ${other.join()}`;
      }),
    ).toEqual([]);
  });

  it('tells of each part of its path, and of no body where there can be none', () => {
    for (const [name, { parameters = [], requestBody }] of operations) {
      const inPath = [...name.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
      expect([name, parameters.filter((each) => each.in === 'path').map((each) => each.name)]).toEqual([name, inPath]);
      if (name.startsWith('GET ')) expect([name, requestBody]).toEqual([name, undefined]);
    }
  });
});

describe('every schema', () => {
  it('has properties, and each of them a type', () => {
    const empty = Object.entries(built.components.schemas).flatMap(([name, schema]) =>
      schema.enum || schema.allOf || Object.keys(schema.properties ?? {}).length > 0 ? [] : [name],
    );
    expect(empty).toEqual([]);
    const untyped = [...schemasIn(built, '')].flatMap(([path, schema]) => {
      const has = schema.$ref ?? schema.type ?? schema.allOf ?? schema.oneOf ?? schema.anyOf ?? schema.enum;
      if (has === undefined) return [path];
      if (schema.type === 'array' && Object.keys(schema.items ?? {}).length === 0) return [`${path} (items)`];
      if (schema.type === 'object' && !schema.properties && schema.additionalProperties === undefined)
        return [`${path} (object)`];
      return [];
    });
    expect(untyped).toEqual([]);
  });
});

describe('every route of the running server', () => {
  /** Each handler that a controller has, with what its decorators have left on it. */
  function handlers(): { name: string; isPublic: boolean; permissions: unknown }[] {
    const { app } = server.current.running;
    const scanner = new MetadataScanner();
    return app
      .get(DiscoveryService, { strict: false })
      .getControllers()
      .flatMap(({ metatype, instance }) => {
        const prototype = Object.getPrototypeOf(instance) as Record<string, object>;
        return scanner
          .getAllMethodNames(prototype)
          .filter((method) => Reflect.hasMetadata('path', prototype[method] as object))
          .map((method) => {
            const read = (key: string): unknown =>
              Reflect.getMetadata(key, prototype[method] as object) ?? Reflect.getMetadata(key, metatype as object);
            return {
              name: `${metatype?.name}.${method}`,
              isPublic: read(PUBLIC_ROUTE) === true,
              permissions: read(REQUIRED_PERMISSIONS),
            };
          });
      });
  }

  it('is closed by a permission or says that it is public, never both and never neither', () => {
    const found = handlers();
    expect(found.length).toBe(operations.length);
    expect(found.filter(({ isPublic, permissions }) => isPublic === Array.isArray(permissions))).toEqual([]);
  });

  it('is documented, and refuses those who bring no key unless it is public', async () => {
    for (const [name, operation] of operations) {
      const [method = '', path = ''] = name.split(' ');
      const answer = await server.current.request(method, path.replace(/\{\w+\}/g, 'x'), { key: null });
      // A public route may still ask for a proof of its own.
      const isOpen = operation['x-permission'] === 'public' && !operation.responses['401'];
      const expected = isOpen
        ? expect.not.stringMatching(/^40[134]$/)
        : expect.stringMatching(operation['x-permission'] === 'public' ? /^40[01]$/ : /^401$/);
      expect([name, String(answer.status)]).toEqual([name, expected]);
    }
  });

  it('is served as the document and as a page to try it', async () => {
    const served = await server.current.api('GET', '/api/docs-json', undefined, null);
    expect(Object.keys((served.body as unknown as Document).paths)).toEqual(Object.keys(built.paths));
    const page = await server.current.api('GET', '/api/docs', undefined, null);
    expect(page.status).toBe(200);
    expect(page.bytes.toString()).toContain('swagger-ui');
  });
});
