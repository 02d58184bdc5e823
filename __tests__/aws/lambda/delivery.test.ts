// SPDX-License-Identifier: Apache-2.0
// Which delivery may count on another one, and how long each may work.
import { Delivery } from '../../../lambda/attach-eni/delivery';
import type { Clock } from '../../../lambda/shared/clock';

const LAUNCHED = Date.parse('2026-01-01T00:00:00Z');

class FakeClock implements Clock {
  readonly callMs = 0;
  constructor(private time: number) {}
  now(): number {
    return this.time;
  }
  sleep(milliseconds: number): Promise<void> {
    this.time += milliseconds;
    return Promise.resolve();
  }
}

/** A delivery that starts and fails so many seconds after the launch. */
function deliveryOf(starts: number, fails: number, heartbeat = 600, remaining = 120): Delivery {
  const clock = new FakeClock(LAUNCHED + starts * 1000);
  const delivery = new Delivery(clock, new Date(LAUNCHED), heartbeat, remaining * 1000);
  void clock.sleep((fails - starts) * 1000);
  return delivery;
}

describe('a delivery that fails', () => {
  test.each([
    ['at once, the first', 1, 2, true],
    ['after all of its time, the first', 1, 91, true],
    ['at once, the second', 62, 63, true],
    ['after most of its time, the second', 62, 152, true],
    ['after all of its time, the second after such a first', 151, 241, false],
    ['at once, the third', 183, 184, false],
    ['at an age that Lambda does not deliver', 400, 401, false],
  ])('%s: starts at %d s, fails at %d s, comes again: %s', (_, starts, fails, another) => {
    expect(deliveryOf(starts, fails).willRetry).toBe(another);
  });

  test('does not count on another one that the hook would not wait for', () => {
    expect(deliveryOf(1, 2, 130).willRetry).toBe(false);
  });
});

describe('the time of a delivery', () => {
  test('leaves half a minute of the invocation for cleaning up', () => {
    expect(deliveryOf(0, 0).workEnds).toBe(LAUNCHED + 90_000);
    expect(deliveryOf(0, 0).ends).toBe(LAUNCHED + 117_000);
  });

  test('ends before the hook does', () => {
    expect(deliveryOf(500, 500).workEnds).toBe(LAUNCHED + 555_000);
  });
});
