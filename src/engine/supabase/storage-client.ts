import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import { AsyncLocalStorage } from 'node:async_hooks';
import { abortReason } from '../store/abort.js';
import { toStorageError } from './storage-errors.js';
import { createHttpFetch, type HttpFetchOptions } from './http-fetch.js';

/** How a Supabase project's Storage is reached. */
export interface SupabaseAccess {
  /** `https://<ref>.supabase.co`, or where a project of one's own answers. */
  url: string;
  /** The service role key, or a secret key: it may do everything, and is never shown. */
  serviceRoleKey: string;
  /** How long a call may stand still. */
  timeoutMs?: number;
  /** How often a call is tried. */
  maxAttempts?: number;
  /** The pause before the second try. */
  firstPauseMs?: number;
  /** Checks each address that is connected to. */
  lookup?: HttpFetchOptions['lookup'];
}

type Storage = SupabaseClient['storage'];

/** What one call of the library sends and gets beyond what its methods take and give. */
interface CallContext {
  signal: AbortSignal | undefined;
  headers: Record<string, string>;
  answer: Response | undefined;
  /** Whether the answer's text is wanted as it came; the library changes names in it. */
  wantsText: boolean;
  text: string | undefined;
}

/** The Storage API of a project, through supabase-js. Every call can be aborted, is bounded in time, and is tried again when that may help. */
export class StorageClient {
  private readonly context = new AsyncLocalStorage<CallContext>();
  private readonly storage: Storage;
  /** For calls that try again by themselves. */
  readonly fetchOnce: typeof fetch;

  constructor(private readonly access: SupabaseAccess) {
    const { timeoutMs = 60_000, maxAttempts = 5, firstPauseMs = 200, lookup } = access;
    const options = { timeoutMs, firstPauseMs, ...(lookup ? { lookup } : {}) };
    const http = createHttpFetch({ ...options, maxAttempts });
    this.fetchOnce = createHttpFetch({ ...options, maxAttempts: 1 });
    this.storage = createClient(this.base, access.serviceRoleKey, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
      accessToken: async () => access.serviceRoleKey,
      global: { fetch: (input, init) => this.send(http, input, init) },
    }).storage;
  }

  /** Pauses for those who try again by themselves, in milliseconds. */
  get pauses(): number[] {
    const { maxAttempts = 5, firstPauseMs = 200 } = this.access;
    return Array.from({ length: maxAttempts - 1 }, (_, i) => firstPauseMs * 2 ** i * (0.5 + Math.random()));
  }

  /** The project's Storage, as it is named in errors. */
  get where(): string {
    return `the Storage of ${new URL(this.access.url).host}`;
  }

  /** Does calls, and says of a failure what it kept from being done. @throws EngineError; the signal's reason */
  async doing<T>(action: string, what: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      throw toStorageError(error, action, what, this.where);
    }
  }

  /** Where the project answers, without a slash at its end. */
  get base(): string {
    return this.access.url.replace(/\/+$/, '');
  }

  /** What every request has to carry. */
  get credentials(): Record<string, string> {
    return { apikey: this.access.serviceRoleKey, authorization: `Bearer ${this.access.serviceRoleKey}` };
  }

  /**
   * Does one call of the library.
   * @param headers more of them, such as a range
   * @param wantsText whether the answer's text is wanted as it came
   * @throws the signal's reason; the library's error
   */
  async call<T>(
    work: (storage: Storage) => PromiseLike<{ data: T; error: null } | { data: unknown; error: unknown }>,
    {
      signal,
      headers = {},
      wantsText = false,
    }: { signal?: AbortSignal | undefined; headers?: Record<string, string>; wantsText?: boolean } = {},
  ): Promise<{ data: NonNullable<T>; answer: Response | undefined; text: string | undefined }> {
    signal?.throwIfAborted();
    const context: CallContext = { signal, headers, answer: undefined, wantsText, text: undefined };
    try {
      const { data, error } = await this.context.run(context, async () => work(this.storage));
      if (error) throw error;
      return { data: data as NonNullable<T>, answer: context.answer, text: context.text };
    } catch (error) {
      if (signal?.aborted) throw abortReason(signal);
      throw error;
    }
  }

  private async send(http: typeof fetch, input: Parameters<typeof fetch>[0], init: RequestInit = {}): Promise<Response> {
    const context = this.context.getStore();
    const headers = new Headers(init.headers);
    for (const [name, value] of Object.entries(context?.headers ?? {})) headers.set(name, value);
    const answer = await http(input, { ...init, headers, ...(context?.signal ? { signal: context.signal } : {}) });
    if (!context) return answer;
    context.answer = answer;
    if (!context.wantsText) return answer;
    context.text = await answer.text();
    return new Response(context.text, { status: answer.status, headers: answer.headers });
  }
}
