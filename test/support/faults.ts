/** What a fake does instead of what it is asked. */
export type Fault =
  | 'error500'
  | 'slowDown'
  | 'denied'
  | 'missing'
  | 'reset'
  | 'hang'
  /** Half of the answer's body, then the connection is cut. */
  | 'cut'
  /** Does it, and cuts the connection before the answer. */
  | 'lostAnswer'
  /** Does it twice. */
  | 'twice'
  | 'clockSkew'
  /** Answers 200 and does nothing. */
  | 'pretend';

interface Rule {
  fault: Fault;
  /** Which operations, such as `UploadPart`; all when left out. */
  operation: RegExp;
  /** How many calls are left that it meets. */
  times: number;
  /** How many calls it lets pass before. */
  after: number;
}

/** Which calls of a fake go wrong, and how. */
export class FaultRules {
  private rules: Rule[] = [];

  add(fault: Fault, operation: RegExp = /./, { times = Infinity, after = 0 } = {}): void {
    this.rules.push({ fault, operation, times, after });
  }

  clear(): void {
    this.rules = [];
  }

  /** The fault that this call meets, if any. */
  next(operation: string): Fault | undefined {
    for (const rule of this.rules) {
      if (!rule.operation.test(operation)) continue;
      if (rule.after > 0) {
        rule.after -= 1;
        continue;
      }
      if (rule.times <= 0) continue;
      rule.times -= 1;
      return rule.fault;
    }
    return undefined;
  }
}
