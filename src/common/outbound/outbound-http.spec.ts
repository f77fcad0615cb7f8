import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { LookupAddress } from 'node:dns';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, isIP, type Server as TcpServer, type Socket } from 'node:net';
import { OutboundAllow } from './outbound-allow.js';
import type { OutboundError } from './outbound-error.js';
import { OutboundHttp, type OutboundRequest } from './outbound-http.js';

/** A client whose names lead where the test says; each look-up takes the next answer. */
class TestHttp extends OutboundHttp {
  readonly asked: string[] = [];

  constructor(
    allow: readonly string[],
    private readonly answers: Record<string, string[][]> = {},
  ) {
    super({ outboundAllow: OutboundAllow.parse(allow).allow });
  }

  protected override resolve(name: string, callback: (error: Error | null, addresses: LookupAddress[]) => void): void {
    this.asked.push(name);
    const answers = this.answers[name];
    const next = answers && answers.length > 1 ? answers.shift() : answers?.[0];
    // Later, as a real look-up: a connection that fails at once would otherwise fail before anybody listens.
    setImmediate(() => {
      if (!next) callback(Object.assign(new Error('not known'), { code: 'ENOTFOUND' }), []);
      else
        callback(
          null,
          next.map((address) => ({ address, family: isIP(address) })),
        );
    });
  }
}

const PRIVATE_BY_NUMBER: [why: string, url: string][] = [
  ['loopback', 'https://127.0.0.1/'],
  ['loopback, another of its addresses', 'https://127.8.9.10/'],
  ['loopback with a port', 'https://127.0.0.1:6379/'],
  ['loopback in short', 'https://127.1/'],
  ['loopback in three parts', 'https://127.0.1/'],
  ['loopback as one decimal', 'https://2130706433/'],
  ['loopback as one hexadecimal', 'https://0x7f000001/'],
  ['loopback in octal', 'https://0177.0.0.1/'],
  ['loopback as one octal', 'https://017700000001/'],
  ['loopback in hexadecimal parts', 'https://0x7f.0x0.0x0.0x1/'],
  ['loopback in mixed parts', 'https://0177.0.0x1/'],
  ['loopback with leading zeros', 'https://127.000.000.001/'],
  ['loopback in full-width digits', 'https://１２７.０.０.１/'],
  ['loopback in circled digits', 'https://①②⑦.⓪.⓪.①/'],
  ['loopback percent-encoded', 'https://%31%32%37.0.0.1/'],
  ['loopback with a dot at its end', 'https://127.0.0.1./'],
  ['loopback with an ideographic full stop', 'https://127。0。0。1/'],
  ['the unspecified address', 'https://0.0.0.0/'],
  ['the unspecified address as a number', 'https://0/'],
  ['this network', 'https://0.1.2.3/'],
  ['private 10/8', 'https://10.0.0.1/'],
  ['private 10/8 as a number', 'https://167772161/'],
  ['private 172.16/12, first', 'https://172.16.0.1/'],
  ['private 172.16/12, last', 'https://172.31.255.255/'],
  ['private 192.168/16', 'https://192.168.1.1/'],
  ['private 192.168/16 in hexadecimal', 'https://0xc0a80101/'],
  ['carrier-grade NAT', 'https://100.64.0.1/'],
  ['link-local', 'https://169.254.1.1/'],
  ['metadata', 'https://169.254.169.254/latest/meta-data/'],
  ['metadata as a number', 'https://2852039166/'],
  ['metadata in hexadecimal', 'https://0xa9.0xfe.0xa9.0xfe/'],
  ['metadata in octal', 'https://0251.0376.0251.0376/'],
  ['metadata of containers', 'https://169.254.170.2/v2/credentials'],
  ['metadata of another cloud', 'https://100.100.100.200/'],
  ["a platform's wire server", 'https://168.63.129.16/'],
  ['multicast', 'https://224.0.0.1/'],
  ['reserved', 'https://240.0.0.1/'],
  ['broadcast', 'https://255.255.255.255/'],
  ['benchmarking', 'https://198.18.0.1/'],
  ['documentation', 'https://203.0.113.7/'],
  ['6to4 relays', 'https://192.88.99.1/'],
  ['IPv6 loopback', 'https://[::1]/'],
  ['IPv6 loopback at length', 'https://[0:0:0:0:0:0:0:1]/'],
  ['IPv6 unspecified', 'https://[::]/'],
  ['IPv6 unique local', 'https://[fd12:3456::1]/'],
  ['IPv6 metadata', 'https://[fd00:ec2::254]/'],
  ['IPv6 link-local', 'https://[fe80::1]/'],
  ['IPv6 site-local', 'https://[fec0::1]/'],
  ['IPv6 multicast', 'https://[ff02::1]/'],
  ['IPv6 documentation', 'https://[2001:db8::1]/'],
  ['mapped loopback', 'https://[::ffff:127.0.0.1]/'],
  ['mapped loopback in hexadecimal', 'https://[::ffff:7f00:1]/'],
  ['mapped private', 'https://[::ffff:10.0.0.1]/'],
  ['mapped metadata', 'https://[::ffff:a9fe:a9fe]/'],
  ['IPv4-compatible loopback', 'https://[::127.0.0.1]/'],
  ['translated loopback', 'https://[::ffff:0:127.0.0.1]/'],
  ['NAT64 loopback', 'https://[64:ff9b::127.0.0.1]/'],
  ['NAT64 metadata', 'https://[64:ff9b::a9fe:a9fe]/'],
  ['local NAT64', 'https://[64:ff9b:1::a00:1]/'],
  ['6to4 of a private address', 'https://[2002:a00:1::1]/'],
  ['Teredo', 'https://[2001:0:a00:1::1]/'],
  ['IPv6 that nobody was given', 'https://[4000::1]/'],
];

const REFUSED_URLS: [why: string, url: string][] = [
  ['plain http', 'http://example.com/'],
  ['a file', 'file:///etc/passwd'],
  ['gopher', 'gopher://127.0.0.1:6379/_INFO'],
  ['ftp', 'ftp://example.com/'],
  ['data', 'data:text/plain,hello'],
  ['credentials', 'https://user:secret@example.com/'],
  ['a host hidden behind credentials', 'https://example.com@127.0.0.1/'],
  ['no URL', 'not a url'],
  ['an IPv6 zone', 'https://[fe80::1%25eth0]/'],
  ['a very long one', `https://example.com/${'a'.repeat(3000)}`],
];

const PRIVATE_BY_NAME: [why: string, addresses: string[]][] = [
  ['loopback', ['127.0.0.1']],
  ['a private address', ['10.1.2.3']],
  ['metadata', ['169.254.169.254']],
  ['IPv6 loopback', ['::1']],
  ['mapped loopback', ['::ffff:127.0.0.1']],
  ['mapped metadata in hexadecimal', ['::ffff:a9fe:a9fe']],
  ['unique local', ['fd00::1']],
  ['link-local with a zone', ['fe80::1%lo']],
  ['NAT64 of a private address', ['64:ff9b::a00:1']],
  ['a public and a private address', ['93.184.216.34', '10.0.0.1']],
  ['the unspecified address', ['0.0.0.0']],
];

describe('a request to where it must not go', () => {
  it('has more than 60 ways that are tried here', () =>
    expect(PRIVATE_BY_NUMBER.length + REFUSED_URLS.length + PRIVATE_BY_NAME.length).toBeGreaterThan(80));

  it.each(PRIVATE_BY_NUMBER)('is refused: %s', async (_, url) => {
    const http = new TestHttp([]);
    await expect(http.request({ method: 'GET', url })).rejects.toMatchObject({ code: 'ADDRESS_REFUSED' });
    expect(http.asked).toEqual([]);
  });

  it.each(REFUSED_URLS)('is refused: %s', async (_, url) => {
    await expect(new TestHttp([]).request({ method: 'GET', url })).rejects.toMatchObject({ code: 'URL_REFUSED' });
  });

  it.each(PRIVATE_BY_NAME)('is refused: a name that leads to %s', async (_, addresses) => {
    const http = new TestHttp([], { 'hooks.example.com': [addresses] });
    const refusal = await refusedWith(http, { method: 'POST', url: 'https://hooks.example.com/token-in-path', body: 'x' });
    expect(refusal.code).toBe('ADDRESS_REFUSED');
    expect(refusal.message).not.toContain('token-in-path');
  });

  it('is refused when its URL is entered, unless its name is not known at the moment', async () => {
    const http = new TestHttp(['10.0.0.0/8'], {
      'hooks.example.com': [['192.168.0.1']],
      'plain.example.com': [['93.184.216.34']],
    });
    await expect(http.checkTarget('https://hooks.example.com/')).rejects.toMatchObject({ code: 'ADDRESS_REFUSED' });
    await expect(http.checkTarget('http://plain.example.com/')).rejects.toMatchObject({ code: 'URL_REFUSED' });
    expect((await http.checkTarget('https://plain.example.com/')).hostname).toBe('plain.example.com');
    expect((await http.checkTarget('https://unknown.example.com/')).hostname).toBe('unknown.example.com');
  });

  it('is refused when the name leads elsewhere the second time it is looked up', async () => {
    const http = new TestHttp([], { 'rebind.example.com': [['93.184.216.34'], ['127.0.0.1']] });
    const first = http.request({ method: 'GET', url: 'https://rebind.example.com:1/', timeoutMs: 50 });
    await expect(first).rejects.not.toMatchObject({ code: 'ADDRESS_REFUSED' });
    // Each connection has one look-up of its own, and it is that one which is checked.
    expect(http.asked).toHaveLength(1);
    await expect(http.request({ method: 'GET', url: 'https://rebind.example.com:1/' })).rejects.toMatchObject({
      code: 'ADDRESS_REFUSED',
    });
  });
});

async function refusedWith(http: OutboundHttp, request: OutboundRequest): Promise<OutboundError> {
  return http.request(request).then(
    () => {
      throw new Error('it was sent');
    },
    (error: OutboundError) => error,
  );
}

describe('OUTBOUND_ALLOW', () => {
  const permits = (list: string[], host: string, address: string) => OutboundAllow.parse(list).allow.permits(host, address);

  it('opens single hosts, everything below a name, addresses and ranges, and nothing beside them', () => {
    expect(permits(['hooks.internal'], 'hooks.internal', '10.0.0.1')).toBe(true);
    expect(permits(['hooks.internal'], 'HOOKS.internal.', '10.0.0.1')).toBe(true);
    expect(permits(['hooks.internal'], 'evil-hooks.internal', '10.0.0.1')).toBe(false);
    expect(permits(['*.svc.cluster.local'], 'a.b.svc.cluster.local', '10.0.0.1')).toBe(true);
    expect(permits(['*.svc.cluster.local'], 'svc.cluster.local.example.com', '10.0.0.1')).toBe(false);
    expect(permits(['10.1.0.0/16'], 'x', '10.1.255.255')).toBe(true);
    expect(permits(['10.1.0.0/16'], 'x', '10.2.0.0')).toBe(false);
    expect(permits(['10.1.0.0/16'], 'x', '::ffff:10.1.2.3')).toBe(true);
    expect(permits(['fd00::/8'], 'x', 'fd12::1')).toBe(true);
    expect(permits(['::1'], 'x', '::1')).toBe(true);
  });

  it('opens the place where credentials are handed out only when it is listed by itself', () => {
    expect(permits(['169.254.0.0/16', '0.0.0.0/0', 'metadata.internal'], 'metadata.internal', '169.254.169.254')).toBe(false);
    expect(permits(['169.254.169.254'], 'x', '169.254.169.254')).toBe(true);
  });

  it('says which entries it does not understand', () => {
    const list = ['ok.internal', 'http://x', '10.0.0.0/33', '10.0.0.0/8/9', '300.1.1.1', 'a b', '*', '10.0.0.0/8'];
    expect(OutboundAllow.parse(list).refused).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('lets plain http go where it says, and nowhere else', async () => {
    const http = new TestHttp(['hooks.internal', '127.0.0.0/8'], { 'elsewhere.example.com': [['93.184.216.34']] });
    expect(http.checkUrl('http://hooks.internal/').hostname).toBe('hooks.internal');
    await expect(http.request({ method: 'GET', url: 'http://elsewhere.example.com/' })).rejects.toMatchObject({
      code: 'URL_REFUSED',
    });
  });
});

describe('a request to where it may go', () => {
  let server: Server;
  let raw: TcpServer;
  let url: string;
  let rawUrl: string;
  const sockets = new Set<Socket>();
  const http = new TestHttp(['127.0.0.1', 'receiver.internal'], { 'receiver.internal': [['127.0.0.1']] });

  beforeAll(async () => {
    server = createServer((request, response) => {
      if (request.url === '/redirect') response.writeHead(302, { location: 'http://169.254.169.254/' }).end();
      else if (request.url === '/large') response.end(Buffer.alloc(200_000, 'a'));
      else if (request.url === '/hang') response.flushHeaders();
      else if (request.url === '/silent') return;
      else if (request.url === '/reset') request.socket.resetAndDestroy();
      else {
        const chunks: Buffer[] = [];
        request.on('data', (chunk: Buffer) => chunks.push(chunk));
        request.on('end', () =>
          response.end(JSON.stringify({ body: Buffer.concat(chunks).toString(), headers: request.headers })),
        );
      }
    });
    raw = createTcpServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.end('SSH-2.0-OpenSSH_9.2\r\n');
    });
    await Promise.all([server, raw].map((each) => new Promise<void>((resolve) => each.listen(0, '127.0.0.1', resolve))));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    rawUrl = `http://127.0.0.1:${(raw.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
    for (const socket of sockets) socket.destroy();
    raw.close();
  });

  it('brings back the status, the headers and the body', async () => {
    const answer = await http.request({
      method: 'POST',
      url: `${url.replace('127.0.0.1', 'receiver.internal')}/echo`,
      body: 'grün',
      headers: { 'x-mine': 'yes' },
    });
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.body.toString())).toMatchObject({
      body: 'grün',
      headers: { 'x-mine': 'yes', 'content-length': '5', 'user-agent': 'Backstay', 'accept-encoding': 'identity' },
    });
  });

  it('does not follow a redirect: a 3xx is the answer', async () => {
    expect((await http.request({ method: 'GET', url: `${url}/redirect` })).status).toBe(302);
  });

  it('reads no more than it was told to', async () => {
    const cut = await http.request({ method: 'GET', url: `${url}/large`, maxBytes: 1024, beyond: 'cut' });
    expect(cut.body.length).toBe(1024);
    await expect(http.request({ method: 'GET', url: `${url}/large`, maxBytes: 1024 })).rejects.toMatchObject({
      code: 'TOO_LARGE',
    });
  });

  it.each([
    ['says nothing', '/silent', 'TIMEOUT', 300],
    ['stops after its headers', '/hang', 'TIMEOUT', 300],
    ['cuts the connection', '/reset', 'UNREACHABLE', 20_000],
  ])('fails in time when the other side %s', async (_, path, code, timeoutMs) => {
    await expect(http.request({ method: 'GET', url: url + path, timeoutMs })).rejects.toMatchObject({ code });
  });

  it('fails when the other side speaks something else', async () => {
    await expect(http.request({ method: 'GET', url: rawUrl, timeoutMs: 20_000 })).rejects.toMatchObject({ code: 'UNREACHABLE' });
    await expect(http.request({ method: 'GET', url: url.replace('http:', 'https:'), timeoutMs: 20_000 })).rejects.toMatchObject({
      code: 'TLS_FAILED',
    });
  });

  it('can be given up', async () => {
    const signal = AbortSignal.abort();
    await expect(http.request({ method: 'GET', url: `${url}/silent`, signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
