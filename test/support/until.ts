import { setTimeout as delay } from 'node:timers/promises';

/** Waits until a condition holds; fails after `timeoutMs`. */
export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`the condition did not hold within ${timeoutMs} ms: ${condition.toString()}`);
    await delay(20);
  }
}
