// SPDX-License-Identifier: Apache-2.0
// Trials count while the generator's processor is near the gateway's. The host of a virtual machine moves them every few seconds;
// with no cache in common, what one hands to the other takes several times as long (core_latency.c).
import { join } from 'node:path';
import { must, REPOSITORY, sleep } from '../../lab/support/host';
import { GATEWAY_CORE, GENERATOR_CORE } from './machine';

/** Times what near ones take: farther apart, they share no cache. */
const APART = 2;
/** So many looks were shorter than what near ones take: exceptions. */
const EXCEPTIONS = 4;
/** Long enough to be near once, at least. */
const FIRST_LOOKS = 100;
/** Of so many looks, so that what exceptions did is forgotten in some minutes. */
const LOOKS = 1000;
const LOOK_MS = 50;
const SILENT_MS = 10_000;
/** What is waited for and discarded at most, beyond the time of the trials that count. */
const PATIENCE_MS = 60_000;

/** Nanoseconds for a cache line from one processor to the other and back. */
async function coreLatency(): Promise<number> {
  const tool = join(REPOSITORY, 'bench/core_latency');
  return Number(await must(tool, [String(GENERATOR_CORE), String(GATEWAY_CORE)]));
}

export interface Near<T> {
  readonly result: T;
  /** Results before it with the processors apart at their end. */
  readonly discarded: number;
  /** So is this one, or it began like that, but there was no more patience. */
  readonly isApart: boolean;
}

export class CpuAffinity {
  private readonly looks: number[] = [];
  private patience: number;

  constructor(
    private readonly say: (message: string) => void,
    private readonly look: () => Promise<number> = coreLatency,
    private readonly mostPatience = PATIENCE_MS,
  ) {
    this.patience = mostPatience;
  }

  /** What is near on this machine. */
  async learn(): Promise<void> {
    for (let looks = 0; looks < FIRST_LOOKS; looks++, await sleep(LOOK_MS)) await this.isNear();
  }

  /**
   * Repeats `run` until the processors are near each other before and after it. What that takes, in all, is no longer than the
   * runs that count, and a minute.
   * @throws what `run` or `goOn` throws.
   */
  async while<T>(run: () => Promise<T>, goOn: () => void): Promise<Near<T>> {
    for (let discarded = 0; ; discarded++) {
      const startedAt = performance.now();
      const isBegunNear = await this.untilNear(goOn);
      const begunAt = performance.now();
      const result = await run();
      const isApart = !isBegunNear || !(await this.isNear());
      const [waited, ran] = [begunAt - startedAt, performance.now() - begunAt];
      const isCounted = !isApart || this.patience < waited + ran;
      this.patience = Math.min(this.patience - waited + (isCounted ? ran : -ran), this.mostPatience);
      if (isCounted) return { result, discarded, isApart };
    }
  }

  /** False: they are not, and patience is at its end. */
  private async untilNear(goOn: () => void): Promise<boolean> {
    const startedAt = performance.now();
    let saidAt = startedAt;
    for (goOn(); !(await this.isNear()); await sleep(LOOK_MS)) {
      goOn();
      const now = performance.now();
      if (now - startedAt > this.patience) return false;
      if (now - saidAt < SILENT_MS) continue;
      this.say(`waiting for processors ${GENERATOR_CORE} and ${GATEWAY_CORE} to share a cache again`);
      saidAt = now;
    }
    return true;
  }

  private async isNear(): Promise<boolean> {
    const nanoseconds = await this.look();
    this.looks.push(nanoseconds);
    if (this.looks.length > LOOKS) this.looks.shift();
    const sorted = [...this.looks].sort((one, other) => one - other);
    return nanoseconds < (sorted[EXCEPTIONS] ?? Infinity) * APART;
  }
}
