// SPDX-License-Identifier: Apache-2.0
// Every claim of the migration report on speed, latency, processor, memory, cost and growth: what it says, what was measured,
// and the verdict, which figures give wherever figures can.
import { bandwidthOf } from '../../constructs/config/instance-types';
import { ENGINES, type Engine, type Results } from '../results';
import {
  boundOf,
  byStandbyOf,
  coresOf,
  costOf,
  flowsOf,
  latencyOf,
  type Measure,
  MEASURES,
  memoryOf,
  percent,
  type Rate,
  rateOf,
  ratioOf,
  rounded,
  sizesOf,
  stepOf,
} from './report';

export type Verdict = 'true' | 'partly' | 'not reached' | 'not true' | 'cannot be measured here';

export interface Claim {
  readonly claim: string;
  readonly measured: string;
  readonly verdict: Verdict;
}

/** The least IP total length that the rule takes, and what lies around it on the wire. */
const [SMALLEST_TAKEN, OUTER_HEADERS] = [1401, 50];
const LARGEST_TYPE = 'c5n.18xlarge';
const XDP = ['bridge', 'generic', 'driver'] as const satisfies readonly Engine[];
const SECOND = 1e9;
const MB = 1024 * 1024;
/** Of linear growth: what is left is noise. */
const LINEAR = 0.9;

/** One engine's, say, of those that a claim is about. */
interface Value {
  readonly name: string;
  readonly value: number;
  readonly isLowerBound?: boolean;
  readonly isUpperBound?: boolean;
}

type Bounded = Omit<Value, 'name' | 'value'> & { readonly median: number };

type State = 'holds' | 'fails' | 'open';

/** The smallest measured size that the rule takes: there the most datagrams pass, and claims are judged. */
export function sizeOfClaims(results: Results): number {
  const sizes = sizesOf(results);
  return sizes.find((bytes) => bytes >= SMALLEST_TAKEN) ?? sizes.at(-1) ?? NaN;
}

/** A value for each name that has one. */
function valuesOf<Name extends string>(
  names: readonly Name[],
  of: (name: Name) => number | Bounded | undefined,
): Value[] {
  return names.flatMap((name) => {
    const found = of(name);
    if (found === undefined) return [];
    const value = typeof found === 'number' ? { value: found } : { ...found, value: found.median };
    return Number.isFinite(value.value) ? [{ ...value, name }] : [];
  });
}

export const listed = (values: readonly Value[], text: (value: number) => string = rounded): string =>
  values.map((each) => `${each.name} ${boundOf(each)}${text(each.value)}`).join(', ') || '-';

const atLeast =
  (least: number) =>
  ({ value, isLowerBound, isUpperBound }: Value): State =>
    value >= least ? (isUpperBound ? 'open' : 'holds') : isLowerBound ? 'open' : 'fails';

const atMost =
  (most: number) =>
  ({ value, isLowerBound, isUpperBound }: Value): State =>
    value <= most ? (isLowerBound ? 'open' : 'holds') : isUpperBound ? 'open' : 'fails';

const within =
  (low: number, high: number) =>
  (value: Value): State => {
    const both = [atLeast(low)(value), atMost(high)(value)];
    return (['fails', 'open'] as const).find((state) => both.includes(state)) ?? 'holds';
  };

/** True of all is true, of some is partly. */
export function verdictOf(states: readonly State[], otherwise: 'not reached' | 'not true' = 'not reached'): Verdict {
  if (states.includes('holds')) return states.every((state) => state === 'holds') ? 'true' : 'partly';
  return states.length === 0 || states.includes('open') ? 'cannot be measured here' : otherwise;
}

interface Judged {
  readonly text?: (value: number) => string;
  readonly otherwise?: 'not reached' | 'not true';
  readonly before?: string;
  readonly after?: string;
}

function judge(
  claim: string,
  values: readonly Value[],
  by: (value: Value) => State,
  { text, otherwise, before = '', after = '' }: Judged = {},
): Claim {
  return { claim, measured: `${before}${listed(values, text)}${after}`, verdict: verdictOf(values.map(by), otherwise) };
}

const times = (value: number): string => `${rounded(value)}x`;
const perSecond = (value: number): string => `${rounded(value)}/s`;
const microseconds = (value: number): string => `${rounded(value / 1000)} us`;
const megabytes = (value: number): string => `${rounded(value / MB)} MB`;

/** Of what `nfqueue` takes, how much less. */
function lessThanNfqueue(of: (engine: Engine) => { readonly median: number } | undefined): Value[] {
  const nfqueue = of('nfqueue')?.median ?? NaN;
  return valuesOf(XDP, (engine) => 1 - (of(engine)?.median ?? NaN) / nfqueue);
}

/** No claim of ten million survives the wire: they need more than any type has. */
function tenMillion(rates: readonly Value[]): Claim {
  const needed = (1e7 * (SMALLEST_TAKEN + OUTER_HEADERS) * 8) / 1e9;
  const most = bandwidthOf(LARGEST_TYPE)?.baselineGbps ?? Infinity;
  return {
    ...judge('10,000,000+ packets/s (sustained, as a KPI)', rates, atLeast(1e7)),
    ...(needed > most ? { verdict: 'not reached' } : {}),
    measured:
      `${listed(rates, perSecond)}. 10,000,000/s of the smallest datagrams that the rule takes are ${rounded(needed)} Gbit/s, ` +
      `the largest recommended type (${LARGEST_TYPE}) has ${most}`,
  };
}

function lineRate(rates: readonly Value[], bytes: number): Claim {
  const wire = rates.map((rate) => ({ ...rate, value: (rate.value * (bytes + OUTER_HEADERS) * 8) / 1e9 }));
  return {
    claim: 'Network: line rate',
    measured: `a veth has none; at overload ${listed(wire, (value) => `${rounded(value)} Gbit/s`)}`,
    verdict: 'cannot be measured here',
  };
}

function throughput(results: Results, bytes: number): Claim[] {
  const ratios = (measure: Measure): Value[] =>
    valuesOf(XDP, (engine) => ratioOf(results, measure, engine, 'nfqueue', bytes));
  const nfqueue = MEASURES.flatMap((measure) => valuesOf([measure], () => rateOf(results, measure, 'nfqueue', bytes)));
  const left = byStandbyOf(results, 'overload', bytes);
  const rates = valuesOf(XDP, (engine) => rateOf(results, 'overload', engine, bytes));
  return [
    judge('NFQUEUE ends at some 100,000 packets/s', nfqueue, within(67_000, 150_000), {
      ...{ text: perSecond, otherwise: 'not true' },
      after:
        '; its queue is fail-open, so what it has no room for `standby` forwards' +
        (left ? `: ${percent(left.median)} at overload` : ''),
    }),
    judge('100x: from 100,000 to 10,000,000+ packets/s', ratios('overload'), atLeast(100), {
      ...{ text: times, before: 'of `nfqueue` at overload: ' },
    }),
    tenMillion(rates),
    judge('10-100x higher throughput', ratios('overload'), atLeast(10), { text: times, before: 'of `nfqueue`: ' }),
    judge('10x capacity', ratios('lossless'), atLeast(10), { text: times, before: 'of `nfqueue` without loss: ' }),
    lineRate(rates, bytes),
  ];
}

function losses(results: Results, bytes: number): Claim {
  const shares = [0.5, 0.9].flatMap((share) =>
    XDP.flatMap((engine) =>
      valuesOf([`${engine} at ${percent(share)}`], () => latencyOf(results, engine, bytes, share, 'lost')?.max),
    ),
  );
  return judge('Zero packet loss under normal load', shares, atMost(0), {
    before: 'datagrams lost in any run at a share of the highest rate without loss: ',
  });
}

function latency(results: Results, bytes: number): Claim[] {
  const of = (engine: Engine): { readonly median: number } | undefined => latencyOf(results, engine, bytes, 0.5, 'p50');
  const nfqueue = [0.5, 0.9].flatMap((share) =>
    (['p50', 'p99'] as const).flatMap((what) =>
      valuesOf([`${what} at ${percent(share)}`], () => latencyOf(results, 'nfqueue', bytes, share, what)),
    ),
  );
  const quickest = latencyOf(results, 'nfqueue', bytes, 0.5, 'p50')?.min ?? NaN;
  const less = valuesOf(XDP, (engine) => 1 - (of(engine)?.median ?? NaN) / quickest);
  const path = latencyOf(results, 'path', bytes, 0.5, 'p50');
  const own = path ? `; ${microseconds(path.median)} of it are the bench's own (\`path\`)` : '';
  const programs = valuesOf(['bridge', 'direct'] as const, (program) => stepOf(results, 'steps', program, bytes));
  const alone = programs.map((program) => ({ ...program, name: `${program.name} program alone` }));
  const whole = valuesOf(XDP, of).map((engine) => ({ ...engine, name: `${engine.name} p50` }));
  return [
    judge('Userspace processing takes 10-100 us', nfqueue, within(10_000, 100_000), {
      text: microseconds,
      otherwise: 'not true',
      before: '`nfqueue`, from sending to the last fragment: ',
    }),
    judge('Less than 1 us: sub-microsecond processing (on average, as a KPI)', [...alone, ...whole], atMost(1000), {
      text: microseconds,
      after: `, from sending to the last fragment at 50 % load${own}`,
    }),
    judge('99 % less latency', less, atLeast(0.99), {
      text: percent,
      before: 'less than `nfqueue` in its quickest run, whose runs differ most (p50, each at 50 % of its own rate): ',
      after: own,
    }),
    judge('Low-overhead statistics, per CPU', alone, atMost(1000), {
      text: microseconds,
      before: 'counting is part of the programs: ',
    }),
  ];
}

const costOver = (results: Results, bytes: number, engine: Engine): number =>
  (costOf(results, 'nfqueue', bytes)?.median ?? NaN) / (costOf(results, engine, bytes)?.median ?? NaN);

function processor(results: Results, bytes: number): Claim[] {
  const cost = (engine: Engine) => costOf(results, engine, bytes);
  /** Share of one core, at the highest rate without loss of `at`. */
  const busy = (engine: Engine, at: Engine): Bounded | undefined => {
    const rate = rateOf(results, 'lossless', at, bytes);
    const median = ((rate?.median ?? NaN) * (cost(engine)?.median ?? NaN)) / SECOND;
    return rate && { median, isLowerBound: rate.isLowerBound };
  };
  const own = valuesOf(['nfqueue'] as const, (engine) => busy(engine, engine));
  const userspace = valuesOf(
    ['of its cost'],
    () => 1 - (cost('standby')?.median ?? NaN) / (cost('nfqueue')?.median ?? NaN),
  );
  return [
    judge('CPU: 10-20 % per packet before, less than 1 % after: 95 % less', lessThanNfqueue(cost), atLeast(0.95), {
      text: percent,
      before: `a share of a processor for one packet means nothing; ns a datagram: ${listed(valuesOf(ENGINES, cost))}. Less than \`nfqueue\`: `,
    }),
    judge('CPU: 80 %+ under load before', own, atLeast(0.8), {
      text: percent,
      otherwise: 'not true',
      before: 'of one core, computed from its cost, at its highest rate without loss: ',
    }),
    judge(
      'CPU: 20 % under the same load after',
      valuesOf(XDP, (engine) => busy(engine, 'nfqueue')),
      atMost(0.2),
      { text: percent, before: 'of one core, computed from the cost, at the highest rate of `nfqueue` without loss: ' },
    ),
    judge(
      'CPU: less than 20 % under peak load (KPI)',
      valuesOf(XDP, (engine) => busy(engine, engine)),
      atMost(0.2),
      { text: percent, before: 'of one core, computed from the cost, each at its own highest rate without loss: ' },
    ),
    judge('Netfilter is limited by its trip to userspace (context switches, copies)', userspace, atLeast(0.5), {
      text: percent,
      otherwise: 'not true',
      before: 'what `nfqueue` costs more than `standby`, which clears DF in the kernel: ',
    }),
  ];
}

function memory(results: Results): Claim[] {
  const processes = valuesOf(['nfqueue'] as const, () => memoryOf(results, 'nfqueue', 'processes'));
  const all = (engine: Engine): { readonly median: number } | undefined => {
    const [own, maps] = (['processes', 'maps'] as const).map((of) => memoryOf(results, engine, of)?.median);
    return own === undefined || maps === undefined ? undefined : { median: own + maps };
  };
  const xdp = valuesOf(XDP, all);
  const alone = 'processes and maps, without the system: ';
  return [
    judge('Memory: 2 GB+ for userspace processing before', processes, atLeast(2048 * MB), {
      text: megabytes,
      otherwise: 'not true',
    }),
    judge('Memory: 512 MB suffice after', xdp, atMost(512 * MB), { text: megabytes, before: alone }),
    judge('Memory: less than 1 GB an instance (KPI)', xdp, atMost(1024 * MB), { text: megabytes, before: alone }),
    judge('Memory: 70 % less', lessThanNfqueue(all), atLeast(0.7), { text: percent, before: 'less than `nfqueue`: ' }),
    {
      claim: 'Copies take three times the memory bandwidth (elsewhere: each packet is copied twice)',
      measured: 'the bandwidth of memory is not measured; what copies take is in the cost of a datagram',
      verdict: 'cannot be measured here',
    },
    {
      claim: 'Zero-copy',
      measured:
        'by design: driver mode works in place, and a datagram of n fragments takes n - 1 copies; generic mode and `bridge` work ' +
        'on a packet that the kernel has built',
      verdict: 'partly',
    },
  ];
}

function growth(results: Results, bytes: number): Claim[] {
  const programs = valuesOf(['bridge', 'direct'] as const, (program) => {
    const [one, both] = (['steps', 'stepsOnBoth'] as const).map((on) => stepOf(results, on, program, bytes)?.median);
    return (one ?? NaN) / (both ?? NaN);
  }).map((program) => ({ ...program, name: `${program.name} program alone` }));
  const over = (rate: Rate | undefined, base: Rate | undefined): Bounded => {
    const bounds = { isLowerBound: rate?.isLowerBound === true, isUpperBound: base?.isLowerBound === true };
    return { median: (rate?.median ?? NaN) / (base?.median ?? NaN), ...bounds };
  };
  const second = (engine: Engine): Bounded => over(coresOf(results, engine, 2), coresOf(results, engine, 1));
  const engines = valuesOf(XDP, second).map((each) => ({ ...each, value: each.value / 2 }));
  const flows = [...new Set(results.runs.flatMap((run) => run.flows.map((point) => point.flows)))].sort(
    (a, b) => a - b,
  );
  const most = valuesOf(XDP, (engine) => {
    const [one, many] = [flows[0], flows.at(-1)].map((count) => flowsOf(results, engine, count ?? NaN));
    return over(many, one);
  });
  return [
    judge('Per-CPU maps: lockless, scales linearly across cores', [...programs, ...engines], atLeast(LINEAR), {
      text: percent,
      before: 'of twice what one core does, on two: ',
      after: ' (the generator has one of the two)',
    }),
    {
      claim: 'Automatic load balancing across cores',
      measured:
        'by flow, as receive queues and RPS have it: one flow stays on one core. ' +
        `Rate with the most flows over that with one: ${listed(most, times)}`,
      verdict: 'partly',
    },
    {
      claim: 'The legacy program is single-threaded',
      measured: `by its code; with a second core for the kernel's part it delivers ${listed(valuesOf(['nfqueue'] as const, second), times)}`,
      verdict: 'true',
    },
  ];
}

/** By processor alone, instances and their price can shrink no further than the cost of a datagram. */
function money(results: Results, bytes: number): Claim[] {
  const ratios = valuesOf(XDP, (engine) => costOver(results, bytes, engine));
  const most = ratios.map((each) => ({ ...each, value: 1 - 1 / each.value, isUpperBound: true }));
  const judged = (claim: string, least: number): Claim =>
    judge(claim, most, atLeast(least), {
      text: percent,
      before: 'fewer instances by processor: ',
      after: '; prices: `npm run size`',
    });
  const before = 'cost of a datagram, `nfqueue` over each: ';
  return [
    judge('Instances: 1 carries the load of 4+', ratios, atLeast(4), { text: times, before }),
    judge('Instances: 2+ before, 1 after (KPI: 50 %+ fewer)', ratios, atLeast(2), {
      ...{ text: times, before },
      after: '; one instance alone has no redundancy, whatever its speed',
    }),
    judged('Cost: 80 % less', 0.8),
    judged('Instance cost: 50-75 % less', 0.5),
    judged('Infrastructure cost: 40-60 % less (KPI)', 0.4),
    {
      claim: 'Savings of $2,000-5,000 a month',
      measured: `depends on the fleet: \`npm run size\`; bounded by the cost of a datagram, \`nfqueue\` over each: ${listed(ratios, times)}`,
      verdict: 'cannot be measured here',
    },
    {
      claim: 'Data transfer: no change',
      measured: 'every engine sends the same datagrams (`__tests__/lab/forwarding.test.ts`)',
      verdict: 'true',
    },
  ];
}

function place(results: Results, bytes: number): Claim[] {
  const gained = ratioOf(results, 'overload', 'bridge', 'nfqueue', bytes);
  return [
    {
      claim: 'XDP on br0 runs in the network driver, before the kernel builds a packet',
      measured:
        'a bridge takes XDP in generic mode only, after that; `direct` in driver mode runs there, on the primary interface. `bridge` ' +
        `of \`nfqueue\`: ${listed(
          valuesOf(['overload'], () => gained),
          times,
        )}`,
      verdict: 'partly',
    },
    {
      claim: 'Hardware offload, of the program and of checksums',
      measured:
        "EC2's interfaces run no XDP in hardware; checksums are updated by what changes, so nothing of them is left to offload",
      verdict: 'not reached',
    },
  ];
}

/** Not this bench's, so that nothing of the report is left out. */
const OPERATION: readonly Claim[] = [
  {
    claim: 'Rollback to netfilter in less than 2 minutes',
    measured: 'a gateway in less than 2 s: `__tests__/lab/stress.test.ts`',
    verdict: 'true',
  },
  {
    claim: 'Updates in less than 5 minutes',
    measured:
      'a setting on a gateway at once; a fleet is replaced gateway by gateway, ten minutes and more for each ([deployment](deployment.md))',
    verdict: 'partly',
  },
  {
    claim: '99.9 %+ availability',
    measured: 'takes a fleet and a year',
    verdict: 'cannot be measured here',
  },
  {
    claim: 'Operational overhead: 60 % less; maintenance: 50 % less',
    measured: "people's time",
    verdict: 'cannot be measured here',
  },
];

export function claimsOf(results: Results): Claim[] {
  const bytes = sizeOfClaims(results);
  return [
    ...throughput(results, bytes),
    losses(results, bytes),
    ...latency(results, bytes),
    ...processor(results, bytes),
    ...memory(results),
    ...growth(results, bytes),
    ...money(results, bytes),
    ...place(results, bytes),
    ...OPERATION,
  ];
}
