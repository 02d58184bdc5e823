// SPDX-License-Identifier: Apache-2.0
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { type Engine, ENGINES, type Point, type Results } from '../../../bench/results';
import { answer, DEFAULT_INSTANCE } from '../../../bench/size';
import * as sizing from '../../../bench/report/sizing';
import { table } from '../../../bench/report/table';
import { checkedInContext } from '../../../constructs/config/context';
import { bandwidthOf, isRecommended } from '../../../constructs/config/instance-types';
import { EC2_FRAGMENTS_PER_SECOND, fragmentsOf, LARGEST_IN_DRIVER_MODE } from '../../../constructs/config/limits';
import { REPOSITORY, run } from '../../../lab/support/host';
import { results as fixtures } from './fixtures';

const SIZES = [1380, 1428, 2852, 3400];
const CAREFUL = { headroom: 0.5, spare: 0, speed: 1, fragmentBypass: false };
/** What leaves is whole, as by default. */
const WHOLE = 9001;
const MEASURED = sizing.MEASURED_EGRESS_MTU;
const load = (pps: number, bytes: number, egressMtu = WHOLE): sizing.Load => ({ pps, bytes, egressMtu });

function point(subject: Engine, bytes: number, nanoseconds: number): Point {
  return { subject, bytes, offered: [], overload: [], refusedBySink: [], cost: [{ rate: 1000, nanoseconds }] };
}

/** Runs with nothing in them but costs. */
function results(...runs: readonly Point[][]): Results {
  const trials = { counted: 0, discarded: 0, apart: 0 };
  const empty = { date: '', seconds: 0, trials, flows: [], cores: [], steps: [], stepsOnBoth: [], memory: [] };
  return {
    how: fixtures().how,
    machine: { cpu: 'Example CPU', cores: 2, kernel: '6.18', load: [] },
    software: { commit: '', clang: '' },
    runs: runs.map((points) => ({ ...empty, points })),
  };
}

const measured = (cost: sizing.Cost, sizes = SIZES) =>
  sizes.map((bytes) => ({
    bytes,
    nanoseconds: sizing.nanosecondsFor(cost, bytes, fragmentsOf(bytes, MEASURED)),
  }));

/** An engine that takes as much for every datagram. */
const flat = (nanoseconds: number) => sizing.fit(measured({ datagram: nanoseconds, fragment: 0, byte: 0 }));

function instance(type: string): sizing.Instance {
  const found = sizing.INSTANCES.find((each) => each.type === type);
  if (found === undefined) throw new Error(`${type} is not among the inputs`);
  return found;
}

function need(...args: Parameters<typeof sizing.size>): sizing.Need {
  const found = sizing.size(...args);
  if ('reason' in found) throw new Error(found.reason);
  return found;
}

describe('the model of what a datagram costs', () => {
  test('counts fragments as the gateway cuts them', () => {
    const sizes = [28, 1400, 1401, 2776, 2777, 8486];
    expect(sizes.map((bytes) => fragmentsOf(bytes, 1400))).toEqual([1, 1, 2, 2, 3, 7]);
    expect(sizes.map((bytes) => fragmentsOf(bytes, WHOLE))).toEqual([1, 1, 1, 1, 1, 1]);
    // 552 bytes in each fragment but the last, which has room for 556.
    expect([576, 577, 1128, 1129].map((bytes) => fragmentsOf(bytes, 576))).toEqual([1, 2, 2, 3]);
  });

  test('finds the cost of a datagram, a fragment more and a byte again', () => {
    const cost = { datagram: 300, fragment: 150, byte: 0.25 };
    const found = sizing.fit(measured(cost));
    expect(found?.cost.datagram).toBeCloseTo(300);
    expect(found?.cost.fragment).toBeCloseTo(150);
    expect(found?.cost.byte).toBeCloseTo(0.25);
    expect(found?.error?.worst).toBeCloseTo(0);
  });

  test('states how far it is off what was measured', () => {
    const [first, second] = [100, 120].map((nanoseconds) => ({ bytes: 1380, nanoseconds }));
    const found = sizing.fit([first, second].flatMap((each) => each ?? []));
    const cost = found?.cost.datagram ?? NaN;
    const off = [cost / 100 - 1, 1 - cost / 120];
    expect(found?.error?.worst).toBeCloseTo(Math.max(...off));
    expect(found?.error?.mean).toBeCloseTo(((off[0] ?? NaN) + (off[1] ?? NaN)) / 2);
    expect(found?.error?.worst).toBeLessThan(0.1);
  });

  test('has no term below zero, even where that would fit better', () => {
    const falling = [400, 300, 200, 100].map((nanoseconds, at) => ({ bytes: SIZES[at] ?? 0, nanoseconds }));
    const found = sizing.fit(falling);
    const { datagram, fragment, byte } = found?.cost ?? { datagram: NaN, fragment: NaN, byte: NaN };
    expect(Math.min(datagram, fragment, byte)).toBe(0);
    expect(found?.error?.worst).toBeGreaterThan(0.5);
  });

  test('makes do with few sizes, and then says nothing of its error', () => {
    expect(sizing.fit([])).toBeUndefined();
    expect(sizing.fit(measured({ datagram: 10, fragment: 0, byte: 0 }, [1380]))).toMatchObject({
      cost: { datagram: 10, fragment: 0, byte: 0 },
    });
    const two = sizing.fit(measured({ datagram: 10, fragment: 5, byte: 0 }, [1380, 1428]));
    expect(two?.cost.fragment).toBeCloseTo(5);
    expect(two).not.toHaveProperty('error');
  });

  test('tells a datagram from a fragment only where something is cut', () => {
    const found = sizing.fit(measured({ datagram: 10, fragment: 5, byte: 0.01 }, [500, 1000, 1380]));
    expect(found?.cost).toMatchObject({ datagram: expect.closeTo(10) as number, fragment: 0 });
  });

  test('takes the median of all runs, of one engine', () => {
    const runs = [30, 10, 20].map((cost) => [point('bridge', 1380, cost), point('driver', 1380, 1)]);
    const without = { ...point('bridge', 1428, 1), cost: undefined } as unknown as Point;
    expect(sizing.measuredCosts(results(...runs, [without]), 'bridge')).toEqual([{ bytes: 1380, nanoseconds: 20 }]);
  });
});

describe('the number of gateways', () => {
  const small = instance('c5n.large');

  test('follows the processor time that a load takes', () => {
    // Two vCPUs, half of each, 10 us a datagram: 100 000/s.
    expect(need('bridge', load(99_999, 1380), flat(10_000), small, CAREFUL)).toMatchObject({
      ...{ gateways: 1, limit: 'processor', nanoseconds: expect.closeTo(10_000) as number },
    });
    expect(need('bridge', load(100_001, 1380), flat(10_000), small, CAREFUL).gateways).toBe(2);
  });

  test('is limited by the bandwidth that comes in where the mirror adds more than fragments do', () => {
    const found = need('generic', load(1_000_000, 1380), flat(1), small, CAREFUL);
    expect(found).toMatchObject({ limit: 'bandwidth in', gateways: Math.ceil((1_000_000 * 8 * (1380 + 64)) / 3e9) });
  });

  test('is limited by the bandwidth that goes out where large datagrams leave in fragments', () => {
    const [cut, bypass] = [load(100_000, 8486, MEASURED), { ...CAREFUL, fragmentBypass: true }];
    const bits = 8 * (8486 - 20 + 7 * 34);
    const gateways = Math.ceil((100_000 * bits) / 3e9);
    expect(need('generic', cut, flat(1), small, bypass)).toMatchObject({ limit: 'bandwidth out', gateways });
  });

  test.each([...ENGINES])("of %s is limited by EC2's fragments a second, if anything leaves in fragments", (engine) => {
    const limit = "EC2's fragment limit";
    const large = instance('c5n.2xlarge');
    const asked = (pps: number, egressMtu: number, fragmentBypass = false) =>
      need(engine, load(pps, 2852, egressMtu), flat(1000), large, { ...CAREFUL, fragmentBypass });
    // Three fragments each: 341 whole datagrams and a third of one, whatever the processor could do.
    const most = Math.floor(EC2_FRAGMENTS_PER_SECOND / 3);
    expect(asked(most, MEASURED)).toMatchObject({ limit, gateways: 1 });
    expect(asked(most + 1, MEASURED)).toMatchObject({ limit, gateways: 2 });
    expect(asked(20_000, MEASURED)).toMatchObject({ limit, gateways: Math.ceil(20_000 / (1024 / 3)) });
    expect(asked(20_000, WHOLE).gateways).toBe(1);
    expect(asked(20_000, WHOLE).limit).not.toBe(limit);
    expect(asked(20_000, MEASURED, true).gateways).toBe(1);
  });

  test('follows from what a datagram costs in the fragments that it leaves in', () => {
    const found = sizing.fit(measured({ datagram: 300, fragment: 150, byte: 0 }));
    const asked = (egressMtu: number) => need('bridge', load(1, 2852, egressMtu), found, small, CAREFUL).nanoseconds;
    expect(asked(WHOLE)).toBeCloseTo(300);
    expect(asked(MEASURED)).toBeCloseTo(600);
  });

  test('has half of the vCPUs in driver mode, and no more than two of the NFQUEUE daemon', () => {
    const large = instance('c5n.2xlarge');
    const vcpus = (engine: Engine) => sizing.usableVcpus(engine, large);
    expect([vcpus('driver'), vcpus('generic'), vcpus('nfqueue')]).toEqual([4, 8, 2]);
    expect(sizing.usableVcpus('generic', { ...large, enaQueues: 2 })).toBe(2);
  });

  test('has spare gateways on top, and a price for all', () => {
    const found = need('bridge', load(1000, 1380), flat(10_000), small, { ...CAREFUL, spare: 1 });
    expect(found.gateways).toBe(2);
    expect(found.monthly).toBeCloseTo(2 * 0.108 * 730);
  });

  test('falls with faster vCPUs', () => {
    const faster = need('bridge', load(399_999, 1380), flat(10_000), small, { ...CAREFUL, speed: 2 });
    expect(faster).toMatchObject({ nanoseconds: expect.closeTo(5000) as number, gateways: 2 });
  });

  test('does not exist where an engine cannot carry the load', () => {
    const asked = (engine: Engine, bytes: number, on = small) =>
      sizing.size(engine, load(1, bytes), flat(1), on, CAREFUL);
    expect(asked('driver', LARGEST_IN_DRIVER_MODE)).toHaveProperty('gateways', 1);
    expect(asked('driver', LARGEST_IN_DRIVER_MODE + 1)).toEqual({ reason: 'takes at most 3448 bytes' });
    expect(asked('generic', LARGEST_IN_DRIVER_MODE + 1)).toHaveProperty('gateways', 1);
    expect(asked('driver', 1380, { ...small, enaQueues: 1 })).toEqual({ reason: 'needs two queues' });
    const unmeasured = sizing.size('bridge', load(1, 1380), undefined, small, CAREFUL);
    expect(unmeasured).toEqual({ reason: 'was not measured' });
  });

  test('is marked where a size lies beyond those measured', () => {
    const isExtrapolated = (bytes: number) =>
      need('bridge', load(1, bytes, MEASURED), flat(1), small, CAREFUL).isExtrapolated;
    expect([1379, 1380, 3400, 3401].map(isExtrapolated)).toEqual([true, false, false, true]);
  });

  test('is marked where datagrams leave in another number of fragments than those measured: whole, for one', () => {
    const isExtrapolated = (bytes: number, egressMtu: number) =>
      need('bridge', load(1, bytes, egressMtu), flat(1), small, CAREFUL).isExtrapolated;
    expect([1400, 1401, 2852].map((bytes) => isExtrapolated(bytes, WHOLE))).toEqual([false, true, true]);
    expect([1400, 1401, 2852].map((bytes) => isExtrapolated(bytes, 1300))).toEqual([true, false, false]);
  });
});

describe('the inputs', () => {
  test("begin with the stack's instance type, and are those that its alarms are judged by", () => {
    expect(DEFAULT_INSTANCE).toBe(checkedInContext().ec2_instance_type);
    expect(sizing.INSTANCES[0]?.type).toBe(DEFAULT_INSTANCE);
    expect(sizing.INSTANCES.map(({ type }) => bandwidthOf(type))).toEqual(sizing.INSTANCES);
  });

  test('have every size of the recommended families, and what else is worth a comparison', () => {
    const sizesOf = (family: string) =>
      sizing.INSTANCES.flatMap(({ type }) => (type.startsWith(`${family}.`) ? [type.slice(family.length + 1)] : []));
    expect(sizesOf('c5n')).toEqual(['large', 'xlarge', '2xlarge', '4xlarge', '9xlarge', '18xlarge', 'metal']);
    expect(sizesOf('m5n')).toEqual([
      ...['large', 'xlarge', '2xlarge', '4xlarge', '8xlarge', '12xlarge', '16xlarge', '24xlarge', 'metal'],
    ]);
    expect(sizing.INSTANCES.some(({ type }) => !isRecommended(type))).toBe(true);
  });

  test('have no burst below their baseline', () => {
    sizing.INSTANCES.forEach(({ baselineGbps, burstGbps }) => expect(burstGbps).toBeGreaterThanOrEqual(baselineGbps));
  });

  test('have a source for each', () => {
    const { sources, instances, ...rest } = JSON.parse(
      fs.readFileSync(path.join(REPOSITORY, 'constructs/config/instances.json'), 'utf8'),
    ) as { sources: { data: string[]; of: string }[]; instances: Record<string, unknown>[]; hoursAMonth: number };
    const named = sources.filter(({ of }) => of.startsWith('https://')).flatMap(({ data }) => data);
    const data = instances.flatMap((each) => Object.keys(each)).filter((key) => key !== 'type');
    expect(rest.hoursAMonth).toBe(730);
    expect([...new Set([...data, 'hoursAMonth'])].sort()).toEqual(named.sort());
  });
});

describe('npm run size', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'size-'));
  const file = path.join(folder, 'performance.json');
  const asked = (...args: string[]) => answer(['--results', file, ...args]);
  afterAll(() => fs.rmSync(folder, { recursive: true }));
  beforeAll(() => {
    const points = ENGINES.flatMap((engine, at) =>
      SIZES.map((bytes) => point(engine, bytes, 20_000 / (at + 1) + 100 * fragmentsOf(bytes, MEASURED))),
    );
    fs.writeFileSync(file, JSON.stringify(results(points)));
  });

  test('prints a line for each engine, its error and what it takes for granted', () => {
    const said = asked('--pps', '500000', '--bytes', '1428');
    expect(said).toMatch(/^500,000 datagrams\/s of 1428 bytes, whole\nc5n.large: 2 vCPUs on one core, 3 Gbit\/s/);
    expect(said).toMatch(/\nbridge +6,767\* +4 +315 +processor\n/);
    for (const engine of ENGINES.filter((each) => each !== 'nfqueue'))
      expect(said).toMatch(new RegExp(`\n${engine} .* 0.0 % +0.0 % +4  1380 to 3400\n`));
    // It never sees those that stay whole.
    expect(said).toMatch(/\nnfqueue .* +3 +1428 to 3400\n/);
    ['Example CPU', '--speed', 'pps-allowance-exceeded', 'Prices change', '70 %'].forEach((text) =>
      expect(said).toContain(text),
    );
    expect(said).toContain('EC2 drops all beyond 1,024 IP fragments/s of a gateway; here none leave.');
  });

  test("says where EC2's fragment limit decides, whatever the engine, and what it is", () => {
    const args = ['--pps', '500000', '--bytes', '1428', '--egress-mtu', '1400'];
    const said = asked(...args);
    expect(said).toMatch(/^500,000 datagrams\/s of 1428 bytes, 2 fragments each\n/);
    // 512 datagrams/s of each gateway, and one to spare.
    for (const engine of ENGINES)
      expect(said).toMatch(new RegExp(`\n${engine} +[\\d,]+ +978 +77,106 +EC2's fragment limit\n`));
    expect(said).toContain('Nitro system considerations for performance tuning');
    // 20.2 us each, 70 % of two vCPUs: 69 307/s for each of 8, and one to spare.
    const past = asked(...args, '--fragment-bypass');
    expect(past).toMatch(/\nnfqueue +20,200 +9 +710 +processor\n/);
    expect(past).not.toContain("EC2's fragment limit\n");
    expect(past).toContain("EC2's limit of 1,024 IP fragments/s is taken for bypassed (--fragment-bypass).");
  });

  test('says why an engine has no number, and marks what is extrapolated', () => {
    const said = asked('--pps', '1000', '--bytes', '8000');
    expect(said).toMatch(/\ndriver +- +- +- +takes at most 3448 bytes\n/);
    expect(said).toMatch(/\ngeneric +[\d,]+\* /);
    expect(asked('--pps', '1000', '--bytes', '1380')).not.toMatch(/\d\* /);
  });

  test('compares all instance types', () => {
    const said = asked('--pps', '500000', '--bytes', '1428', '--instance', 'all');
    sizing.INSTANCES.forEach(({ type }) => expect(said).toContain(`\n${type} `));
    const [, cheapest, price] = /\nCheapest: \w+ on ([\w.]+), ([\d,]+) USD;/.exec(said) ?? [];
    const prices = [...said.matchAll(/ for ([\d,]+)/g)].map(([, text]) => Number(text?.replace(',', '')));
    expect(Number(price?.replace(',', ''))).toBe(Math.min(...prices));
    expect(said).toMatch(new RegExp(`\n${cheapest}.* for ${price}`));
  });

  test('explains itself', () => {
    expect(answer(['--help'])).toMatch(/^usage: npm run size -- --pps NUMBER --bytes NUMBER/);
  });

  test.each([
    [['--bytes', '1428'], '--pps is missing: give a whole number from 1 to 1000000000'],
    [['--pps', '1', '--bytes', '27'], "--bytes '27': give a whole number from 28 to 8486"],
    [['--pps', '1', '--bytes', '8487'], "--bytes '8487': give a whole number from 28 to 8486"],
    [['--pps', '1', '--bytes', '28', '--headroom', '1.1'], "--headroom '1.1': give a number from 0.05 to 1"],
    [['--pps', '1', '--bytes', '28', '--speed', 'fast'], "--speed 'fast': give a number from 0.1 to 10"],
    [['--pps', '1', '--bytes', '28', '--spare', '-1'], "Option '--spare' argument is ambiguous"],
    [
      ['--pps', '1', '--bytes', '28', '--egress-mtu', '575'],
      "--egress-mtu '575': give a whole number from 576 to 9001",
    ],
    [['--instance', 't2.nano'], /^--instance 't2.nano': give one of c5n.large, .*, all$/],
    [['--colour'], "Unknown option '--colour'"],
  ])('refuses %j', (args, message) => expect(() => asked(...args)).toThrow(message));

  test('says where results come from when there are none', () => {
    const other = (name: string) => () => answer(['--pps', '1', '--bytes', '28', '--results', path.join(folder, name)]);
    fs.writeFileSync(path.join(folder, 'text'), 'no JSON');
    fs.writeFileSync(path.join(folder, 'object'), '{}');
    expect(other('none')).toThrow(/none' does not exist: give a file that make bench wrote$/);
    expect(other('text')).toThrow(/text' cannot be read: give a file that make bench wrote$/);
    expect(other('object')).toThrow(/object' has no results: give a file that make bench wrote$/);
  });

  test('ends with 1 and one line on stderr when it cannot answer', async () => {
    const ended = await run('npm', ['run', '--silent', 'size', '--', '--pps', '0'], { cwd: REPOSITORY });
    expect(ended).toEqual({
      ...{ code: 1, stdout: '' },
      stderr: "size: --pps '0': give a whole number from 1 to 1000000000; see --help\n",
    });
  });
});

test('a table has its numbers to the right, and words to the left', () => {
  expect(
    table(
      ['name', 'number'],
      [
        ['a', '1'],
        ['long word', '1,000*'],
        ['b', '-'],
      ],
    ),
  ).toBe(['name       number', 'a               1', 'long word  1,000*', 'b               -'].join('\n'));
});
