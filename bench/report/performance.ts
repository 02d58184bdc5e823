// SPDX-License-Identifier: Apache-2.0
// `npm run performance`: docs/performance.md and its charts, made from docs/performance.json alone, so that no sentence in them
// outlives the figures it is about.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LARGEST_IN_DRIVER_MODE } from '../../constructs/config/limits';
import { REPOSITORY } from '../../lab/support/host';
import { chartsOf } from './charts';
import { type Claim, claimsOf, sizeOfClaims, type Verdict } from './claims';
import {
  AGREEMENT,
  agreementOf,
  agreementText,
  ALL,
  boundOf,
  byStandbyOf,
  coresOf,
  costOf,
  costRateOf,
  flowsOf,
  latencyOf,
  type Measure,
  MEASURES,
  memoryOf,
  NEAR_LIMIT,
  offeredOf,
  percent,
  rateOf,
  type Ratio,
  ratioOf,
  ratiosOf,
  REFUSED,
  type Reference,
  REFERENCES,
  rounded,
  show,
  showRange,
  showTarget,
  sizesOf,
  stepOf,
} from './report';
import { answer } from '../size';
import {
  CHECKED_IN,
  ENGINES,
  type Engine,
  readResults,
  type Results,
  type Run,
  type Subject,
  SUBJECTS,
} from '../results';

interface Column<Row> {
  readonly title: string;
  /** Columns beside each other with the same one are explained together. */
  readonly meaning: string;
  readonly cell: (row: Row) => string;
}

/** Every column is explained, below the table or (`explained` false) below one before it. */
function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], explained = true): string {
  if (rows.length === 0) return 'Not measured.';
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(columns.map(({ title }) => title)),
    line(columns.map(() => '---')),
    ...rows.map((row) => line(columns.map(({ cell }) => cell(row)))),
    '',
    ...(explained ? meaningsOf(columns) : ['Columns as above.']),
  ].join('\n');
}

function meaningsOf<Row>(columns: readonly Column<Row>[]): string[] {
  return [...new Set(columns.map(({ meaning }) => meaning))].map((meaning) => {
    const titles = columns.filter((column) => column.meaning === meaning).map(({ title }) => title);
    return `- **${titles.join(', ')}**: ${meaning}`;
  });
}

const microseconds = (value: number): string => rounded(value / 1000);
const megabytes = (value: number): string => rounded(value / 1024 / 1024);
const code = (name: string): string => `\`${name}\``;
const inBytes = (bytes: number): string => (Number.isFinite(bytes) ? `${bytes} bytes` : '-');
const paragraphs = (...parts: readonly string[]): string => parts.filter((part) => part !== '').join('\n\n');
const bullets = (...parts: readonly string[]): string =>
  parts
    .filter((part) => part !== '')
    .map((part) => `- ${part}`)
    .join('\n');

const SUBJECTS_ARE: Readonly<Record<Subject, string>> = {
  nfqueue: 'the legacy program behind NFQUEUE; what its queue has no room for, `standby` does',
  standby: 'one nftables rule on br0',
  bridge: "the migration report's design: XDP on br0, in generic mode",
  generic: 'the `direct` engine in generic mode, on the primary interface',
  driver: 'the `direct` engine in driver mode',
  baseline: 'no gateway: a program in the driver that only takes off the outer headers and redirects',
  path: 'no gateway: what the generator can offer, counted at the primary interface',
};

const RANGE = 'median (lowest to highest run)';

const BYTES =
  'IP total length of the mirrored datagrams. Measured with 1400 for `egress_mtu` and `min_packet_size`: up to that they stay whole ' +
  'and keep DF, so that `nfqueue`, `standby` and `bridge` have nothing to do with them: there the three are one way, and their ' +
  'differences noise. Longer ones are cut, which by default they are not (`egress_mtu` 9001)';
const ENGINE = 'who has the datagrams, see [above](#how-it-is-measured)';

function machine({ how, machine, software, runs }: Results): string {
  const hours = runs.reduce((sum, { seconds }) => sum + seconds, 0) / 3600;
  const facts = [
    ['machine', `${machine.cpu}, ${machine.cores} processors, load ${machine.load.map(rounded).join(' ')}`],
    ['kernel', `Linux ${machine.kernel}`],
    ['commit', software.commit],
    ['compiler', software.clang],
    [
      'complete runs',
      `${runs.length} (${runs.map(({ date }) => date.slice(0, 10)).join(', ')}), ${rounded(hours)} hours`,
    ],
    [
      'repetitions in a run',
      `overload ${how.repetitions}, rate without loss ${how.searches}, cost ${how.costRepetitions}; in the driver one in ` +
        `${how.inDriverEvery} of the first two`,
    ],
    ['a trial', `${how.milliseconds / 1000} s, of a search for a rate without loss ${how.searchMilliseconds / 1000} s`],
    ['offered at overload', how.overload === 0 ? 'as much as the generator can' : `${rounded(how.overload)}/s`],
  ];
  return ['| | |', '| --- | --- |', ...facts.map(([what = '', is = '']) => `| ${what} | ${is} |`)].join('\n');
}

function trialsOf({ runs }: Results): string {
  const sum = (key: keyof Run['trials']): string =>
    runs.reduce((all, { trials }) => all + trials[key], 0).toLocaleString('en-US');
  return `${sum('discarded')} trials were discarded; ${sum('counted')} count, ${sum('apart')} of them although the processors were apart.`;
}

function howItIsMeasured(results: Results): string {
  const { how } = results;
  const subjects = table(
    [
      { title: 'subject', meaning: 'as tables and charts name it', cell: (subject: Subject) => code(subject) },
      { title: 'what it is', meaning: 'who has the datagrams', cell: (subject: Subject) => SUBJECTS_ARE[subject] },
    ],
    SUBJECTS,
  );
  return paragraphs(
    '## How it is measured',
    machine(results),
    'Gateways of three network namespaces and two pairs of veth, with the settings, rules and programs of a real one: each subject has ' +
      'its own. Rates are measured in rounds: a round is one trial of every size and subject, so that whatever disturbs the machine ' +
      `disturbs all, and no figure in all its trials. What stays in the driver takes part in one of ${how.inDriverEvery}: it ends ` +
      'where the generator does, and varies half as much. A figure is the median of the complete runs, the value of a run the mean of ' +
      'its repetitions: a shared machine is now quick, now slow, for seconds at a time, and the median of a few trials is that of ' +
      'whichever state had the majority.',
    bullets(
      '**Generator**: frames that an XDP program writes and paces in the kernel (live frames of `BPF_PROG_TEST_RUN`). **Sink**: an ' +
        'XDP program in the driver behind the secondary interface. It counts datagrams whose fragments all came; a fragment alone ' +
        'is worth nothing.',
      `**Their own limit** is the subject \`path\`. A figure above ${percent(NEAR_LIMIT)} of it in any run is a lower bound (≥): ` +
        'the generator is as much its limit as the engine. So is, at overload, one where in any of its trials more than ' +
        `${percent(ALL)} came of what the generator offered, or the frames for which the sink's ring had no room could be more than ` +
        `${percent(REFUSED)} of what the engine sent; without loss, one where in any of its searches the generator could offer no more, or such ` +
        'frames could be all that was lost at the rate above. Every trial counts them.',
      '**Rates and latency**: the generator and the polling of the primary interface share core 0; RPS hands what becomes a ' +
        'packet of the kernel to core 1. What stays in the driver (`driver`, `baseline`, `path`) shares core 0 with the generator and ' +
        'the sink, so its figures contain their work, too. Behind the others the sink works on core 1: a kernel that sends a packet ' +
        'to it copies it into a frame first. The legacy program is kept on core 1, too.',
      `**Without loss**: the search of RFC 2544, section 26.1: the highest rate of a trial in which every datagram came. A run's first ` +
        `search begins at nine tenths of what came at overload, each later one at the mean of those before. A trial that ` +
        `loses up to ${percent(how.much)} is repeated in a later round, and so is one in which the generator was held up; a rate fails ` +
        `when one loses more, or of ${how.tries} none is without loss. Below ` +
        `${rounded(how.longerBelow)}/s trials last longer in proportion: what the kernel's queues take in before they lose something has ` +
        'to be a small part of a trial.',
      `**Queues**: the kernel takes packets from the queue of RPS in turns of ${how.devWeight} (\`net.core.dev_weight\`), by ` +
        'default of 64, and the sink takes 64 frames from its ring in a turn. With fragments more come than go, the ring (256 frames) ' +
        `would fill up, and the sink be the limit. The queue (\`net.core.netdev_max_backlog\`) holds ${how.backlog.overload} at ` +
        `overload: a longer one that is always full does not fit into a processor's caches. Else it holds ` +
        `${how.backlog.other}: a processor of a virtual machine stands still for some milliseconds now and then.`,
      '**Processors near each other**: the host of a virtual machine moves its processors every few seconds. Where the two share no ' +
        'cache, what one hands to the other takes several times as long. So a trial begins while they do, and is discarded when they ' +
        'do not at its end. What waiting and repeating take is, in all, no longer than the trials that count, and a minute; beyond ' +
        `that, a trial counts as it is. ${trialsOf(results)}`,
      '**Latency**: each datagram carries the time at which it was made; the sink compares when its last fragment came ' +
        '(`bpf_ktime_get_ns`), in a histogram with a resolution of 3 %. Live frames leave in batches, so a part of it is the ' +
        "bench's own: all that `path` shows.",
      "**Cost of a datagram**: a kernel thread on core 1 polls the primary interface, so that all of a gateway's work is on core 1. " +
        'What it is not idle (`/proc/stat`), less what it is not at rest, divided by the datagrams that came, at half the highest ' +
        "rate without loss. The sink is in it, and is all of `path`; here it takes the kernel's packets as they are (tc), frames of the " +
        'driver as above.',
      '**Memory**: resident set of the long-lived processes, memory of the BPF maps (`memlock`).',
    ),
    subjects,
  );
}

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

function ratios(results: Results): string {
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

interface At<S extends Subject = Subject> {
  readonly bytes: number;
  readonly subject: S;
}

const atColumns: readonly Column<At>[] = [
  { title: 'bytes', meaning: BYTES, cell: ({ bytes }) => String(bytes) },
  { title: 'subject', meaning: ENGINE, cell: ({ subject }) => code(subject) },
];

const everywhere = <S extends Subject>(results: Results, subjects: readonly S[]): At<S>[] =>
  sizesOf(results).flatMap((bytes) => subjects.map((subject) => ({ bytes, subject })));

function rates(results: Results): string {
  const rate = (measure: Measure, { subject, bytes }: At) => rateOf(results, measure, subject, bytes);
  const rows = everywhere(results, SUBJECTS).filter((at) => MEASURES.some((measure) => rate(measure, at)));
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

function latency(results: Results): string {
  const all = results.runs.flatMap(({ points }) => points.flatMap((point) => point.latency ?? []));
  const shares = [...new Set(all.map(({ share }) => share))].sort((a, b) => a - b);
  const of = ({ subject, bytes, share }: Loaded, what: Parameters<typeof latencyOf>[4]) =>
    latencyOf(results, subject, bytes, share, what);
  const rows = everywhere(results, SUBJECTS)
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

function cost(results: Results): string {
  const of = ({ subject, bytes }: At) => costOf(results, subject, bytes);
  const part = (at: At): string => {
    const legacy = costOf(results, 'nfqueue', at.bytes)?.median ?? NaN;
    const share = (of(at)?.median ?? NaN) / legacy;
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
      everywhere(results, SUBJECTS).filter(of),
    ),
  );
}

function steps(results: Results): string {
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

function growth(results: Results): string {
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

function memory(results: Results): string {
  return paragraphs(
    '### Memory',
    table<Engine>(
      [
        { title: 'engine', meaning: ENGINE, cell: code },
        {
          title: 'processes, MB',
          meaning:
            'resident set of its long-lived processes, the legacy program after an overload, a loader after its start; 0: it has none',
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

function claims(results: Results): string {
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

function bridgeLimit(results: Results, bytes: number): string {
  const [step, whole] = [stepOf(results, 'steps', 'bridge', bytes), costOf(results, 'bridge', bytes)];
  if (!step || !whole) return '';
  const share = step.median / whole.median;
  return (
    `\`bridge\`: its program takes ${show(step)} of the ${show(whole)} ns that a datagram costs (${percent(share)}). ` +
    (share < 0.2
      ? "The rest is the kernel's way from VXLAN over the bridge and DNAT to fragments: that is its limit, and a faster program would change nothing."
      : 'The program is a good part of that.')
  );
}

/** Beyond what scheduling alone makes of it. */
const LONG_WAIT_NS = 20_000_000;

function leftToStandby(results: Results, bytes: number): string {
  const [overload, cost] = (['overload', 'cost'] as const).map((at) => byStandbyOf(results, at, bytes));
  if (!overload || !cost) return '';
  const late = Math.max(
    ...[0.5, 0.9].map((share) => latencyOf(results, 'nfqueue', bytes, share, 'p99')?.median ?? NaN),
  );
  return (
    ` Of the datagrams of \`nfqueue\`, its queue left ${percent(overload.median)} to \`standby\` at overload, ` +
    `${percent(cost.median)} where its cost was measured.` +
    (late > LONG_WAIT_NS
      ? ` The kernel's part of the work goes before the program's: what is in its queue waits up to ${rounded(late / 1e6)} ms (p99).`
      : '')
  );
}

function legacyLimit(results: Results, bytes: number): string {
  const [rule, legacy] = [costOf(results, 'standby', bytes), costOf(results, 'nfqueue', bytes)];
  if (!rule || !legacy) return '';
  const more = legacy.median - rule.median;
  const share = more / legacy.median;
  return (
    `\`standby\` and \`nfqueue\`: the same way; the trip to userspace costs ${rounded(more)} ns more, ${percent(share)} of the ` +
    `${show(legacy)} ns of \`nfqueue\`, so ${share > 0.5 ? 'userspace' : "the kernel's way, not userspace,"} is the larger part.` +
    leftToStandby(results, bytes)
  );
}

function genericLimit(results: Results, bytes: number): string {
  const [step, whole] = [stepOf(results, 'steps', 'direct', bytes), costOf(results, 'generic', bytes)];
  if (!step || !whole) return '';
  return (
    `\`generic\`: ${show(whole)} ns a datagram, of which the program's first part takes ${show(step)}; the rest is to build the ` +
    "kernel's packet, and to send it and its fragments."
  );
}

function driverLimit(results: Results, bytes: number): string {
  const [rate, ratio] = [
    rateOf(results, 'overload', 'driver', bytes),
    ratioOf(results, 'overload', 'driver', 'baseline', bytes),
  ];
  if (!rate || !ratio) return '';
  return (
    `\`driver\`: ${show(ratio)} of what \`baseline\` delivers, which does nothing but to take off the outer headers. ` +
    (rate.isLowerBound
      ? 'Its rate is a lower bound: the generator works on the same core, and with a core to itself `driver` may do more.'
      : 'It shares its core with the generator and the sink, and what is left of that core is its limit.')
  );
}

function limits(results: Results, bytes: number): string {
  const all = [bridgeLimit, legacyLimit, genericLimit, driverLimit].map((limit) => limit(results, bytes));
  return paragraphs(
    '## What limits each engine',
    all.some(Boolean) ? `At ${bytes} bytes:` : 'Not measured.',
    bullets(...all),
  );
}

const isAlike = ({ median }: Ratio): boolean => Math.abs(median - 1) <= AGREEMENT;

/** A rate is not all: what a datagram costs decides how many others the processor has time for. */
function costBeside(results: Results, bytes: number, engine: Engine, against: Engine): string {
  const [one, other] = [engine, against].map((each) => costOf(results, each, bytes)?.median ?? NaN);
  const ratio = (one ?? NaN) / (other ?? NaN);
  return Number.isFinite(ratio) ? ` A datagram costs ${rounded(ratio)} times the processor.` : '';
}

function ruleOrBridge(results: Results, bytes: number): string {
  const ratio = ratioOf(results, 'overload', 'standby', 'bridge', bytes);
  if (!ratio) return '';
  const delivers =
    `One nftables rule (\`standby\`) delivers ${show(ratio)} times what XDP on the bridge does.` +
    costBeside(results, bytes, 'standby', 'bridge');
  if (isAlike(ratio)) return `${delivers} They are alike: speed is no reason to choose \`bridge\`.`;
  return ratio.median > 1
    ? `${delivers} So XDP on the bridge makes a gateway slower than the rule that is always there.`
    : `${delivers} So \`bridge\` is worth choosing where \`direct\` cannot run.`;
}

function legacyOrBridge(results: Results, bytes: number): string {
  const ratio = ratioOf(results, 'overload', 'bridge', 'nfqueue', bytes);
  if (!ratio) return '';
  return (
    `The report's design, XDP on br0, delivers ${show(ratio)} times what the legacy program does` +
    (isAlike(ratio) ? ': going from one to the other makes no gateway faster.' : '.') +
    costBeside(results, bytes, 'bridge', 'nfqueue')
  );
}

function whyDirect(results: Results, bytes: number): string {
  const rule = ratioOf(results, 'overload', 'standby', 'bridge', bytes);
  return rule && isAlike(rule) ? ' The gain is in leaving out the bridge, not in XDP by itself.' : '';
}

function direct(results: Results, bytes: number): string {
  const modes = (['generic', 'driver'] as const).flatMap(
    (mode) => ratioOf(results, 'overload', mode, 'nfqueue', bytes) ?? [],
  );
  if (modes.length === 0) return '';
  const times = modes.map((ratio) => `in ${ratio.subject} mode ${show(ratio)} times`).join(', ');
  const isWorth = modes.some(({ median }) => median > 1 + AGREEMENT);
  return (
    `\`direct\` delivers ${times} what the legacy program does.` +
    (isWorth ? whyDirect(results, bytes) : ' That is no gain.')
  );
}

function driverOrGeneric(results: Results, bytes: number): string {
  const ratio = ratioOf(results, 'overload', 'driver', 'generic', bytes);
  if (!ratio) return '';
  const is = `${show(ratio)} times as fast as generic mode`;
  return ratio.median > 1 + AGREEMENT || ratio.isLowerBound
    ? `Driver mode is ${is}, at [its price](engines.md#driver-mode): datagrams of ${LARGEST_IN_DRIVER_MODE} bytes at most, a ` +
        'smaller MTU, links that flap on ENA. Choose it where they fit and generic mode is not enough.'
    : `Driver mode is ${is}: here [its price](engines.md#driver-mode) buys nothing.`;
}

const CHOICES = [direct, legacyOrBridge, ruleOrBridge, driverOrGeneric];

function choice(results: Results, bytes: number): string {
  const all = CHOICES.map((sentence) => sentence(results, bytes));
  return paragraphs(
    '## What this means for the choice',
    all.some(Boolean) ? `At overload, ${bytes} bytes:` : 'Not measured.',
    bullets(...all),
    '`xdp_engine=auto` takes `direct` where it can run, in driver mode where sizes and interfaces fit.',
  );
}

const VERDICTS: readonly Verdict[] = ['true', 'partly', 'not reached', 'not true', 'cannot be measured here'];

function inShort(results: Results, bytes: number): string {
  const verdicts = claimsOf(results).map(({ verdict }) => verdict);
  const counts = VERDICTS.map((verdict) => ({ verdict, count: verdicts.filter((each) => each === verdict).length }));
  const said = counts.filter(({ count }) => count > 0).map(({ verdict, count }) => `${count} ${verdict}`);
  return bullets(
    direct(results, bytes),
    legacyOrBridge(results, bytes),
    `Of ${verdicts.length} [claims of the migration report](#what-the-migration-report-claimed): ${said.join(', ')}.`,
  );
}

function benchLimits({ machine }: Results): string {
  return paragraphs(
    '## Limits of this bench',
    bullets(
      'A veth is not ENA: no DMA, no interrupts, no queues of hardware, no allowances of EC2. What the driver itself costs is not in here.',
      `One machine of ${machine.cores} processors. How a gateway of many grows is not shown: with two cores, one is the generator's as well.`,
      'The generator and what stays in the driver share a core. That makes driver mode look slower than it is, and nearer to `baseline`.',
      "Rates and latencies of the others contain the sink's copy of each packet, which driver mode is spared: ratios of driver mode to " +
        'them are too high by that, ratios among them too near to 1. Ratios of cost are free of it.',
      'Live frames fit in a page. Datagrams of more than 3000 bytes come from a packet socket, which offers less.',
      'All datagrams of a trial have one size, and all are to be forwarded. Mixed traffic lies between.',
      'Turns of a few packets cost those engines a little that have packets from the queue of RPS, which `driver` and `baseline` have not.',
      'Whether processors stay near each other while a trial lasts is not seen, and slow engines have longer ones.',
      'A rate without loss hangs on a single datagram, so that a core that is held up decides it now and then; the rates at ' +
        'overload tell more.',
      "Trials last seconds. What hours do to a gateway, the lab's tests look at.",
    ),
  );
}

/** The document alone. */
export function documentOf(results: Results): string {
  const bytes = sizeOfClaims(results);
  const parts = [
    '# Performance',
    '<!-- Written by `npm run performance` from performance.json: change bench/report/performance.ts, not this. -->',
    'What each engine of a gateway delivers, loses and costs, measured side by side (`make bench`), and what became of the ' +
      "migration report's claims. All of it is computed from [performance.json](performance.json).",
    inShort(results, bytes),
    howItIsMeasured(results),
    ratios(results),
    paragraphs('## Absolute figures', 'Medians of the complete runs.', rates(results)),
    ...[latency, cost, steps, growth, memory, claims].map((part) => part(results)),
    limits(results, bytes),
    choice(results, bytes),
    benchLimits(results),
  ];
  return `${paragraphs(...parts)}\n`;
}

/** Of a datagram that becomes no fragments, and of two that do. */
const SHOWN_SIZES = [1380, 1428, 2852] as const;

function throughput(results: Results): string {
  const best = [...ENGINES].reverse();
  const rows = best.map((engine) => [
    code(engine),
    ...SHOWN_SIZES.map((bytes) =>
      engine === 'bridge' ? '1' : show(ratioOf(results, 'overload', engine, 'bridge', bytes)),
    ),
    show(ratioOf(results, 'lossless', engine, 'nfqueue', 1428)),
    show(costOf(results, engine, 1428)),
  ]);
  const head = ['engine', ...SHOWN_SIZES.map(inBytes), 'without loss, 1428 bytes', 'ns a datagram'];
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
}

const SIZE_EXAMPLE = ['--pps', '500000', '--bytes', '1428'];

function sizeExample(results: Results): string {
  return `\`\`\`\n$ npm run --silent size -- ${SIZE_EXAMPLE.join(' ')}\n${answer(SIZE_EXAMPLE, results)}\n\`\`\``;
}

/** A document of the repository, with a part of it written anew. */
function withPart(file: string, name: string, part: string): string {
  const document = readFileSync(join(REPOSITORY, file), 'utf8');
  const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const [before, rest] = document.split(begin);
  const after = rest?.split(end)[1];
  if (after === undefined) throw new Error(`${file} has no '${begin}' before '${end}': write both where it belongs`);
  return `${before}${begin}\n\n${part}\n\n${end}${after}`;
}

/** What is written, by its path in the repository. */
export function filesOf(results: Results): Record<string, string> {
  const charts = Object.entries(chartsOf(results, sizeOfClaims(results)));
  return {
    ...Object.fromEntries(
      ['README.md', 'docs/engines.md'].map((file) => [file, withPart(file, 'throughput', throughput(results))]),
    ),
    'docs/sizing.md': withPart('docs/sizing.md', 'size', sizeExample(results)),
    'docs/performance.md': documentOf(results),
    ...Object.fromEntries(charts.map(([name, svg]) => [`docs/performance-${name}.svg`, svg])),
  };
}

export function writeDocuments(results: Results): void {
  for (const [file, content] of Object.entries(filesOf(results))) writeFileSync(join(REPOSITORY, file), content);
}

if (require.main === module) writeDocuments(readResults(CHECKED_IN));
