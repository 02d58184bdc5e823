// SPDX-License-Identifier: Apache-2.0
// What a benchmark computes: means, medians and spreads, and the search for the highest rate without loss.

/** Of an odd number of values the one in the middle, else the mean of the two. NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? NaN;
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? NaN;
  return (lower + upper) / 2;
}

/** NaN of none. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly values: readonly number[];
}

export function summarize(values: readonly number[]): Summary {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values), values };
}

const BUCKET_BITS = 5;

/** The middle of a bucket of traffic.h, in nanoseconds. */
function middle(bucket: number): number {
  const width = 2 ** Math.max((bucket >> BUCKET_BITS) - 1, 0);
  const lowest = bucket < 2 << BUCKET_BITS ? bucket : (2 ** BUCKET_BITS + (bucket % 2 ** BUCKET_BITS)) * width;
  return lowest + (width - 1) / 2;
}

/**
 * What the `share` of datagrams that took least took at most, in nanoseconds, from a histogram in ascending order. NaN of none.
 */
export function percentile(histogram: readonly (readonly [bucket: number, count: number])[], share: number): number {
  const all = histogram.reduce((sum, [, count]) => sum + count, 0);
  let below = 0;
  for (const [bucket, count] of histogram) {
    below += count;
    if (below >= all * share) return middle(bucket);
  }
  return NaN;
}

/** What came of a trial at a rate. */
export interface Verdict {
  readonly lost: number;
  /** What was really offered, in datagrams/s: below what was asked for when the generator can do no more. */
  readonly rate: number;
}

export interface SearchOptions {
  /** Where to begin: the closer, the fewer trials. Datagrams/s, as all rates. */
  readonly guess: number;
  readonly least: number;
  readonly most: number;
  /** The search ends after so many trials, whatever it knows then (default 14). */
  readonly trials?: number;
}

export interface Found {
  /** The highest offered rate of a trial without loss; 0 if all lost something. */
  readonly rate: number;
  /** The generator could not offer more, so the rate may be higher still. */
  readonly isLowerBound: boolean;
  readonly trials: number;
}

/** A generator that offers less than this share of what it is asked for is at its end. */
const OFFERED = 0.93;
/** The search ends when the rates that hold and that do not differ by less. */
const PRECISION = 0.05;
/** By which factor rates change until one holds and another does not; each time its square. */
const FIRST_STRIDE = 1.1;

/** The generator offered as much as was asked for. */
export function isOffered(verdict: Verdict, asked: number): boolean {
  return verdict.rate >= asked * OFFERED;
}

/** Nothing was lost, and as much was offered as was asked for. */
export function isConclusive(verdict: Verdict, asked: number): boolean {
  return verdict.lost === 0 && isOffered(verdict, asked);
}

/** The highest rate without loss: strides from the guess until it lies between two rates, then halves their ratio. */
export async function highestWithoutLoss(
  tryRate: (rate: number) => Promise<Verdict>,
  { guess, least, most, trials = 14 }: SearchOptions,
): Promise<Found> {
  let holds = 0;
  let best = 0;
  let fails = Infinity;
  let rate = Math.min(Math.max(guess, least), most);
  let stride = FIRST_STRIDE;
  for (let done = 1; done <= trials; done++) {
    const verdict = await tryRate(Math.round(rate));
    if (verdict.lost === 0) {
      holds = rate;
      best = Math.max(best, verdict.rate);
      if (!isConclusive(verdict, rate) || rate === most) return { rate: best, isLowerBound: true, trials: done };
    } else {
      fails = rate;
      if (rate === least) return { rate: best, isLowerBound: false, trials: done };
    }
    if (holds > 0 && fails / holds < 1 + PRECISION) return { rate: best, isLowerBound: false, trials: done };
    if (fails === Infinity) rate = Math.min(rate * stride, most);
    else if (holds === 0) rate = Math.max(rate / stride, least);
    else rate = Math.sqrt(holds * fails);
    stride **= 2;
  }
  return { rate: best, isLowerBound: false, trials };
}
