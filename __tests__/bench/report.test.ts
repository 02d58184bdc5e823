// SPDX-License-Identifier: Apache-2.0
import { compare, type Figures, figureTable, ratioTable } from '../../bench/report';
import { summarize } from '../../bench/statistics';
import type { Subject } from '../../bench/subjects';

function figures(subject: Subject, bytes: number, overload: number[], lossless: number[] = overload): Figures {
  return {
    ...{ subject, bytes, isLowerBound: false },
    ...{ overload: summarize(overload), lossless: summarize(lossless), offered: summarize(overload) },
  };
}

const measured = [
  figures('nfqueue', 1428, [10, 20, 30], [5, 5, 5]),
  figures('bridge', 1428, [100, 200, 100]),
  figures('driver', 1428, [1300, 2200, 1400], [100, 200, 150]),
];

test('a ratio is the median of the repetitions, and tells whether its target is met', () => {
  const all = compare(measured);
  expect(all[0]).toMatchObject({ subject: 'driver', against: 'bridge', measure: 'overload', isMet: true });
  expect(all[0]?.ratio.values).toEqual([13, 11, 14]);
  expect(all[1]).toMatchObject({ subject: 'driver', against: 'nfqueue', measure: 'lossless', isMet: true });
  expect(
    compare([measured[1], figures('driver', 1428, [100, 200, 100])].flatMap((each) => each ?? []))[0],
  ).toMatchObject({
    isMet: false,
  });
});

test('every engine is compared once with the bridge engine and the legacy program', () => {
  const pairs = compare(measured).map(({ subject, against, measure }) => `${subject}/${against} ${measure}`);
  expect(new Set(pairs).size).toBe(pairs.length);
  expect(pairs).toEqual(
    expect.arrayContaining(['bridge/nfqueue overload', 'driver/nfqueue lossless', 'nfqueue/bridge lossless']),
  );
});

test('what was not measured has no ratio', () => {
  expect(compare([figures('driver', 1428, [1])])).toEqual([]);
  const without = compare([figures('driver', 1428, [1], [NaN]), figures('bridge', 1428, [1], [NaN])]);
  expect(without.map(({ measure }) => measure)).toEqual(['overload']);
});

test('tables have a line for each and say what is a lower bound', () => {
  expect(ratioTable(compare(measured)).split('\n')).toHaveLength(compare(measured).length + 1);
  expect(figureTable([{ ...figures('driver', 1428, [1_500_000]), isLowerBound: true }])).toMatch(/>= 1500k/);
});
