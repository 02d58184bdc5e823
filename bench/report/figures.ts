// SPDX-License-Identifier: Apache-2.0
// The figures: ratios first, since absolute ones are those of one machine, and what became of the report's claims.
import { type Claim, claimsOf, sizeOfClaims } from './claims';
import {
  type At,
  atColumns,
  BYTES,
  code,
  ENGINE,
  everywhere,
  inBytes,
  megabytes,
  microseconds,
  paragraphs,
  RANGE,
  table,
} from './markdown';
import {
  AGREEMENT,
  agreementOf,
  agreementText,
  boundOf,
  coresOf,
  costOf,
  costRateOf,
  flowsOf,
  latencyOf,
  type Measure,
  MEASURES,
  memoryOf,
  offeredOf,
  percent,
  rateOf,
  type Ratio,
  ratiosOf,
  type Reference,
  REFERENCES,
  rounded,
  show,
  showRange,
  showTarget,
  sizesOf,
  stepOf,
} from './report';
import { type Engine, ENGINES, type Results, DEVICES_UNDER_TEST } from '../results';

interface RatioRow {
  readonly bytes: number;
  readonly engine: Engine;
  readonly ratios: readonly Ratio[];
}

const OF: Readonly<Record<Reference, string>> = {
  bridge: "rate, in multiples of `bridge`'s",
  nfqueue: "rate, in multiples of `nfqueue`'s",
  baseline: "rate, as a part of `baseline`'s, for driver mode",
};

function ratioTable(results: Results, measure: Measure, explained: boolean): string {
  const all = ratiosOf(results).filter((ratio) => ratio.measure === measure);
  const rows = sizesOf(results).flatMap((bytes) =>
    ENGINES.map((engine): RatioRow => {
      const isIts = (ratio: Ratio): boolean => ratio.bytes === bytes && ratio.subject === engine;
      return { bytes, engine, ratios: all.filter(isIts) };
    }).filter(({ ratios }) => ratios.length > 0),
  );
  const targets = ({ ratios }: RatioRow): string =>
    ratios
      .filter(({ target }) => target)
      .map((ratio) => `of ${ratio.against} ${showTarget(ratio)}`)
      .join(', ');
  return table(
    [
      { title: 'bytes', meaning: BYTES, cell: ({ bytes }) => String(bytes) },
      { title: 'engine', meaning: ENGINE, cell: ({ engine }) => code(engine) },
      ...REFERENCES.map((against) => ({
        title: `of ${against}`,
        meaning: `${OF[against]}: ${RANGE}`,
        cell: ({ ratios }: RatioRow) => showRange(ratios.find((ratio) => ratio.against === against)),
      })),
      {
        title: 'spread',
        meaning: 'of the runs, (highest - lowest) / median, the largest in this row',
        cell: ({ ratios }) => percent(Math.max(...ratios.map(({ spread }) => spread))),
      },
      {
        title: 'target',
        meaning: 'what the direct engine was to reach: met, missed, or open where a bound does not decide',
        cell: targets,
      },
    ],
    rows,
    explained,
  );
}

export function ratios(results: Results): string {
  return paragraphs(
    '## Ratios',
    '![Rates in multiples of the bridge engine](performance-ratios.svg)',
    'Read these first: absolute figures are those of one machine. `≥` is a lower bound, the generator or the sink being near its ' +
      'end; `≤` an upper one, because what it is compared with may do more; `~` both, and then nobody knows which would gain more.',
    '### At overload',
    ratioTable(results, 'overload', true),
    '### Without loss',
    ratioTable(results, 'lossless', false),
    '### Do runs agree?',
    agreementText(agreementOf(results)),
    `Ratios of runs that agree differ by less than ${percent(AGREEMENT)}. \`make bench\` compares a new run with these and warns where ` +
      'a ratio fell by more than a quarter below the lowest; it never compares absolute figures.',
  );
}

export function rates(results: Results): string {
  const rate = (measure: Measure, { subject, bytes }: At) => rateOf(results, measure, subject, bytes);
  const rows = everywhere(results, DEVICES_UNDER_TEST).filter((at) => MEASURES.some((measure) => rate(measure, at)));
  const spread = (at: At): string => {
    const spreads = MEASURES.flatMap((measure) => rate(measure, at)?.spread ?? []);
    return percent(Math.max(...spreads));
  };
  return paragraphs(
    '### Rates',
    '![Rates by size and engine](performance-rates.svg)',
    table(
      [
        ...atColumns,
        {
          title: 'offered/s',
          meaning: 'datagrams offered at overload',
          cell: (at) => show(offeredOf(results, at.subject, at.bytes)),
        },
        { title: 'overload/s', meaning: 'of them came whole', cell: (at) => show(rate('overload', at)) },
        {
          title: 'without loss/s',
          meaning: 'the highest rate at which every one came: the mean of the searches',
          cell: (at) => show(rate('lossless', at)),
        },
        { title: 'spread', meaning: 'of the runs, the larger of both rates', cell: spread },
      ],
      rows,
    ),
  );
}

interface Loaded extends At {
  readonly share: number;
}

export function latency(results: Results): string {
  const all = results.runs.flatMap(({ points }) => points.flatMap((point) => point.latency ?? []));
  const shares = [...new Set(all.map(({ share }) => share))].sort((a, b) => a - b);
  const of = ({ subject, bytes, share }: Loaded, what: Parameters<typeof latencyOf>[4]) =>
    latencyOf(results, subject, bytes, share, what);
  const rows = everywhere(results, DEVICES_UNDER_TEST)
    .flatMap((at) => shares.map((share) => ({ ...at, share })))
    .filter((row) => of(row, 'p50'));
  return paragraphs(
    '### Latency',
    '![Latency by engine](performance-latency.svg)',
    table<Loaded>(
      [
        ...atColumns,
        {
          title: 'load',
          meaning: "of the subject's own highest rate without loss; `≤` where that is a lower bound",
          cell: ({ subject, bytes, share }) =>
            `${boundOf({ isUpperBound: rateOf(results, 'lossless', subject, bytes)?.isLowerBound ?? false })}${percent(share)}`,
        },
        { title: 'rate/s', meaning: 'datagrams offered, that is', cell: (row) => show(of(row, 'rate')) },
        {
          title: 'lost',
          meaning: 'datagrams that did not come, in the worst run',
          cell: (row) => rounded(of(row, 'lost')?.max ?? NaN),
        },
        ...(['p50', 'p99', 'p999'] as const).map((what) => ({
          title: `${what === 'p999' ? 'p99.9' : what} us`,
          meaning: `microseconds within which half, 99 % and 99.9 % came, from sending to the last fragment: ${RANGE}`,
          cell: (row: Loaded) => showRange(of(row, what), microseconds),
        })),
      ],
      rows,
    ),
  );
}

export function cost(results: Results): string {
  const of = ({ subject, bytes }: At) => costOf(results, subject, bytes);
  const part = (at: At): string => {
    const nfqueue = costOf(results, 'nfqueue', at.bytes)?.median ?? NaN;
    const share = (of(at)?.median ?? NaN) / nfqueue;
    return Number.isFinite(share) ? percent(share) : '-';
  };
  return paragraphs(
    '### Cost of a datagram',
    '![Processor time of a datagram](performance-cost.svg)',
    table(
      [
        ...atColumns,
        {
          title: 'rate/s',
          meaning: 'datagrams at which it was measured',
          cell: (at) => show(costRateOf(results, at.subject, at.bytes)),
        },
        { title: 'ns', meaning: "what the gateway's processor worked for each", cell: (at) => show(of(at)) },
        { title: 'of nfqueue', meaning: "the same, as a part of `nfqueue`'s", cell: part },
        { title: 'spread', meaning: 'of the runs', cell: (at) => percent(of(at)?.spread ?? NaN) },
      ],
      everywhere(results, DEVICES_UNDER_TEST).filter(of),
    ),
  );
}

export function steps(results: Results): string {
  const sizes = [...new Set(results.runs.flatMap((run) => run.steps.map(({ bytes }) => bytes)))].sort((a, b) => a - b);
  const rows = sizes.flatMap((bytes) => (['bridge', 'direct'] as const).map((program) => ({ bytes, program })));
  type Row = (typeof rows)[number];
  const on = (which: 'steps' | 'stepsOnBoth') => (row: Row) =>
    showRange(stepOf(results, which, row.program, row.bytes));
  return paragraphs(
    '### The programs alone',
    'One run of a program on one packet (`BPF_PROG_TEST_RUN`), less what an empty program takes. Each is timed by itself, as a ' +
      "program changes its packet, so that figures are no finer than the kernel's clock, which on a virtual machine may tick every 10 ns.",
    table<Row>(
      [
        { title: 'bytes', meaning: BYTES, cell: ({ bytes }) => String(bytes) },
        {
          title: 'program',
          meaning: 'of which engine',
          cell: ({ program }) => code(program),
        },
        { title: 'one, ns', meaning: `on one processor: ${RANGE}`, cell: on('steps') },
        {
          title: 'both, ns',
          meaning: `on both processors at once, the mean of both: ${RANGE}`,
          cell: on('stepsOnBoth'),
        },
      ],
      rows,
    ),
  );
}

function byEngine(
  title: string,
  meaning: string,
  counts: readonly number[],
  of: (engine: Engine, count: number) => string,
): string {
  return table<number>(
    [
      { title, meaning, cell: (count) => count.toLocaleString('en-US') },
      ...ENGINES.map((engine) => ({
        title: code(engine),
        meaning: `datagrams/s that came whole at overload, one trial a run: ${RANGE}`,
        cell: (count: number) => of(engine, count),
      })),
    ],
    counts,
  );
}

export function growth(results: Results): string {
  const { runs, how } = results;
  const distinct = (values: readonly number[]): number[] => [...new Set(values)].sort((a, b) => a - b);
  return paragraphs(
    '### Flows and cores',
    '![Rates by number of flows](performance-flows.svg)',
    `Datagrams of ${how.growthBytes} bytes.`,
    byEngine(
      'flows',
      'inner flows, in turns; the outer source port differs by flow, as in mirror sessions',
      distinct(runs.flatMap((run) => run.flows.map(({ flows }) => flows))),
      (engine, count) => showRange(flowsOf(results, engine, count)),
    ),
    byEngine(
      'cores',
      "that take the kernel's packets (RPS); one of two is the generator's, too",
      distinct(runs.flatMap((run) => run.cores.map(({ cores }) => cores))),
      (engine, count) => showRange(coresOf(results, engine, count)),
    ),
  );
}

export function memory(results: Results): string {
  return paragraphs(
    '### Memory',
    table<Engine>(
      [
        { title: 'engine', meaning: ENGINE, cell: code },
        {
          title: 'processes, MB',
          meaning:
            'resident set of its long-lived processes, the NFQUEUE daemon after an overload, a loader after its start; 0: it has none',
          cell: (engine) => show(memoryOf(results, engine, 'processes'), megabytes),
        },
        {
          title: 'maps, MB',
          meaning: 'its BPF maps',
          cell: (engine) => show(memoryOf(results, engine, 'maps'), megabytes),
        },
      ],
      ENGINES.filter((engine) => memoryOf(results, engine, 'processes')),
    ),
  );
}

export function claims(results: Results): string {
  return paragraphs(
    '## What the migration report claimed',
    'Where a claim depends on the size, the smallest datagrams that were measured and that the rule takes decide, of which most ' +
      `pass (${inBytes(sizeOfClaims(results))}).`,
    table<Claim>(
      [
        {
          title: 'claimed',
          meaning: 'in the migration report, netfilter before and XDP after',
          cell: ({ claim }) => claim,
        },
        {
          title: 'measured',
          meaning: 'here; `bridge` is what the report designed, `generic` and `driver` are the modes of `direct`',
          cell: ({ measured }) => measured,
        },
        {
          title: 'verdict',
          meaning:
            'true: of all that is listed; partly: of some; not reached: of none; not true: it is said of netfilter, and is ' +
            'not so. Figures decide wherever there are some',
          cell: ({ verdict }) => verdict,
        },
      ],
      claimsOf(results),
    ),
  );
}
