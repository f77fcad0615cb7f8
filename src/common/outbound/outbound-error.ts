/** Why nothing, or nothing of use, came back. */
export type OutboundErrorCode =
  'URL_REFUSED' | 'ADDRESS_REFUSED' | 'UNREACHABLE' | 'TLS_FAILED' | 'TIMEOUT' | 'TOO_LARGE' | 'ABORTED';

/** A request to the outside that came to nothing; the message is a sentence for its owner, without paths, credentials or bodies. */
export class OutboundError extends Error {
  override readonly name = 'OutboundError';

  constructor(
    readonly code: OutboundErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What a failed connection means; `origin` is scheme, host and port. */
export function outboundErrorOf(thrown: unknown, origin: string): OutboundError {
  if (thrown instanceof OutboundError) return thrown;
  const { code = '', message = '' } = (thrown ?? {}) as { code?: string; message?: string };
  const cause = { cause: thrown };
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return new OutboundError('UNREACHABLE', `The name of ${origin} is not known (${code}).`, cause);
  if (/^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO|DEPTH_ZERO|SELF_SIGNED|EPROTO)/.test(code) || /certificate/i.test(message))
    return new OutboundError('TLS_FAILED', `No trusted TLS connection to ${origin} (${code}).`, cause);
  if (code.startsWith('HPE_')) return new OutboundError('UNREACHABLE', `${origin} did not answer in HTTP (${code}).`, cause);
  return new OutboundError('UNREACHABLE', `${origin} can't be reached, or cut the connection${code ? ` (${code})` : ''}.`, cause);
}
