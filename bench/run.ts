// SPDX-License-Identifier: Apache-2.0
// The benchmark: every engine and its references, in turns. `make bench`, or bench/run.ts --help. Writes one JSON file;
// progress goes to stderr, tables to stdout.
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import * as os from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { must, Progress, REPOSITORY, run } from '../lab/support/host';
import { BACKLOG, DEV_WEIGHT } from './measure/machine';
import {
  GROWTH_BYTES,
  IN_DRIVER_EVERY,
  LONGER_BELOW,
  Measurement,
  MUCH,
  type Plan,
  type Step,
  TRIAL_MS,
  TRIES,
} from './measure/measure';
import { decimal, oneOf, UsageError, whole } from './options';
import { writeDocuments } from './report/performance';
import { compareWith, summaryTables } from './report/report';
import { CHECKED_IN, readResults, type Results, type Run, DEVICES_UNDER_TEST } from './results';
import { MEASURED_EGRESS_MTU } from './report/sizing';
import { Bench } from './measure/devices-under-test';
import { OVERLOAD } from './measure/trials';

const progress = new Progress('bench');

interface Order extends Plan {
  readonly egressMtu: number;
  readonly runs: number;
  readonly out: string;
  readonly lock: string;
}

/** RFC 2544, section 24, asks for a minute a trial; a search repeats what failed instead, and three runs have to agree. */
const SECONDS = { complete: '2', quick: '0.5' } as const;
const SIZES = { complete: '64,512,1380,1428,2852,8900', quick: String(GROWTH_BYTES) } as const;
const REPETITIONS = { complete: '12', quick: '1' } as const;
const SEARCHES = { complete: 7, quick: 1 } as const;
const COST_REPETITIONS = { complete: 2, quick: 1 } as const;
const OUT = join(REPOSITORY, 'bench/latest.json');
const LOCK = '/run/lock/mirror-gateway-bench';

const HELP = `usage: bench/run.ts [OPTION]...
  --quick                 one size, short searches, nothing about flows and cores, under two minutes
  --runs NUMBER           complete runs one after the other, 1 to 9 (3; --quick: 1)
  --subjects NAME,...     of ${DEVICES_UNDER_TEST.join(', ')} (all)
  --sizes BYTES,...       IP total lengths of the mirrored datagrams, 40 to 8951 (${SIZES.complete}; --quick: ${SIZES.quick})
  --egress-mtu BYTES      of the gateways, 576 to 9001: what is longer leaves in fragments (${MEASURED_EGRESS_MTU}, as in docs/performance.json)
  --repetitions NUMBER    rounds of overload, 1 to 99 (${REPETITIONS.complete}; --quick: ${REPETITIONS.quick}); one in ${IN_DRIVER_EVERY} for what stays in the driver
  --seconds NUMBER        of one trial of a search for a rate without loss, 0.2 to 30 (${SECONDS.complete}; --quick: ${SECONDS.quick})
  --lock FILE             held while something is measured, such as other work on this machine holds, too (${LOCK})
  --out FILE              of the results (docs/performance.json, and what is made of it, if all is measured as by default;
                          else bench/latest.json)
Warns of a ratio that is more than a quarter below the lowest of docs/performance.json.`;

function parse(args: string[]): Order | undefined {
  const { values } = parseArgs({
    args,
    options: {
      ...{ quick: { type: 'boolean', default: false }, runs: { type: 'string' }, sizes: { type: 'string' } },
      ...{ subjects: { type: 'string' }, repetitions: { type: 'string' } },
      ...{ seconds: { type: 'string' }, lock: { type: 'string' }, out: { type: 'string' } },
      'egress-mtu': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  const { quick, subjects, sizes, runs, repetitions } = values;
  const kind = quick ? 'quick' : 'complete';
  const isPart =
    quick ||
    [subjects, sizes, runs, repetitions, values.seconds, values['egress-mtu']].some((value) => value !== undefined);
  return {
    runs: whole('runs', runs ?? (quick ? '1' : '3'), 1, 9),
    subjects: (subjects ?? DEVICES_UNDER_TEST.join(','))
      .split(',')
      .map((name) => oneOf('subjects', name, DEVICES_UNDER_TEST)),
    sizes: (sizes ?? SIZES[kind]).split(',').map((size) => whole('sizes', size, 40, 8951)),
    egressMtu: whole('egress-mtu', values['egress-mtu'] ?? String(MEASURED_EGRESS_MTU), 576, 9001),
    repetitions: whole('repetitions', repetitions ?? REPETITIONS[kind], 1, 99),
    searches: SEARCHES[kind],
    costRepetitions: COST_REPETITIONS[kind],
    searchMilliseconds: decimal('seconds', values.seconds ?? SECONDS[kind], 0.2, 30) * 1000,
    hasGrowth: !quick,
    out: values.out ?? (isPart ? OUT : CHECKED_IN),
    lock: values.lock ?? LOCK,
  };
}

/** Holds a lock file meanwhile. Waits for it as long as it takes, and says so. */
async function locked<T>(file: string, work: () => Promise<T>): Promise<T> {
  const holder = spawn('flock', [file, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true, // Ctrl-C ends this process alone, and with it, last, the lock
  });
  const waiting = setInterval(() => progress.say(`waiting for ${file}`), 30_000);
  try {
    await new Promise<void>((done, refuse) => {
      holder.stdout.once('data', () => done());
      holder.once('error', refuse);
      holder.once('close', () => refuse(new Error(`--lock ${file}: flock ended; is it a file that can be written?`)));
    });
    clearInterval(waiting);
    return await work();
  } finally {
    clearInterval(waiting);
    holder.removeAllListeners('close');
    holder.stdin.end();
  }
}

/** Does steps in their order, and says how long the rest takes if it goes on like this. */
class Work {
  private done = 0;
  private readonly startedAt = Date.now();

  constructor(
    private readonly planned: number,
    private readonly bench: Bench,
  ) {}

  async do(name: string, steps: readonly Step[]): Promise<void> {
    for (const { what, seconds, measure } of steps) {
      this.bench.goOn();
      const say = (share: number, message: string): void =>
        progress.say(`${name}${what}: ${message}; ${this.minutesLeft(seconds * share)} min left`);
      say(1, await measure(say));
      this.done += seconds;
    }
  }

  private minutesLeft(doing: number): number {
    const done = this.done + doing;
    return Math.ceil(((this.planned - done) * (Date.now() - this.startedAt)) / done / 60_000);
  }
}

async function commit(): Promise<string> {
  const [head, changes] = await Promise.all([
    run('git', ['-C', REPOSITORY, 'rev-parse', 'HEAD']),
    run('git', ['-C', REPOSITORY, 'status', '--porcelain', '--untracked-files=no']),
  ]);
  return `${head.stdout.trim() || 'unknown'}${changes.stdout.trim() === '' ? '' : ' with changes'}`;
}

async function about({
  sizes,
  egressMtu,
  repetitions,
  searches,
  costRepetitions,
  searchMilliseconds,
}: Order): Promise<Omit<Results, 'runs'>> {
  const clang = (await must('clang', ['--version'])).split('\n')[0] ?? 'unknown';
  return {
    how: {
      ...{ sizes, egressMtu, repetitions, searches, costRepetitions, inDriverEvery: IN_DRIVER_EVERY },
      ...{ overload: OVERLOAD, milliseconds: TRIAL_MS, growthBytes: GROWTH_BYTES },
      ...{ searchMilliseconds, tries: TRIES, much: MUCH, longerBelow: LONGER_BELOW },
      ...{ devWeight: DEV_WEIGHT, backlog: BACKLOG },
    },
    machine: {
      cpu: os.cpus()[0]?.model ?? 'unknown',
      cores: os.cpus().length,
      kernel: os.release(),
      load: os.loadavg(),
    },
    software: { commit: await commit(), clang },
  };
}

/** Before the work of hours, not after it. */
function mustBeWritable(file: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true });
    accessSync(existsSync(file) ? file : dirname(file), constants.W_OK);
  } catch (error) {
    throw new Error(`--out ${file}: ${(error as Error).message}; give a file that can be written`);
  }
}

function write(file: string, results: Results): void {
  writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`);
}

async function measure(bench: Bench, order: Order): Promise<Results> {
  const { runs: count, out } = order;
  const runs: Run[] = [];
  const say = (text: string): void => progress.say(text);
  const measurements = Array.from({ length: count }, () => new Measurement(bench, order, say));
  const planned = measurements.flatMap((each) => each.all()).reduce((sum, { seconds }) => sum + seconds, 0);
  const work = new Work(planned, bench);
  const all = await about(order);
  for (const [number, measurement] of measurements.entries()) {
    await work.do(count > 1 ? `run ${number + 1} of ${count}: ` : '', measurement.all());
    runs.push(measurement.result());
    // A part of it, if it is stopped, is no result to be checked in.
    write(runs.length < count ? OUT : out, { ...all, runs });
  }
  return { ...all, runs };
}

function stopAtSignals(bench: Bench): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      bench.stop();
      progress.say(`${signal}: cleaning up after the trial that runs`);
    });
  // A terminal that is gone takes no lines, and a reader that has enough; the clean-up goes on.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
}

/** Up, measured, and down whatever happens. */
async function bench(order: Order): Promise<void> {
  const bench = new Bench(`mgb${process.pid}`, order.egressMtu, progress);
  stopAtSignals(bench);
  try {
    await bench.up(order.subjects);
    const before = existsSync(CHECKED_IN) ? readResults(CHECKED_IN) : undefined;
    const results = await measure(bench, order);
    process.stdout.write(`${summaryTables(results)}\n`);
    progress.say(`written to ${order.out}`);
    if (order.out === CHECKED_IN) writeDocuments(results);
    // Whole and cut are different work.
    if (before && order.egressMtu === MEASURED_EGRESS_MTU)
      compareWith(before, results).forEach((line) => progress.say(line));
  } finally {
    await bench.down();
  }
}

async function main(): Promise<void> {
  const order = parse(process.argv.slice(2));
  if (order === undefined) {
    process.stdout.write(`${HELP}\n`);
    return;
  }
  if (process.getuid?.() !== 0) throw new Error('network namespaces and BPF need root: run as root');
  if (os.cpus().length < 2)
    throw new Error(`${os.cpus().length} processor: the generator and the gateway need one each`);
  mustBeWritable(order.out);
  await locked(order.lock, () => bench(order));
}

main().catch((error: Error) => {
  process.stderr.write(`bench: ${error.message}${error instanceof UsageError ? '; see --help' : ''}\n`);
  process.exitCode = 1;
});
