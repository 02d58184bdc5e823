// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { apart, chartsOf } from '../../../bench/report/charts';
import { type Claim, claimsOf, verdictOf } from '../../../bench/report/claims';
import { documentOf, filesOf } from '../../../bench/report/performance';
import { CHECKED_IN, readResults, type Results, type Run, type DeviceUnderTest } from '../../../bench/results';
import { REPOSITORY } from '../../../lab/support/host';
import { results, run, SIZES } from './fixtures';

describe('the checked-in figures', () => {
  test('are those that the README, docs and charts show (make performance writes them anew)', () => {
    for (const [file, content] of Object.entries(filesOf(readResults(CHECKED_IN))))
      expect({ file, content: readFileSync(join(REPOSITORY, file), 'utf8') }).toEqual({ file, content });
  });
});

/** With the rates of some subjects multiplied. */
function withRates(factors: Partial<Record<DeviceUnderTest, number>>): Results {
  const fresh = run();
  const points = fresh.points.map((point) => {
    const factor = factors[point.subject] ?? 1;
    const { lossless } = point;
    return {
      ...{ ...point, overload: point.overload.map((rate) => rate * factor) },
      ...(lossless ? { lossless: lossless.map((found) => ({ ...found, rate: found.rate * factor })) } : {}),
    };
  });
  return results({ ...fresh, points });
}

const EMPTY: Run = { ...run(), points: [], flows: [], cores: [], steps: [], stepsOnBoth: [], memory: [] };

describe('the document', () => {
  const text = documentOf(results());

  test('explains every column of every table below it, or below one before it that has the same', () => {
    const tables = [...text.matchAll(/^(\|.*)\n\| --- [^]*?(?=\n#|\n\|.*\n\| --- |$(?![^]))/gm)].map(
      ([all, head = '']) => ({
        titles: head.split('|').map((cell) => cell.trim()).filter(Boolean), // prettier-ignore
        explained: [...all.matchAll(/^- \*\*(.+?)\*\*: /gm)].map(([, names]) => `, ${names}, `),
      }),
    );
    expect(tables.flatMap(({ titles }) => titles).length).toBeGreaterThan(40);
    tables.forEach(({ titles, explained }, index) => {
      const before = tables.slice(0, index).find((other) => other.titles.join() === titles.join());
      const all = explained.length > 0 ? explained : (before?.explained ?? []);
      expect(titles.filter((title) => !all.some((names) => names.includes(`, ${title}, `)))).toEqual([]);
    });
  });

  test('has ratios before absolute figures, and machine, kernel and commit before both', () => {
    const places = ['Sample CPU', 'Linux 6.12.0', '0123456789abcdef', '## Ratios', '## Absolute figures'].map((part) =>
      text.indexOf(part),
    );
    expect(places).toEqual([...places].sort((a, b) => a - b));
    expect(places).not.toContain(-1);
  });

  test('marks a figure near the end of the generator as a lower bound', () => {
    expect(text).not.toMatch(/\| ≥/);
    const bound = documentOf(withRates({ path: 0.7 }));
    expect(bound).toMatch(/^\| 1428 \| `driver` \| 1,900,000 \| ≥ 500,000 \|/m);
    expect(bound).toMatch(/^\| 1 \| 60,000 \| 64,000 \| 66,000 \| 240,000 \| ≥ 500,000 \|/m);
  });

  test('says how long queues were, and how many trials counted', () => {
    expect(text).toContain('in turns of 16 (`net.core.dev_weight`)');
    expect(text).toMatch(/netdev_max_backlog`\) holds 1000 at overload.* Else it holds 4000:/);
    expect(text).toContain('150 trials were discarded; 3,000 count, 3 of them although the processors were apart.');
  });

  test('calls a load a share of a bound where the rate without loss is one', () => {
    expect(text).toMatch(/^\| 1428 \| `driver` \| 50 % \|/m);
    expect(documentOf(withRates({ path: 0.5 }))).toMatch(/^\| 1428 \| `driver` \| ≤ 50 % \|/m);
  });

  test('shows every chart, and every size of every engine', () => {
    for (const name of Object.keys(chartsOf(results(), 1428))) expect(text).toContain(`](performance-${name}.svg)`);
    for (const bytes of SIZES) expect(text).toMatch(new RegExp(`^\\| ${bytes} \\| \`nfqueue\` \\| 1,900,000`, 'm'));
  });

  test('says so where one nftables rule comes close to XDP on the bridge, and where it does not', () => {
    expect(text).toContain('They are alike: speed is no reason to choose `bridge`.');
    expect(documentOf(withRates({ standby: 1.5 }))).toContain('makes a gateway slower than the rule');
    expect(documentOf(withRates({ standby: 0.5 }))).toContain('`bridge` is worth choosing where');
  });

  test('sells no engine by figures that it does not have', () => {
    const slow = documentOf(withRates({ generic: 0.2, driver: 0.1 }));
    expect(slow).toContain('That is no gain.');
    expect(slow).toContain('buys nothing');
    expect(slow).not.toContain('The gain is in');
  });

  test('is not about absolute figures where runs disagree', () => {
    expect(documentOf(results(run(0.5), run(2)))).toContain('2 complete runs. Of 84 ratios without a bound, 84 differ');
  });

  test.each([
    ['nothing', EMPTY],
    [
      'rates alone',
      {
        ...EMPTY,
        points: run().points.map(({ subject, bytes, offered, overload }) => ({
          ...{ subject, bytes, offered, overload, refusedBySink: [] },
        })),
      },
    ],
    ['one engine', { ...run(), points: run().points.filter(({ subject }) => subject === 'bridge') }],
    ['steps alone', { ...EMPTY, steps: run().steps }],
  ])('stands with %s measured', (_, part) => {
    for (const content of Object.values(filesOf(results(part)))) expect(content).not.toMatch(/NaN|undefined|Infinity/);
  });
});

describe('claims', () => {
  const claim = (words: string, of: Results = results()): Claim | undefined =>
    claimsOf(of).find((each) => each.claim.includes(words));

  test.each([
    ['100x', 'not reached', /driver 8\.33x/],
    ['10,000,000+ packets/s (sustained', 'not reached', /116 Gbit\/s/],
    ['10x capacity', 'not reached', /without loss/],
    ['Userspace processing takes', 'partly', /p99 at 50 % 111 us/],
    ['sub-microsecond', 'partly', /direct program alone 0\.2 us, bridge p50 27\.6 us/],
    ['95 % less', 'partly', /generic 80\.6 %, driver 96\.3 %/],
    ['2 GB+', 'not true', /nfqueue 4 MB/],
    ['512 MB', 'true', /4\.38 MB/],
    ['load of 4+', 'partly', /bridge 1\.42x, generic 5\.16x, driver 26\.7x/],
    ['Zero packet loss', 'true', /bridge at 50 % 0/],
    ['80 % less', 'cannot be measured here', /bridge ≤ 29\.4 %/],
  ])('"%s" is %s', (words, verdict, measured) => {
    expect(claim(words)).toMatchObject({ verdict, measured: expect.stringMatching(measured) as string });
  });

  test('become true with the figures', () => {
    expect(claim('10-100x', withRates({ bridge: 20, generic: 20, driver: 20, path: 100 }))?.verdict).toBe('true');
    expect(claim('10-100x', withRates({ driver: 20, path: 100 }))?.verdict).toBe('partly');
    expect(claim('CPU: 20 % under the same load', withRates({ nfqueue: 0.2 }))?.verdict).toBe('true');
  });

  test('are not refused by a figure that only the generator limits', () => {
    expect(claim('100x', withRates({ path: 0.7 }))).toMatchObject({
      ...{ verdict: 'cannot be measured here', measured: expect.stringContaining('driver ≥ 8.33x') as string },
    });
  });

  test('are not granted for a figure that only the generator limits', () => {
    expect(claim('some 100,000 packets/s', withRates({ nfqueue: 1.6 }))?.verdict).toBe('true');
    expect(claim('some 100,000 packets/s', withRates({ nfqueue: 1.6, path: 0.1 }))?.verdict).toBe(
      'cannot be measured here',
    );
  });

  test('have a verdict each when nothing was measured, and none of a figure', () => {
    const all = claimsOf(results(EMPTY));
    expect(all).toHaveLength(claimsOf(results()).length);
    expect(claim('100x', results(EMPTY))).toMatchObject({ verdict: 'cannot be measured here' });
  });

  test.each([
    [['holds', 'holds'], 'true'],
    [['holds', 'fails'], 'partly'],
    [['holds', 'open'], 'partly'],
    [['fails', 'open'], 'cannot be measured here'],
    [['fails'], 'not reached'],
    [[], 'cannot be measured here'],
  ] as const)('of %j are %s', (states, verdict) => expect(verdictOf(states)).toBe(verdict));
});

describe('charts', () => {
  test('are the same whatever was drawn before', () => {
    expect(chartsOf(results(), 1428)).toEqual(chartsOf(results(), 1428));
  });

  test('say what they show and in which unit', () => {
    const { rates = '', latency = '', cost = '', flows = '' } = chartsOf(results(), 1428);
    for (const words of ['datagrams/s', 'bytes', 'the generator', 'driver', 'At overload'])
      expect(rates).toContain(words);
    for (const words of ['microseconds', 'p99.9', 'At 90 %']) expect(latency).toContain(words);
    for (const words of ['ns a datagram', '16,000']) expect(cost).toContain(words);
    expect(flows).toContain('10,000');
  });

  test('have a hollow mark for a lower bound, and for an upper one', () => {
    const hollow = (colour: string): RegExp => new RegExp(`fill="#ffffff" stroke="${colour}"`);
    const [driver, nfqueue] = ['#cc79a7', '#d55e00'].map(hollow) as [RegExp, RegExp];
    expect(chartsOf(withRates({ path: 0.7 }), 1428).rates).toMatch(driver);
    expect(chartsOf(results(), 1428).rates).not.toMatch(driver);
    expect(chartsOf(withRates({ bridge: 3, path: 0.3 }), 1428).ratios).toMatch(nfqueue);
    expect(chartsOf(results(), 1428).ratios).not.toMatch(nfqueue);
  });

  test.each([
    [
      [10, 100],
      [10, 100],
    ],
    [
      [50, 50],
      [40, 60],
    ],
    [
      [50, 60, 200],
      [45, 65, 200],
    ],
    [[10, 12, 31], [0, 20, 40].map((at) => at - 7 / 3)],
    [[], []],
  ])('names at %j go to %j', (wanted, places) => {
    apart(wanted, 20).forEach((at, index) => expect(at).toBeCloseTo(places[index] ?? NaN));
  });
});
