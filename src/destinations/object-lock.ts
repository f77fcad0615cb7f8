import { EngineError } from '../engine/errors.js';
import type { DestinationConfig } from './destination-values.js';

/** Whether a destination is to lock the backups that lie there. */
export function asksForLock(config: DestinationConfig): boolean {
  return typeof config['objectLock'] === 'string';
}

/** @param obstacle as `LockProbe` has it */
export function lockMissing(obstacle: string): EngineError {
  return new EngineError(
    'STORE_FAILED',
    `The destination asks for object lock, which can't be had there: ${obstacle}.`,
    'Make the bucket with Object Lock, without a default retention, and give the credentials the rights that docs/DESTINATIONS.md lists; or leave objectLock out.',
  );
}
