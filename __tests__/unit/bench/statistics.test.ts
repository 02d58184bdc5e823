// SPDX-License-Identifier: Apache-2.0
import { highestWithoutLoss, median, percentile, summarize, type Verdict } from '../../../bench/measure/statistics';

describe('median', () => {
  test.each([
    [[3], 3],
    [[5, 1, 3], 3],
    [[4, 1, 3, 2], 2.5],
    [[], NaN],
  ])('of %p is %p', (values, expected) => expect(median(values)).toBe(expected));

  test('does not sort what it was given', () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });
});

test('a summary has the spread', () => {
  expect(summarize([2, 9, 4])).toEqual({ median: 4, min: 2, max: 9, values: [2, 9, 4] });
});

describe('a percentile of a histogram with 32 buckets for each power of two', () => {
  test.each([
    [0.5, 31],
    [0.9, 63],
    [0.99, 64.5],
    [0.999, 1_023_999.5],
  ])('of %p is %p ns, the middle of its bucket', (share, expected) => {
    const histogram = [
      [31, 500],
      [63, 400],
      [64, 90],
      [510, 10],
    ] as const;
    expect(percentile(histogram, share)).toBe(expected);
  });

  test('errs by 2 % at most, up to half a minute', () => {
    for (const nanoseconds of [17, 100, 999, 12_345, 7_654_321, 30_000_000_000]) {
      const power = Math.max(Math.floor(Math.log2(nanoseconds)) - 5, 0);
      const bucket = nanoseconds < 32 ? nanoseconds : power * 32 + Math.floor(nanoseconds / 2 ** power);
      expect(Math.abs(percentile([[bucket, 1]], 0.5) / nanoseconds - 1)).toBeLessThan(0.02);
    }
  });

  test('of nothing is not a number', () => expect(percentile([], 0.5)).toBeNaN());
});

describe('the search for the highest rate without loss', () => {
  /** Loses above `limit`, cannot offer more than `generator`; both datagrams/s. */
  function engine(
    limit: number,
    generator = Infinity,
  ): { tryRate: (rate: number) => Promise<Verdict>; asked: number[] } {
    const asked: number[] = [];
    const tryRate = (rate: number): Promise<Verdict> => {
      asked.push(rate);
      const offered = Math.min(rate, generator);
      return Promise.resolve({ lost: Math.max(0, offered - limit), rate: offered });
    };
    return { tryRate, asked };
  }
  const bounds = { least: 1000, most: 10_000_000 };

  test.each([
    [100_000, 100_000],
    [100_000, 20_000],
    [100_000, 900_000],
    [1_500, 1_000_000],
    [7_000_000, 1_000],
  ])('finds %p from a guess of %p', async (limit, guess) => {
    const { rate, isLowerBound } = await highestWithoutLoss(engine(limit).tryRate, { ...bounds, guess, trials: 40 });
    expect(rate).toBeLessThanOrEqual(limit);
    expect(rate).toBeGreaterThan(limit / 1.06);
    expect(isLowerBound).toBe(false);
  });

  test('needs few trials from a good guess', async () => {
    const { tryRate, asked } = engine(100_000);
    await highestWithoutLoss(tryRate, { ...bounds, guess: 95_000 });
    expect(asked.length).toBeLessThanOrEqual(6);
  });

  test('says so when the generator is at its end first', async () => {
    const { tryRate } = engine(5_000_000, 2_000_000);
    const found = await highestWithoutLoss(tryRate, { ...bounds, guess: 1_000_000 });
    expect(found).toMatchObject({ rate: 2_000_000, isLowerBound: true });
  });

  test('asks for no more than the most, and for no less than the least', async () => {
    const fast = engine(Infinity);
    expect(await highestWithoutLoss(fast.tryRate, { ...bounds, guess: 9_000_000 })).toMatchObject({ rate: 10_000_000 });
    expect(Math.max(...fast.asked)).toBe(10_000_000);
    const dead = engine(0);
    expect(await highestWithoutLoss(dead.tryRate, { ...bounds, guess: 2_000 })).toMatchObject({ rate: 0 });
    expect(Math.min(...dead.asked)).toBe(1000);
  });

  test('has an end', async () => {
    const { tryRate, asked } = engine(100_000);
    await highestWithoutLoss(tryRate, { ...bounds, guess: 1000, trials: 5 });
    expect(asked).toHaveLength(5);
  });
});
