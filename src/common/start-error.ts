/** A start that can't succeed for a reason that the operator can mend; the message says which and how. */
export class StartError extends Error {
  override readonly name: string = 'StartError';
}
