import { Injectable } from '@nestjs/common';
import { lookup as resolveName, type LookupAddress, type LookupOptions } from 'node:dns';
import { type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, request as plainRequest } from 'node:http';
import { request as secureRequest } from 'node:https';
import { isIP } from 'node:net';
import { Settings } from '../../config/settings.js';
import { OutboundError, outboundErrorOf } from './outbound-error.js';

const DEFAULT_TIMEOUT_MS = 15_000;
const DEFAULT_MAX_BYTES = 64 * 1024;
const LONGEST_URL = 2048;
const LOOK_UP_MS = 3_000;

export interface OutboundRequest {
  method: 'GET' | 'POST' | 'PUT' | 'HEAD';
  url: string;
  headers?: Readonly<Record<string, string>>;
  body?: string | Buffer;
  /** For everything together: name, connection, headers and body. */
  timeoutMs?: number;
  /** Most bytes of the answer that are read. */
  maxBytes?: number;
  /** What a longer answer means: an error, or that the rest is let go. */
  beyond?: 'refuse' | 'cut';
  signal?: AbortSignal;
}

export interface OutboundResponse {
  status: number;
  headers: IncomingHttpHeaders;
  /** As many bytes as were asked for. */
  body: Buffer;
  durationMs: number;
}

/**
 * HTTP to addresses that others name: webhooks, notification channels, ping URLs, issuers of tokens. Where a name leads is checked
 * when the connection is made, so nothing can change in between; redirects are not followed, and time and size are bounded.
 * `OUTBOUND_ALLOW` names what may be reached although it is private, and by plain http.
 */
@Injectable()
export class OutboundHttp {
  constructor(private readonly settings: Pick<Settings, 'outboundAllow'>) {}

  /**
   * What can be said of a URL without looking up its name; requests check it again.
   * @throws OutboundError URL_REFUSED, ADDRESS_REFUSED
   */
  checkUrl(text: string): URL {
    if (text.length > LONGEST_URL) throw refusedUrl(`is longer than ${LONGEST_URL} characters`);
    if (!URL.canParse(text)) throw refusedUrl('is not a URL');
    const url = new URL(text);
    if (url.protocol !== 'https:' && url.protocol !== 'http:') throw refusedUrl('must begin with https://');
    if (url.username !== '' || url.password !== '') throw refusedUrl('must not hold credentials; send them in a header');
    const host = hostOf(url);
    const { outboundAllow } = this.settings;
    if (isIP(host)) this.checkAddress(url, host, host);
    else if (url.protocol === 'http:' && !outboundAllow.hasHost(host) && !outboundAllow.hasRanges) throw refusedPlain(url);
    return url;
  }

  /**
   * As `checkUrl`, and looks where the name leads now, so that whoever enters a URL hears at once that it can't be reached. A name that is
   * not known, or not in time, is no reason to refuse it.
   * @throws OutboundError URL_REFUSED, ADDRESS_REFUSED
   */
  async checkTarget(text: string): Promise<URL> {
    const url = this.checkUrl(text);
    const host = hostOf(url);
    if (isIP(host)) return url;
    const late = new Promise<LookupAddress[]>((resolve) => setTimeout(resolve, LOOK_UP_MS, []).unref());
    const found = new Promise<LookupAddress[]>((resolve) =>
      this.resolve(host, (error, addresses) => resolve(error ? [] : addresses)),
    );
    for (const { address } of await Promise.race([found, late])) this.checkAddress(url, host, address);
    return url;
  }

  /**
   * Sends one request, on a connection of its own, and reads the answer. Any status is an answer, 3xx too.
   * @throws OutboundError
   */
  async request(request: OutboundRequest): Promise<OutboundResponse> {
    const startedAt = performance.now();
    const url = this.checkUrl(request.url);
    const timeout = AbortSignal.timeout(request.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const signal = request.signal ? AbortSignal.any([request.signal, timeout]) : timeout;
    try {
      const response = await this.open(url, request, signal);
      const body = await bodyOf(response, request.maxBytes ?? DEFAULT_MAX_BYTES, request.beyond ?? 'refuse', url);
      return {
        status: response.statusCode ?? 0,
        headers: response.headers,
        body,
        durationMs: Math.round(performance.now() - startedAt),
      };
    } catch (error) {
      if (timeout.aborted && !request.signal?.aborted)
        throw new OutboundError(
          'TIMEOUT',
          `${url.origin} did not answer within ${(request.timeoutMs ?? DEFAULT_TIMEOUT_MS) / 1000} s.`,
        );
      if (request.signal?.aborted) throw new OutboundError('ABORTED', 'The request was given up.', { cause: error });
      throw outboundErrorOf(error, url.origin);
    }
  }

  private open(url: URL, { method, headers, body }: OutboundRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const start = url.protocol === 'https:' ? secureRequest : plainRequest;
    return new Promise((resolve, reject) => {
      const sent: ClientRequest = start(
        url,
        {
          method,
          agent: false,
          signal,
          lookup: (name, options, callback) => this.lookUp(url, name, options, callback),
          headers: {
            'accept-encoding': 'identity',
            'user-agent': 'Backstay',
            ...headers,
            ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
          },
        },
        resolve,
      );
      // What was checked is what is connected to; should that ever not be so, the connection is cut.
      sent.once('socket', (socket) => socket.once('connect', () => this.checkConnected(url, socket.remoteAddress, sent)));
      sent.once('error', reject);
      sent.end(body);
    });
  }

  /** For clients that make their own connections to a URL that was checked: looks up names as requests of ours do. */
  lookupFor(url: URL): (name: string, options: LookupOptions, callback: LookupCallback) => void {
    return (name, options, callback) => this.lookUp(url, name, options, callback);
  }

  /** Every address that the name leads to has to be permitted, not only the one that happens to be taken. */
  private lookUp(url: URL, name: string, options: LookupOptions, callback: LookupCallback): void {
    this.resolve(name, (error, addresses) => {
      if (error) return callback(error, []);
      try {
        for (const { address } of addresses) this.checkAddress(url, name, address);
      } catch (refusal) {
        return callback(refusal as Error, []);
      }
      const [first] = addresses;
      if (!first) return callback(Object.assign(new Error('no address'), { code: 'ENOTFOUND' }), []);
      return options.all ? callback(null, addresses) : callback(null, first.address, first.family);
    });
  }

  /** All addresses of a name. */
  protected resolve(name: string, callback: (error: Error | null, addresses: LookupAddress[]) => void): void {
    resolveName(name, { all: true }, callback);
  }

  private checkConnected(url: URL, address: string | undefined, request: ClientRequest): void {
    try {
      this.checkAddress(url, hostOf(url), address ?? '');
    } catch (refusal) {
      request.destroy(refusal as Error);
    }
  }

  private checkAddress(url: URL, host: string, address: string): void {
    const { outboundAllow } = this.settings;
    if (!isIP(address) || !outboundAllow.permits(host, address))
      throw new OutboundError(
        'ADDRESS_REFUSED',
        `${host} leads to an address that is not public; if it may be reached, list it in OUTBOUND_ALLOW.`,
      );
    if (url.protocol === 'http:' && !outboundAllow.permitsPlain(host, address)) throw refusedPlain(url);
  }
}

type LookupCallback = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/** Without the brackets of an IPv6 address. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

function refusedUrl(why: string): OutboundError {
  return new OutboundError('URL_REFUSED', `The URL ${why}.`);
}

function refusedPlain(url: URL): OutboundError {
  return new OutboundError(
    'URL_REFUSED',
    `Plain http is only spoken with what OUTBOUND_ALLOW lists, and ${url.hostname} is not; use https.`,
  );
}

async function bodyOf(response: IncomingMessage, maxBytes: number, beyond: 'refuse' | 'cut', url: URL): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  // Leaving the loop destroys the response, and the connection with it.
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size <= maxBytes) continue;
    if (beyond === 'refuse') throw new OutboundError('TOO_LARGE', `${url.origin} answered with more than ${maxBytes} bytes.`);
    break;
  }
  return Buffer.concat(chunks).subarray(0, maxBytes);
}
