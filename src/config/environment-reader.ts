import { resolve } from 'node:path';

/** One fault of one setting: which, why, and how to mend it. */
export function fault(name: string, why: string, mend: string): string {
  return `${name} ${why}; ${mend}.`;
}

export interface EnvironmentReader {
  /** Sentences about what was wrong, in the order it was read. */
  readonly faults: string[];
  text(name: string): string | undefined;
  integer(name: string, fallback: number, min: number, max: number): number;
  boolean(name: string, fallback: boolean): boolean;
  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T;
  list(name: string, separator: string): string[];
  path(name: string, fallback: string): string;
  postgresUrl(name: string): string | undefined;
}

/** Typed reading of environment variables; an empty variable counts as none, and faults are gathered instead of thrown. */
export function reader(env: NodeJS.ProcessEnv): EnvironmentReader {
  const faults: string[] = [];
  const text = (name: string) => {
    const value = env[name]?.trim();
    return value === undefined || value === '' ? undefined : value;
  };
  return {
    faults,
    text,
    integer(name, fallback, min, max) {
      const value = text(name);
      if (value === undefined) return fallback;
      const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
      if (Number.isNaN(number) || number < min || number > max) {
        faults.push(fault(name, 'is not a whole number in its range', `give one from ${min} to ${max}`));
        return fallback;
      }
      return number;
    },
    boolean(name, fallback) {
      const value = text(name)?.toLowerCase();
      if (value === undefined) return fallback;
      if (['true', '1', 'yes', 'on'].includes(value)) return true;
      if (['false', '0', 'no', 'off'].includes(value)) return false;
      faults.push(fault(name, 'is neither true nor false', 'write true or false'));
      return fallback;
    },
    oneOf(name, values, fallback) {
      const value = text(name)?.toLowerCase();
      if (value === undefined) return fallback;
      const found = values.find((candidate) => candidate === value);
      if (found === undefined) faults.push(fault(name, 'has a value that is not known', `choose one of ${values.join(', ')}`));
      return found ?? fallback;
    },
    list(name, separator) {
      return (text(name) ?? '')
        .split(separator)
        .map((part) => part.trim())
        .filter((part) => part !== '');
    },
    path(name, fallback) {
      return resolve(text(name) ?? fallback);
    },
    postgresUrl(name) {
      const value = text(name);
      if (value === undefined) return undefined;
      const parsed = URL.canParse(value) ? new URL(value) : undefined;
      if (!parsed || !['postgres:', 'postgresql:'].includes(parsed.protocol)) {
        faults.push(
          fault(
            name,
            'is not a PostgreSQL URL',
            'write postgresql://user:password@host:5432/database and percent-encode special characters of the password',
          ),
        );
      }
      return value;
    },
  };
}
