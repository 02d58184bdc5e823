// SPDX-License-Identifier: Apache-2.0
// `npm run size`: how many gateways a mirrored load needs with each engine, and what they cost a month. sizing.ts has the model.
import { parseArgs } from 'node:util';
import {
  EC2_FRAGMENTS_PER_SECOND,
  fragmentsOf,
  LARGEST_MIRRORED,
  SMALLEST_DATAGRAM,
} from '../constructs/config/limits';
import { decimal, oneOf, UsageError, whole } from './options';
import { CHECKED_IN, type Engine, ENGINES, readResults, type Results } from './results';
import {
  type Assumptions,
  costsAs,
  CURRENCY,
  type Fit,
  fit,
  type Instance,
  INSTANCES,
  type Load,
  MEASURED_EGRESS_MTU,
  measuredCosts,
  type Need,
  PRICES_OF,
  type Refusal,
  REGION,
  size,
} from './report/sizing';
import { table } from './report/table';

const ALL = 'all';
/** That of the stack. */
export const DEFAULT_INSTANCE = 'c5n.large';
const TYPES = INSTANCES.map(({ type }) => type);
/** A family a line. */
const TYPES_IN_LINES = TYPES.map((type, at) => {
  if (at === 0) return type;
  return type.split('.')[0] === TYPES[at - 1]?.split('.')[0] ? `, ${type}` : `,\n${' '.repeat(22)}${type}`;
}).join('');
const MOST_PPS = 1_000_000_000;
/** As `egress_mtu` has it: from the smallest to what an interface carries in a VPC, its default. */
const [SMALLEST_EGRESS_MTU, LARGEST_EGRESS_MTU] = [576, 9001];
/** As docs/engines.md lists them. */
const BEST_FIRST: readonly Engine[] = [...ENGINES].reverse();

const number = (value: number): string => Math.round(value).toLocaleString('en-US');

const HELP = `usage: npm run size -- --pps NUMBER --bytes NUMBER [OPTION]...
  --pps NUMBER        datagrams a second that are mirrored and match, 1 to ${MOST_PPS}
  --bytes NUMBER      IP total length of each, ${SMALLEST_DATAGRAM} to ${LARGEST_MIRRORED}
  --egress-mtu NUMBER longest packet that leaves, ${SMALLEST_EGRESS_MTU} to ${LARGEST_EGRESS_MTU}; longer ones leave in fragments (${LARGEST_EGRESS_MTU})
  --fragment-bypass   ENA's driver takes fragments past EC2's limit of ${number(EC2_FRAGMENTS_PER_SECOND)}/s for each gateway
  --instance TYPE     ${TYPES_IN_LINES},
                      or ${ALL}, which compares them (${DEFAULT_INSTANCE})
  --headroom SHARE    of a processor that the load may take, 0.05 to 1 (0.7)
  --spare NUMBER      gateways on top, so that as many can be lost, 0 to 99 (1)
  --speed FACTOR      how much faster an instance's vCPU is than the measured processor, 0.1 to 10 (1)
  --results FILE      of make bench (docs/performance.json)`;

interface Question {
  readonly load: Load;
  readonly instances: readonly Instance[];
  readonly assumptions: Assumptions;
  readonly results: Results;
}

type Fits = ReadonlyMap<Engine, Fit>;
type Answers = readonly { readonly engine: Engine; readonly answer: Need | Refusal }[];

function read(file: string | undefined): Results {
  const remedy = file === undefined ? 'run make bench' : 'give a file that make bench wrote';
  const name = file === undefined ? 'docs/performance.json' : `--results '${file}'`;
  try {
    const results = readResults(file ?? CHECKED_IN);
    if (Array.isArray(results.runs)) return results;
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new Error(`${name} ${isMissing ? 'does not exist' : 'cannot be read'}: ${remedy}`, { cause: error });
  }
  throw new Error(`${name} has no results: ${remedy}`);
}

function values(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        pps: { type: 'string' },
        bytes: { type: 'string' },
        'egress-mtu': { type: 'string', default: String(LARGEST_EGRESS_MTU) },
        'fragment-bypass': { type: 'boolean', default: false },
        instance: { type: 'string', default: DEFAULT_INSTANCE },
        headroom: { type: 'string', default: '0.7' },
        spare: { type: 'string', default: '1' },
        speed: { type: 'string', default: '1' },
        results: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message.split('. ')[0], { cause: error });
  }
}

/** Undefined: help is wanted. */
function parse(args: string[], results?: Results): Question | undefined {
  const given = values(args);
  if (given.help) return undefined;
  const type = oneOf('instance', given.instance, [...TYPES, ALL]);
  return {
    load: {
      pps: whole('pps', given.pps, 1, MOST_PPS),
      bytes: whole('bytes', given.bytes, SMALLEST_DATAGRAM, LARGEST_MIRRORED),
      egressMtu: whole('egress-mtu', given['egress-mtu'], SMALLEST_EGRESS_MTU, LARGEST_EGRESS_MTU),
    },
    instances: INSTANCES.filter((instance) => type === ALL || instance.type === type),
    assumptions: {
      headroom: decimal('headroom', given.headroom, 0.05, 1),
      spare: whole('spare', given.spare, 0, 99),
      speed: decimal('speed', given.speed, 0.1, 10),
      fragmentBypass: given['fragment-bypass'],
    },
    results: results ?? read(given.results),
  };
}

function fitAll(results: Results): Fits {
  return new Map(
    BEST_FIRST.flatMap((engine) => {
      const found = fit(measuredCosts(results, engine));
      return found === undefined ? [] : [[engine, found]];
    }),
  );
}

const percent = (share: number): string => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

function engineTable(answers: Answers): string {
  return table(
    ['engine', 'ns a datagram', 'gateways', `${CURRENCY} a month`, 'limited by'],
    answers.map(({ engine, answer }) =>
      'reason' in answer
        ? [engine, '-', '-', '-', answer.reason]
        : [engine, `${number(answer.nanoseconds)}${answer.isExtrapolated ? '*' : ''}`].concat(
            [answer.gateways, answer.monthly].map(number),
            answer.limit,
          ),
    ),
  );
}

function cell(answer: Need | Refusal): string {
  if ('reason' in answer) return '-';
  return `${number(answer.gateways)} for ${number(answer.monthly)}${answer.isExtrapolated ? '*' : ''}`;
}

const monthly = (answer: Need | Refusal): number => ('reason' in answer ? Infinity : answer.monthly);

/** The cheapest instance type of each engine, and of all. */
function cheapest(rows: readonly { readonly instance: Instance; readonly answers: Answers }[]): string {
  const all = rows.flatMap(({ instance, answers }) => answers.map((each) => ({ ...each, type: instance.type })));
  const least = (some: typeof all) =>
    some.reduce((one, other) => (monthly(other.answer) < monthly(one.answer) ? other : one));
  const named = BEST_FIRST.map((engine) => least(all.filter((each) => each.engine === engine)))
    .filter(({ answer }) => Number.isFinite(monthly(answer)))
    .map(({ engine, type }) => `${engine} on ${type}`);
  const { engine, type, answer } = least(all);
  if ('reason' in answer) return 'No engine carries that.';
  return `Cheapest: ${engine} on ${type}, ${number(answer.monthly)} ${CURRENCY}; of each engine: ${named.join(', ')}.`;
}

function instanceTable(question: Question, fits: Fits): string {
  const rows = question.instances.map((instance) => ({ instance, answers: answersFor(question, instance, fits) }));
  const body = rows.map(({ instance, answers }) => [
    instance.type,
    String(instance.hourly),
    ...answers.map(({ answer }) => cell(answer)),
  ]);
  const title = `Gateways and ${CURRENCY} a month with each engine, ${REGION}`;
  return `${title}\n\n${table(['instance', `${CURRENCY} an hour`, ...BEST_FIRST], body)}\n\n${cheapest(rows)}`;
}

function answersFor({ load, assumptions }: Question, instance: Instance, fits: Fits): Answers {
  return BEST_FIRST.map((engine) => ({
    engine,
    answer: size(engine, load, fits.get(costsAs(engine, load.bytes)), instance, assumptions),
  }));
}

function loadLine({ pps, bytes, egressMtu }: Load): string {
  const fragments = fragmentsOf(bytes, egressMtu);
  const leaving = fragments === 1 ? 'whole' : `${fragments} fragments each`;
  return `${number(pps)} datagrams/s of ${bytes} bytes, ${leaving}`;
}

function instanceLine({ type, vcpus, cores, baselineGbps, hourly }: Instance): string {
  const processors = `${vcpus} vCPUs on ${cores === 1 ? 'one core' : `${cores} cores`}`;
  return `${type}: ${processors}, ${baselineGbps} Gbit/s, ${hourly} ${CURRENCY} an hour (${REGION})`;
}

function modelTable(fits: Fits): string {
  return table(
    ['model', 'ns each', 'a fragment more', 'a byte', 'worst error', 'mean', 'sizes', 'bytes'],
    [...fits].map(([engine, { cost, error, measured }]) => [
      ...[engine, number(cost.datagram), number(cost.fragment), cost.byte.toFixed(2)],
      ...(error ? [percent(error.worst), percent(error.mean)] : ['-', '-']),
      ...[String(measured.length), `${measured[0]?.bytes} to ${measured.at(-1)?.bytes}`],
    ]),
  );
}

/** Of fragments: what EC2 does with them, and that it decides nothing where there are none. */
function fragmentLine({ load: { bytes, egressMtu }, assumptions: { fragmentBypass } }: Question): string {
  const limit = `${number(EC2_FRAGMENTS_PER_SECOND)} IP fragments/s`;
  const source = 'EC2 user guide, "Nitro system considerations for performance tuning"';
  if (fragmentsOf(bytes, egressMtu) === 1) return `EC2 drops all beyond ${limit} of a gateway; here none leave.`;
  if (fragmentBypass) return `EC2's limit of ${limit} is taken for bypassed (--fragment-bypass).`;
  return `EC2 drops all beyond ${limit} of a gateway, whatever its type and engine
(${source}): whole is the way out (--egress-mtu).`;
}

function notes(question: Question): string {
  const { assumptions, results } = question;
  const { headroom, spare, speed } = assumptions;
  return `Included: ${spare} spare; no processor is more than ${percent(headroom)} busy. *: extrapolated, to a size beyond those of the table,
or to whole datagrams of more than ${MEASURED_EGRESS_MTU} bytes: egress_mtu was ${MEASURED_EGRESS_MTU} when costs were measured, so that they left in fragments.
${fragmentLine(question)}
Errors are those at the measured sizes; - where there are too few sizes to tell.
Assumed: flows spread evenly over gateways and vCPUs, and each vCPU adds as much as the first. In driver mode half of
the queues, so half of the vCPUs, do the work; nfqueue uses two, its program being one thread. Bandwidth is the
baseline, in and out each by itself.
Measured on ${results.machine.cpu}, not on an instance: a vCPU counts as ${speed} of its processors (--speed).
Not known: the packets/s that AWS allows an instance. It publishes no number; the alarm pps-allowance-exceeded tells.
Prices change: they are inputs (constructs/config/instances.json), here of ${PRICES_OF}, for the instances alone; load balancer,
mirror sessions and traffic cost extra.`;
}

/** What `npm run size` prints, of these results or of those that `args` name. */
export function answer(args: string[], results?: Results): string {
  const question = parse(args, results);
  if (question === undefined) return HELP;
  const { load, instances } = question;
  const fits = fitAll(question.results);
  const [one, ...others] = instances;
  const body =
    one && others.length === 0
      ? `${instanceLine(one)}\n\n${engineTable(answersFor(question, one, fits))}`
      : instanceTable(question, fits);
  return `${loadLine(load)}\n${body}\n\n${modelTable(fits)}\n\n${notes(question)}`;
}

function main(): void {
  try {
    process.stdout.write(`${answer(process.argv.slice(2))}\n`);
  } catch (error) {
    const { message } = error as Error;
    process.stderr.write(`size: ${message}${error instanceof UsageError ? '; see --help' : ''}\n`);
    process.exitCode = 1;
  }
}

if (require.main === module) main();
