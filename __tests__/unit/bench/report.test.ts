// SPDX-License-Identifier: Apache-2.0
import {
  agreementOf,
  agreementText,
  compareWith,
  latencyOf,
  rateOf,
  ratioOf,
  ratiosOf,
  show,
  stepOf,
  summaryTables,
} from '../../../bench/report/report';
import type { Point, Results, Run, DeviceUnderTest } from '../../../bench/results';
import { results, run } from './fixtures';

const EMPTY: Run = { ...run(), points: [], flows: [], cores: [], steps: [], stepsOnBoth: [], memory: [] };

function at(subject: DeviceUnderTest, overload: readonly number[], lossless?: number, isLowerBound = false): Point {
  return {
    ...{ subject, bytes: 1428, offered: overload.map(() => 10_000), overload, refusedBySink: [0] },
    ...(lossless === undefined ? {} : { lossless: [{ rate: lossless, isLowerBound, trials: 5 }] }),
  };
}

const of = (...runs: readonly (readonly Point[])[]): Results =>
  results(...runs.map((points): Run => ({ ...EMPTY, points })));

describe('a ratio', () => {
  test('of a run is that of the means of its repetitions; over runs the median, the extremes and the spread', () => {
    const ratio = ratioOf(
      of(
        [at('driver', [100, 900, 200]), at('bridge', [12, 1, 47])],
        [at('driver', [220]), at('bridge', [10])],
        [at('driver', [230]), at('bridge', [10])],
      ),
      ...(['overload', 'driver', 'bridge', 1428] as const),
    );
    expect(ratio).toMatchObject({ values: [20, 22, 23], median: 22, min: 20, max: 23 });
    expect(ratio?.spread).toBeCloseTo(3 / 22);
  });

  test('is a lower bound when the engine is above 80 % of what the generator can offer', () => {
    const bound = (driver: number) =>
      ratioOf(
        of([at('driver', [driver]), at('bridge', [10]), at('path', [1000])]),
        ...(['overload', 'driver', 'bridge', 1428] as const),
      )?.isLowerBound;
    expect(bound(800)).toBe(false);
    expect(bound(801)).toBe(true);
  });

  test('is a lower bound when all came that the generator offered', () => {
    const offered = (rate: number) =>
      ratioOf(
        of([{ ...at('driver', [120]), offered: [rate] }, at('bridge', [10])]),
        ...(['overload', 'driver', 'bridge', 1428] as const),
      )?.isLowerBound;
    expect([offered(121), offered(130)]).toEqual([true, false]);
  });

  test("is a lower bound when the sink's ring refused more than 2 % of what the engine sent in any of the trials", () => {
    const refused = (...shares: readonly number[]) =>
      ratioOf(
        of([{ ...at('generic', [120]), refusedBySink: shares }, at('bridge', [10])]),
        ...(['overload', 'generic', 'bridge', 1428] as const),
      )?.isLowerBound;
    expect([refused(0.01, 0.03, 0.01), refused(0.01, 0.02, 0.01)]).toEqual([true, false]);
  });

  test('is a lower bound when in one run the generator ended before the search did', () => {
    const ratio = ratioOf(
      of([at('driver', [], 50, true), at('nfqueue', [], 10)], [at('driver', [], 50), at('nfqueue', [], 10)]),
      ...(['lossless', 'driver', 'nfqueue', 1428] as const),
    );
    expect(ratio).toMatchObject({ median: 5, isLowerBound: true, isUpperBound: false });
    expect(show(ratio)).toBe('≥ 5');
  });

  test('is a lower bound when one of the searches, of which it is the mean, ended at a bound', () => {
    const bound = (...searches: readonly (readonly [rate: number, isLowerBound: boolean])[]) => {
      const lossless = searches.map(([rate, isLowerBound]) => ({ rate, isLowerBound, trials: 5 }));
      const both = of([{ ...at('driver', []), lossless }, at('nfqueue', [], 10)]);
      return ratioOf(both, 'lossless', 'driver', 'nfqueue', 1428)?.isLowerBound;
    };
    expect(bound([50, false], [51, true], [52, false])).toBe(true);
    expect(bound([50, false], [51, false], [52, false])).toBe(false);
  });

  test('is a lower bound when in one of the trials all came of what was offered in it', () => {
    const driver = { ...at('driver', [100, 60, 110]), offered: [104, 1000, 1000] };
    const ratio = ratioOf(of([driver, at('bridge', [10])]), 'overload', 'driver', 'bridge', 1428);
    expect(ratio).toMatchObject({ median: 9, isLowerBound: true });
  });

  test('is an upper bound when that is true of what the engine is compared with', () => {
    const both = of([at('driver', [900]), at('baseline', [950]), at('path', [1000])]);
    expect(show(ratioOf(both, 'overload', 'driver', 'baseline', 1428))).toMatch(/^~ 0\.94/);
    const one = of([at('driver', [700]), at('baseline', [950]), at('path', [1000])]);
    expect(show(ratioOf(one, 'overload', 'driver', 'baseline', 1428))).toMatch(/^≤ 0\.73/);
  });

  test('of what was not measured, or of a rate of zero, there is none', () => {
    expect(ratiosOf(of([at('driver', [1])]))).toEqual([]);
    const none = ratioOf(of([at('driver', [5], 5), at('bridge', [5], 0)]), 'lossless', 'driver', 'bridge', 1428);
    expect(none).toBeUndefined();
    expect(ratiosOf(results(EMPTY))).toEqual([]);
  });

  test('skips a run that lacks a side', () => {
    const ratio = ratioOf(
      of([at('driver', [4]), at('bridge', [2])], [at('driver', [4])]),
      ...(['overload', 'driver', 'bridge', 1428] as const),
    );
    expect(ratio?.values).toEqual([2]);
  });
});

describe('a target', () => {
  const result = (driver: number, path: number, bridge = 10) =>
    ratioOf(
      of([at('driver', [driver]), at('bridge', [bridge]), at('path', [path])]),
      ...(['overload', 'driver', 'bridge', 1428] as const),
    )?.target?.result;

  test.each([
    ['met', 120, 1000],
    ['met by a lower bound', 120, 121],
    ['missed', 119, 1000],
    ['open when a lower bound is below it', 119, 121],
  ])('is %s', (expected, driver, path) => expect(result(driver, path)).toBe(expected.split(' ')[0]));

  test('is open when an upper bound is above it', () => {
    const ratio = ratioOf(
      of([
        { ...at('driver', [90]), bytes: 1380 },
        { ...at('baseline', [95]), bytes: 1380 },
      ]),
      ...(['overload', 'driver', 'baseline', 1380] as const),
    );
    expect(ratio?.target).toEqual({ least: 0.85, result: 'met' });
    const bound = ratioOf(
      of([
        { ...at('driver', [90]), bytes: 1380 },
        { ...at('baseline', [95]), bytes: 1380 },
        { ...at('path', [115]), bytes: 1380 },
      ]),
      ...(['overload', 'driver', 'baseline', 1380] as const),
    );
    expect(bound?.target?.result).toBe('open');
  });

  test('is missed below it even where both are bounds, because what they share draws them together', () => {
    const close = (driver: number) =>
      ratioOf(
        of([
          { ...at('driver', [driver]), bytes: 1380, offered: [driver] },
          { ...at('baseline', [100]), bytes: 1380, offered: [100] },
        ]),
        ...(['overload', 'driver', 'baseline', 1380] as const),
      );
    expect(close(80)).toMatchObject({ isLowerBound: true, isUpperBound: true, target: { result: 'missed' } });
    expect(close(90)?.target?.result).toBe('open');
  });

  test('belongs to one ratio only', () => {
    const all = ratiosOf(results()).filter(({ target }) => target);
    expect(all.map(({ measure, bytes, subject, against }) => [measure, bytes, `${subject}/${against}`])).toEqual([
      ['overload', 1380, 'generic/bridge'],
      ['overload', 1380, 'driver/baseline'],
      ['overload', 1428, 'generic/bridge'],
      ['overload', 1428, 'driver/bridge'],
      ['lossless', 1428, 'driver/nfqueue'],
    ]);
  });
});

test('what the generator can offer is no bound of itself', () => {
  expect(rateOf(results(), 'overload', 'path', 1428)?.isLowerBound).toBe(false);
  expect(rateOf(results(), 'lossless', 'path', 1428)?.isLowerBound).toBe(false);
});

test('figures are found by what they were measured at, and what was not measured is shown as -', () => {
  expect(show(latencyOf(results(), 'generic', 1428, 0.9, 'p50'))).toBe('15,200');
  expect(latencyOf(results(), 'generic', 1428, 0.7, 'p50')).toBeUndefined();
  expect(stepOf(results(), 'steps', 'direct', 1428)?.median).toBe(200);
  expect(show(undefined)).toBe('-');
});

describe('runs', () => {
  test('agree when no ratio differs by more than 15 %, whatever the machine did to absolute figures', () => {
    const agreement = agreementOf(results(run(0.5), run(), run(1.5)));
    expect(agreement.apart).toEqual([]);
    expect(agreement.compared.length).toBeGreaterThan(20);
    expect(agreementText(agreement)).toMatch(/^3 complete runs\. Of (\d+) ratios without a bound, \1 differ/);
  });

  test.each([
    [114, 0],
    [117, 2],
  ])('of which one has a ratio of 1 and the other one of %p/100: %p are apart', (rate, apart) => {
    const engines = (bridge: number): Point[] => [at('bridge', [bridge]), at('nfqueue', [100])];
    expect(agreementOf(of(engines(100), engines(rate))).apart).toHaveLength(apart);
  });

  test('that do not agree are named, bounds apart from the rest', () => {
    const engines = (bridge: number, driver: number): Point[] => [
      ...[at('bridge', [bridge]), at('nfqueue', [100]), at('driver', [driver]), at('path', [1000])],
    ];
    const agreement = agreementOf(of(engines(100, 950), engines(80, 950)));
    expect(agreement.apart.map(({ subject, against }) => `${subject}/${against}`)).toEqual([
      ...['nfqueue/bridge', 'bridge/nfqueue'],
    ]);
    expect(agreement.boundsApart.map(({ subject, against }) => `${subject}/${against}`)).toEqual(['driver/bridge']);
    expect(agreementText(agreement)).toMatch(
      /Apart: 1428 bytes, overload: nfqueue\/bridge \(22.*\. Of the 2 with a bound, 1 do\. .*: 1428 .* driver\/bridge/,
    );
  });

  test('are not compared when there is only one', () => {
    expect(agreementText(agreementOf(results(run())))).toBe('1 complete run: whether others agree is not known.');
  });
});

describe('the regression check', () => {
  const slower = (subject: DeviceUnderTest, factor: number): Results => {
    const fresh = run();
    const points = fresh.points.map((point) =>
      point.subject === subject ? { ...point, overload: point.overload.map((rate) => rate * factor) } : point,
    );
    return results({ ...fresh, points });
  };

  test('says nothing when nothing changed, or all of the machine did', () => {
    expect(compareWith(results(), results())).toEqual([]);
    expect(compareWith(results(), results(run(0.3)))).toEqual([]);
  });

  test('says nothing about a quarter, and names size, engine, reference, was and is of more', () => {
    expect(compareWith(results(), slower('driver', 0.76))).toEqual([]);
    const lines = compareWith(results(), slower('driver', 0.7));
    expect(lines).toHaveLength(12);
    expect(lines).toContain(
      '1428 bytes, overload: driver/bridge was 7.58 (lowest 7.58), is 5.3: more than 25 % below the lowest',
    );
  });

  test('does not miss what a part of a run leaves out', () => {
    expect(compareWith(results(), results(EMPTY))).toEqual([]);
    expect(compareWith(results(EMPTY), results())).toEqual([]);
  });
});

describe('the tables for the terminal', () => {
  test('begin with ratios, and say what is a bound and what became of targets', () => {
    const [first = '', second = ''] = summaryTables(results()).split('\n\n');
    expect(first).toMatch(/^bytes +measure +engine +\/bridge/);
    expect(first).toMatch(/1428 +overload +generic +3\.64 .*\/bridge ≥ 2: met/);
    expect(second).toMatch(/8486 +bridge +1,900,000 +11,100 +8,890 +22,500 +27\.6 +82\.8/);
  });

  test.each([
    ['nothing', results(EMPTY)],
    ['overload alone', of([at('bridge', [5]), at('driver', [50])])],
    ['no repetition', of([at('bridge', []), at('driver', [], 5)])],
  ])('stand with %s measured', (_, part) => expect(summaryTables(part)).not.toMatch(/NaN|undefined|Infinity/));
});
