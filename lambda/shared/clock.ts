// SPDX-License-Identifier: Apache-2.0
// Time, and repeating within it. All retrying is done here: the SDK's own would repeat one call blindly, where after a
// failure the state in AWS must be read again, and it knows no deadline.
import { codeOf, explained, OutOfTime, retryWindow } from './errors';

/** The clock; tests bring one that needs no waiting. */
export interface Clock {
  now(): number;
  sleep(milliseconds: number): Promise<void>;
  /** How long one call to AWS may take. */
  readonly callMs: number;
}

export const SYSTEM_CLOCK: Clock = {
  now: () => Date.now(),
  sleep: (milliseconds) => new Promise((done) => setTimeout(done, milliseconds)),
  callMs: 5_000,
};

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;

/** Between half and the whole: twenty functions that were throttled together must not come back together. */
function jittered(milliseconds: number): number {
  return milliseconds * (0.5 + Math.random() / 2);
}

/** The answer, or the state before the next attempt: changed by us, or not yet as it must be. */
export type Progress<T> = { readonly done: T } | 'changed' | 'waiting';

/**
 * Reconciles until there is an answer. What fails for a while is repeated, with pauses that grow while nothing moves.
 *
 * @param deadline no attempt begins after this time
 * @throws OutOfTime at the deadline; what `reconcile` threw, if repeating does not help
 */
export async function retryUntil<T>(
  clock: Clock,
  deadline: number,
  what: string,
  reconcile: () => Promise<Progress<T>>,
): Promise<T> {
  let pause = FIRST_PAUSE_MS;
  let failing: { readonly code: string; readonly since: number } | undefined;
  let lastly = 'there was no time for it';
  while (clock.now() < deadline) {
    try {
      const seen = await reconcile();
      if (typeof seen === 'object') return seen.done;
      failing = undefined;
      lastly = `it was ${seen}`;
      if (seen === 'changed') pause = FIRST_PAUSE_MS;
    } catch (error) {
      const code = codeOf(error);
      if (failing?.code !== code) failing = { code, since: clock.now() };
      if (clock.now() - failing.since >= retryWindow(error)) throw error;
      lastly = explained(error);
    }
    await clock.sleep(Math.min(jittered(pause), Math.max(0, deadline - clock.now())));
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
  throw new OutOfTime(`${what} not done in time, last: ${lastly}`);
}
