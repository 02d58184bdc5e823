// SPDX-License-Identifier: Apache-2.0
// One complete run, on a bench whose engines are known.
import { LONGER_BELOW, type Measured, Measurement, type Plan } from '../../../bench/measure/measure';
import type { Run, DeviceUnderTest } from '../../../bench/results';
import type { Near } from '../../../bench/measure/cpu-affinity';
import type { Observed } from '../../../bench/measure/devices-under-test';
import type { TrialOptions } from '../../../bench/measure/trials';

/** What each can take, datagrams/s. */
const CAPACITY: Readonly<Record<DeviceUnderTest, number>> = {
  ...{ nfqueue: 50_000, standby: 120_000, bridge: 130_000, generic: 400_000, driver: 2_000_000 },
  ...{ baseline: 4_000_000, path: 6_000_000 },
};
const GENERATOR = 1_500_000;
const WORK_NS = 2500;
const IDLE = 0.98;

interface Asked extends TrialOptions {
  readonly subject: DeviceUnderTest;
}

class KnownBench implements Measured {
  readonly asked: Asked[] = [];
  readonly placements: string[] = [];

  constructor(
    private readonly spoil: (trial: Observed, asked: Asked, before: readonly Asked[]) => Observed = (it) => it,
  ) {}

  place(placement: string, cores: readonly number[] = [1]): Promise<void> {
    this.placements.push(`${placement} ${cores.join()}`);
    return Promise.resolve();
  }

  run(subject: DeviceUnderTest, options: TrialOptions): Promise<Near<Observed>> {
    const asked = { subject, ...options };
    const seconds = options.milliseconds / 1000;
    const offered = Math.min(options.pps || GENERATOR, GENERATOR) * seconds;
    const delivered = Math.min(offered, CAPACITY[subject] * seconds);
    const worked = (delivered * WORK_NS) / 1e9 + seconds * (1 - IDLE);
    const trial = {
      ...{ offered, seconds, in_time: delivered, delivered, with_df: 0, surplus: 0, unmatched: 0 },
      ...{ latencies: [[100, delivered] as const], refused: 0, worked, elapsed: seconds },
      ...(subject === 'nfqueue' && options.bytes > 1400 && { byStandby: 0.3 }),
    };
    const result = this.spoil(trial, asked, this.asked);
    this.asked.push(asked);
    return Promise.resolve({ result, discarded: 2, isApart: subject === 'generic' });
  }

  prepare = (): Promise<void> => Promise.resolve();
  idleShare = (): Promise<number> => Promise.resolve(IDLE);
  memory = (subject: Run['memory'][number]['subject']) => Promise.resolve({ subject, processes: 1, maps: 2 });
  stepCosts = (sizes: readonly number[]) =>
    Promise.resolve(sizes.map((bytes) => ({ bytes, empty: 10, bridge: 60, direct: 200 })));
}

const PLAN: Plan = {
  ...{ subjects: ['nfqueue', 'bridge', 'generic', 'driver'], sizes: [1380, 1428], hasGrowth: true },
  ...{ repetitions: 4, searches: 2, costRepetitions: 2, searchMilliseconds: 2000 },
};

async function measured(bench: KnownBench, plan: Partial<Plan> = {}): Promise<{ run: Run; said: string[] }> {
  const said: string[] = [];
  const say = (message: string): void => void said.push(message);
  const measurement = new Measurement(bench, { ...PLAN, ...plan }, say);
  for (const { measure } of measurement.all()) await measure((_, message) => say(message));
  return { run: measurement.result(), said };
}

const pointOf = ({ points }: Run, subject: DeviceUnderTest, bytes = 1428) =>
  points.find((point) => point.subject === subject && point.bytes === bytes);

const OF_THE_KERNEL = ['nfqueue', 'standby', 'bridge', 'generic'] as const;

const isSearch = ({ milliseconds }: Asked): boolean => milliseconds >= PLAN.searchMilliseconds;

const triesOf = (asked: Asked, before: readonly Asked[]): number =>
  before.filter(({ subject, bytes, pps }) => subject === asked.subject && bytes === asked.bytes && pps === asked.pps)
    .length;

const oneLost = (trial: Observed): Observed => ({ ...trial, delivered: trial.delivered - 1 });
const halfLost = (trial: Observed): Observed => ({ ...trial, delivered: trial.offered / 2 });
const heldUp = (trial: Observed): Observed => ({ ...trial, offered: trial.offered / 2, delivered: trial.offered / 2 });
const asItIs = (trial: Observed): Observed => trial;

describe('a run', () => {
  test('finds what each engine can do, within the precision of the search, and what it costs', async () => {
    const { run } = await measured(new KnownBench());
    for (const subject of ['nfqueue', 'bridge', 'generic'] as const) {
      const { overload, lossless, cost, latency } = pointOf(run, subject) ?? { overload: [] };
      expect(overload).toEqual([1, 2, 3, 4].map(() => CAPACITY[subject]));
      expect(lossless).toHaveLength(2);
      for (const { rate, isLowerBound } of lossless ?? []) {
        expect(rate / CAPACITY[subject]).toBeGreaterThan(0.94);
        expect(rate / CAPACITY[subject]).toBeLessThanOrEqual(1);
        expect(isLowerBound).toBe(false);
      }
      expect(cost?.map(({ nanoseconds }) => nanoseconds)).toEqual([WORK_NS, WORK_NS]);
      expect(latency?.map(({ share }) => share)).toEqual([0.5, 0.9]);
    }
    expect(pointOf(run, 'driver')?.lossless).toMatchObject([{ rate: GENERATOR, isLowerBound: true }]);
    expect(pointOf(run, 'nfqueue')?.byStandby).toEqual({ overload: [0.3, 0.3, 0.3, 0.3], cost: [0.3, 0.3] });
  });

  test('measures rates in rounds through all sizes and subjects', async () => {
    const bench = new KnownBench();
    await measured(bench, { hasGrowth: false, subjects: OF_THE_KERNEL });
    const key = ({ subject, bytes }: Asked): string => `${subject} ${bytes}`;
    const all = PLAN.sizes.length * OF_THE_KERNEL.length;
    const overloads = bench.asked.filter(({ pps }) => pps === 0).map(key);
    const searches = bench.asked.filter(isSearch).map(key);
    for (const trials of [overloads, searches])
      for (const round of [0, 1]) expect(new Set(trials.slice(round * all, (round + 1) * all)).size).toBe(all);
    expect(overloads).toHaveLength(4 * all);
    const halves = bench.asked.map(({ pps }) => pps === 0);
    expect(halves.lastIndexOf(true)).toBeGreaterThan(bench.asked.findIndex(isSearch));
    expect(halves.slice(0, 2 * all)).not.toContain(false);
    expect(halves[2 * all]).toBe(false);
  });

  test.each([
    [9, 3, 'ooosooosooos'],
    [1, 3, 'os'],
    [2, 1, 'oos'],
  ])('does %p rounds of overload and %p searches by turns', async (repetitions, searches, turns) => {
    const bench = new KnownBench();
    const one = { subjects: ['bridge'], sizes: [1428], hasGrowth: false } as const;
    const { run } = await measured(bench, { ...one, repetitions, searches });
    expect(pointOf(run, 'bridge')?.lossless).toHaveLength(searches);
    const rates = bench.asked.filter((asked) => asked.pps === 0 || isSearch(asked));
    const done = rates.map(({ pps }) => (pps === 0 ? 'o' : 's')).join('');
    expect(done.replace(/s+/g, 's')).toBe(turns);
  });

  test('gives what stays in the driver the first round of each kind, and then each fourth', async () => {
    const one = { subjects: ['bridge', 'driver', 'baseline', 'path'], sizes: [1428], hasGrowth: false } as const;
    const { run } = await measured(new KnownBench(), { ...one, repetitions: 9, searches: 5 });
    const had = (subject: DeviceUnderTest): number[] => {
      const { overload = [], offered = [], lossless = [] } = pointOf(run, subject) ?? {};
      return [overload.length, offered.length, lossless.length];
    };
    expect(had('bridge')).toEqual([9, 9, 5]);
    for (const subject of ['driver', 'baseline', 'path'] as const) expect(had(subject)).toEqual([3, 3, 2]);
  });

  test('lets trials of a search last longer below a rate, in proportion', async () => {
    const bench = new KnownBench();
    await measured(bench);
    for (const { pps, milliseconds } of bench.asked.filter(isSearch))
      expect(milliseconds / (2000 * Math.max(1, LONGER_BELOW / pps))).toBeCloseTo(1, 2);
    expect(Math.max(...bench.asked.map(({ milliseconds }) => milliseconds))).toBeGreaterThan(3500);
  });

  test('tries a rate again that loses little, three times in all', async () => {
    const rateWith = async (spoiled: number): Promise<number> => {
      const bench = new KnownBench((trial, asked, before) =>
        isSearch(asked) && triesOf(asked, before) < spoiled ? oneLost(trial) : trial,
      );
      return pointOf((await measured(bench, { searches: 1 })).run, 'bridge')?.lossless?.[0]?.rate ?? NaN;
    };
    expect((await rateWith(2)) / CAPACITY.bridge).toBeGreaterThan(0.94);
    expect(await rateWith(3)).toBe(0);
  });

  test.each([
    ['fails where the others lost one', [heldUp, oneLost, oneLost], 0, false],
    ['fails where the next lost much', [heldUp, halfLost], 0, false],
    ['holds where another lost nothing', [heldUp, heldUp, asItIs], 0.94, false],
    ['is a bound where the others were held up, too', [heldUp, heldUp, heldUp], 0.4, true],
  ])('when the generator is held up, a rate %s', async (_, tries, least, isLowerBound) => {
    const bench = new KnownBench((trial, asked, before) =>
      isSearch(asked) ? (tries[triesOf(asked, before)] ?? asItIs)(trial) : trial,
    );
    const [found] = pointOf((await measured(bench, { searches: 1 })).run, 'bridge')?.lossless ?? [];
    expect(found?.isLowerBound).toBe(isLowerBound);
    expect((found?.rate ?? NaN) / CAPACITY.bridge).toBeGreaterThanOrEqual(least);
    if (least === 0) expect(found?.rate).toBe(0);
  });

  test.each([
    [1, true],
    [0.5, false],
  ])('takes a rate without loss for a bound where the sink refused %p of what was lost: %p', async (share, isBound) => {
    const bench = new KnownBench((trial) => ({ ...trial, refused: (trial.offered - trial.delivered) * share }));
    expect(pointOf((await measured(bench)).run, 'bridge')?.lossless?.[1]?.isLowerBound).toBe(isBound);
  });

  test('begins each search at the mean of those before', async () => {
    const one = { subjects: ['bridge'], sizes: [1428], hasGrowth: false } as const;
    const bench = new KnownBench((trial, asked, before) => {
      const isSecond = before.filter(({ pps }) => pps === 0).length === 2;
      return isSearch(asked) && isSecond ? { ...trial, delivered: Math.min(trial.delivered, 130_000) } : trial;
    });
    const { run } = await measured(bench, { ...one, repetitions: 3, searches: 3 });
    const [first = NaN, second = NaN] = pointOf(run, 'bridge')?.lossless?.map(({ rate }) => rate) ?? [];
    const third = bench.asked.slice(bench.asked.map(({ pps }) => pps).lastIndexOf(0)).find(isSearch);
    expect(second / first).toBeLessThan(0.6);
    expect(third?.pps).toBe(Math.round((first + second) / 2));
  });

  test('says how many trials were discarded, and how many counted with the processors apart', async () => {
    const bench = new KnownBench();
    const { trials } = (await measured(bench)).run;
    const counted = bench.asked.length;
    const apart = bench.asked.filter(({ subject }) => subject === 'generic').length;
    expect(trials).toEqual({ counted, discarded: 2 * counted, apart });
  });

  test('says which datagrams should not have come', async () => {
    const bench = new KnownBench((trial, { subject }) => (subject === 'generic' ? { ...trial, with_df: 3 } : trial));
    const { said } = await measured(bench);
    expect(said).toContainEqual(expect.stringMatching(/^generic: .* 3 with DF at 1428 bytes/));
    expect(said.filter((line) => / [1-9]\d* with DF at 1380/.test(line))).toEqual([]);
  });

  test('ends when nothing comes at all', async () => {
    const bench = new KnownBench((trial, { subject }) => ({ ...trial, ...(subject === 'bridge' && { delivered: 0 }) }));
    await expect(measured(bench)).rejects.toThrow(/^bridge: none of \d+ datagrams of 1380 bytes came/);
  });
});
