// SPDX-License-Identifier: Apache-2.0
// How much time a delivery has, and whether there will be another one. An event does not say how often it was delivered;
// its age does, because Lambda's pauses between deliveries are known.
import {
  CLEANUP_MS,
  EXIT_MS,
  HOOK_MARGIN_MS,
  MAXIMUM_EVENT_AGE_SECONDS,
  MAXIMUM_RETRIES,
  RETRY_DELAYS_MS,
} from './timeouts';
import type { Clock } from '../shared/clock';

/** Lambda's pauses are not exact. */
const SLACK_MS = 15_000;

export class Delivery {
  private readonly startedAt: number;

  /**
   * @param time when the lifecycle hook began to wait
   * @param remainingMs what the invocation has left
   */
  constructor(
    private readonly clock: Clock,
    private readonly time: Date,
    private readonly heartbeatSeconds: number,
    private readonly remainingMs: number,
  ) {
    this.startedAt = clock.now();
  }

  /** When work must have succeeded. */
  get workEnds(): number {
    const hookEnds = this.time.getTime() + this.heartbeatSeconds * 1000;
    return Math.min(this.startedAt + this.remainingMs - CLEANUP_MS, hookEnds - HOOK_MARGIN_MS);
  }

  /** When the invocation must end. */
  get ends(): number {
    return this.startedAt + this.remainingMs - EXIT_MS;
  }

  /** Whether Lambda is sure to deliver the event again in time, should this delivery fail now. Rather no than yes. */
  get willRetry(): boolean {
    const deliveredBefore = this.deliveriesBefore(this.startedAt - this.time.getTime());
    const pause = RETRY_DELAYS_MS[deliveredBefore];
    if (deliveredBefore >= MAXIMUM_RETRIES || pause === undefined) return false;
    const nextAge = this.clock.now() - this.time.getTime() + pause + SLACK_MS;
    const hookAllows = this.heartbeatSeconds * 1000 - HOOK_MARGIN_MS - CLEANUP_MS;
    return nextAge < Math.min(MAXIMUM_EVENT_AGE_SECONDS * 1000, hookAllows);
  }

  /** At most how many: a second delivery cannot begin before the first pause is over, nor a third before both are. */
  private deliveriesBefore(age: number): number {
    let before = 0;
    let pauses = 0;
    for (const pause of RETRY_DELAYS_MS) {
      pauses += pause;
      if (age < pauses - SLACK_MS) return before;
      before += 1;
    }
    return before;
  }
}
