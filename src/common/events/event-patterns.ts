import { TOLD_EVENTS } from './told-events.js';

/** An event's name, or a pattern with a star: `backup.completed`, `backup.*`, `*`. */
export const EVENT_PATTERN = /^(?:\*|[a-z][a-z-]*\.(?:\*|[a-z][a-z-]*))$/;

/** Whether any of the patterns is the event's name, or one with a star that stands for it. */
export function matchesEvent(patterns: readonly string[], type: string): boolean {
  return patterns.some((pattern) => pattern === '*' || pattern === type || pattern === `${type.split('.')[0]}.*`);
}

/** Whether there is an event that the pattern means: a misspelt one would wait for ever. */
export function meansSomething(pattern: string): boolean {
  return Object.keys(TOLD_EVENTS).some((type) => matchesEvent([pattern], type));
}
