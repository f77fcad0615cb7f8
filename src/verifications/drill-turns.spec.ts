import { describe, expect, it } from '@jest/globals';
import type { Settings } from '../config/settings.js';
import { DrillTurns } from './drill-turns.js';

const never = new AbortController().signal;
/** Something that goes on until it is ended, and says when it has begun. */
function task(turns: DrillTurns, name: string, begun: string[], signal = never) {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const done = turns.take(signal, () => {
    begun.push(name);
    return promise;
  });
  return { end: resolve, fail: reject, done };
}
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('drills', () => {
  it('go on as many at once as are allowed, and the others in the order in which they came', async () => {
    const turns = new DrillTurns({ drillConcurrency: 2 } as Settings);
    const begun: string[] = [];
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => task(turns, name, begun)) as [
      ReturnType<typeof task>,
      ...ReturnType<typeof task>[],
    ];
    await settle();
    expect(begun).toEqual(['a', 'b']);
    b?.fail(new Error('it failed'));
    await expect(b?.done).rejects.toThrow('it failed');
    expect(begun).toEqual(['a', 'b', 'c']);
    for (const each of [a, c, d]) each?.end();
    await Promise.all([a.done, c?.done, d?.done]);
    expect(begun).toEqual(['a', 'b', 'c', 'd']);
  });

  it('that are canceled while they wait never begin, and take no turn', async () => {
    const turns = new DrillTurns({ drillConcurrency: 1 } as Settings);
    const begun: string[] = [];
    const cancel = new AbortController();
    const first = task(turns, 'first', begun);
    const canceled = task(turns, 'canceled', begun, cancel.signal);
    const last = task(turns, 'last', begun);
    cancel.abort(new Error('it was canceled'));
    await expect(canceled.done).rejects.toThrow('it was canceled');
    await expect(turns.take(cancel.signal, async () => undefined)).rejects.toThrow('it was canceled');
    first.end();
    last.end();
    await Promise.all([first.done, last.done]);
    expect(begun).toEqual(['first', 'last']);
  });
});
