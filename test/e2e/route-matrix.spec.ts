import { beforeAll, describe, expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ALL_PERMISSIONS, type Permission, ROLE_PERMISSIONS, ROLES } from '../../src/auth/permissions.js';
import { usePostgres } from '../support/postgres.js';
import { useReceiver } from '../support/receiver.js';
import { type Caller, ROUTE_EXPECTATIONS } from '../support/route-expectations.js';
import { PASSWORD, RouteWorld } from '../support/route-world.js';
import { good } from '../support/runs.js';
import { type Answer, OWNER_KEY, useServer } from '../support/server.js';

interface Operation {
  'x-permission': string;
  requestBody?: { content: Record<string, { schema: { $ref?: string } }> };
}

/** Somebody who calls, with what they hold in our organization. */
interface Person extends Caller {
  name: string;
  headers: Record<string, string>;
  permissions: readonly Permission[];
  instanceOwner?: boolean;
}

interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, { properties?: object }> };
}

/** The routes come from the document, which another test holds to the code. */
const DOCUMENT = JSON.parse(readFileSync(join(process.cwd(), 'openapi.json'), 'utf8')) as Document;
const ROUTES = Object.entries(DOCUMENT.paths).flatMap(([path, verbs]) =>
  Object.entries(verbs).map(([verb, operation]) => ({
    route: `${verb.toUpperCase()} ${path}`,
    permission: operation['x-permission'],
    fields: operation.requestBody && Object.keys(schemaOf(operation.requestBody)?.properties ?? {}),
  })),
);

function schemaOf(body: NonNullable<Operation['requestBody']>) {
  const name = body.content['application/json']?.schema.$ref?.split('/').at(-1);
  return name === undefined ? undefined : DOCUMENT.components.schemas[name];
}

/** What rows have and nobody may set, in the names of the catalog, of answers and of libraries. */
const NOT_FOR_CALLERS =
  `id organization organizationId organization_id role permissions instanceOwner is_bootstrap bootstrap createdBy
  createdAt status origin proofLevel user_id __proto__ constructor`.split(/\s+/);

const postgres = usePostgres();
const receiver = useReceiver();
const server = useServer({ OUTBOUND_ALLOW: '127.0.0.1' });
const keys = new Map<string, string>();
let world: RouteWorld;
let members: Person[];
let nobody: Person;
let revoked: Person;
let stranger: Person;

beforeAll(async () => {
  world = await RouteWorld.make(server.current, postgres.current, receiver.current.url);
  nobody = { kind: 'nobody', name: 'nobody', headers: {}, permissions: [] };
  const bootstrap = { 'x-api-key': OWNER_KEY };
  members = [
    ...(await Promise.all(
      ROLES.map(async (role): Promise<Person> => {
        const { token } = await world.session((await world.member(role)).email);
        return { kind: 'user', name: role, headers: bearer(token), permissions: ROLE_PERMISSIONS[role] };
      }),
    )),
    { kind: 'api-key', name: 'bootstrap key', headers: bootstrap, permissions: ALL_PERMISSIONS, instanceOwner: true },
  ];
  revoked = { kind: 'nobody', name: 'revoked key', headers: { 'x-api-key': await revokedKey() }, permissions: [] };
  const other = await server.current.createOrganization('theirs');
  const member = { email: 'stranger@example.org', role: 'owner', password: PASSWORD };
  await good(server.current.api('POST', `/api/organizations/${other.id}/members`, member));
  const { token } = await world.session(member.email);
  stranger = { kind: 'user', name: "another organization's owner", headers: bearer(token), permissions: [] };
}, 120_000);

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

/** A key that worked, and was revoked while the server remembered it. */
async function revokedKey(): Promise<string> {
  const body = { name: 'ours-revoked', permissions: ALL_PERMISSIONS };
  const { id, key } = await good(server.current.api<{ id: string; key: string }>('POST', '/api/auth/api-keys', body));
  await good(server.current.api('GET', '/api/auth/me', undefined, key));
  await good(server.current.api('DELETE', `/api/auth/api-keys/${id}`));
  return key;
}

/** A key of ours with just these permissions. */
async function keyWith(name: string, permissions: readonly Permission[]): Promise<Person> {
  const known = permissions.join();
  const key = keys.get(known) ?? (await server.current.createKey(permissions));
  keys.set(known, key);
  return { kind: 'api-key', name, headers: { 'x-api-key': key }, permissions };
}

describe('the table of routes', () => {
  it('has a line for every route of the OpenAPI document (test/support/route-expectations.ts), and none for others', () => {
    expect(Object.keys(ROUTE_EXPECTATIONS).sort()).toEqual(ROUTES.map(({ route }) => route).sort());
  });
});

describe('a route lets in exactly those whom its permission names', () => {
  it.each(ROUTES)('$route ($permission)', async ({ route, permission }) => {
    const expected = ROUTE_EXPECTATIONS[route];
    if (!expected) throw new Error(`test/support/route-expectations.ts has no line for ${route}`);
    const isPublic = permission === 'public';
    const required = ALL_PERMISSIONS.filter((each) => permission.split(' ').includes(each));
    const success = (person: Person) =>
      typeof expected.answers === 'function' ? expected.answers(person) : (expected.answers ?? 200);
    const may = (person: Person) =>
      permission === 'instance-owner'
        ? person.instanceOwner === true
        : required.every((each) => person.permissions.includes(each));
    const request = async (person: Person, headers: Record<string, string> = {}, shared?: ReturnType<typeof prepared>) => {
      const { path = {}, query, body, headers: own = {} } = await (shared ?? prepared(person));
      const [method = '', template = ''] = route.split(' ');
      const filled = template.replaceAll(/\{(\w+)\}/g, (_, name: string) => path[name] ?? `{${name}}`);
      return server.current.request(method, query ? `${filled}?${query}` : filled, {
        key: null,
        headers: { ...person.headers, ...(Object.keys(headers).length === 0 ? own : headers) },
        ...(body === undefined ? {} : { body }),
      });
    };
    const prepared = async (person: Person) => (expected.call ? expected.call(world, person) : {});
    const found: [who: string, status: number][] = [];
    const wanted: [who: string, status: number][] = [];
    const expectStatus = (who: string, answer: Answer, status: number) => {
      found.push([who, answer.status]);
      wanted.push([who, status]);
    };

    const holders = [...members];
    if (required.length > 0)
      holders.push(
        await keyWith('a key with that permission alone', [...new Set([...required, ...(expected.alsoNeeds ?? [])])]),
        await keyWith(
          'a key with every other permission',
          ALL_PERMISSIONS.filter((each) => !required.includes(each)),
        ),
      );
    else holders.push(await keyWith('a key', ['backup:read']));

    // Those who are refused all send one request about one row, which must be left as it was for the first who may.
    const shared = isPublic || required.length === 0 ? undefined : prepared(nobody);
    await shared;
    for (const person of [nobody, revoked])
      expectStatus(person.name, await request(person, {}, shared), isPublic ? success(person) : 401);
    if (!isPublic) {
      for (const person of holders.filter((each) => !may(each)))
        expectStatus(person.name, await request(person, {}, shared), 403);
      const into = { 'x-organization': world.organization };
      expectStatus('a stranger who names our organization', await request(stranger, into, shared), 404);
    }
    const seen = await request(stranger, {}, shared);
    const strange = expected.stranger ?? (route.includes('{') ? 404 : success(stranger));
    expectStatus(stranger.name, seen, permission === 'instance-owner' ? 403 : strange);
    if (seen.status === 200) expect(world.marks.filter((mark) => seen.bytes.toString().includes(mark))).toEqual([]);
    for (const [i, person] of holders.filter(may).entries())
      expectStatus(person.name, await request(person, {}, i === 0 ? shared : undefined), success(person));
    expect(found).toEqual(wanted);
  });
});

describe('a body with a field that is not for callers', () => {
  // A report has to be signed with the field in it: test/e2e/inbound-webhooks.spec.ts.
  it.each(ROUTES.filter(({ route, fields }) => fields !== undefined && !route.endsWith('/backup-complete')))(
    'is refused by $route, which names the field',
    async ({ route, fields }) => {
      const { call } = ROUTE_EXPECTATIONS[route] ?? {};
      const { path = {}, body = {}, headers = {} } = call ? await call(world, { kind: 'nobody' }) : {};
      const [method = '', template = ''] = route.split(' ');
      const filled = template.replaceAll(/\{(\w+)\}/g, (_, name: string) => path[name] ?? '');
      const taken: string[] = [];
      for (const field of NOT_FOR_CALLERS.filter((name) => !fields?.includes(name))) {
        // As text, for an object of JavaScript would not send __proto__.
        const raw = `{"${field}":${field === '__proto__' ? '{"role":"owner"}' : '"owner"'}${JSON.stringify(body)
          .replace(/^\{(?=.)/, ',')
          .replace(/^,\}$/, '}')}`;
        const answer = await server.current.request(method, filled, { raw, headers });
        if (answer.status !== 400 || !Object.keys(answer.body.fields ?? {}).some((name) => name === field))
          taken.push(`${field}: ${answer.status}`);
      }
      expect(taken).toEqual([]);
    },
  );
});
