// SPDX-License-Identifier: Apache-2.0
// The benchmark: every engine and its references, interleaved in one run, so that whatever disturbs the machine disturbs all.
// `make bench`, or bench/run.ts --help. Writes one JSON file; progress goes to stderr, tables to stdout.
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import * as os from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { must, Progress, REPOSITORY, run } from '../lab/host';
import { compare, type Figures, figureTable, ratioTable, stepTable } from './report';
import { type Found, highestWithoutLoss, isConclusive, summarize, type Verdict } from './statistics';
import {
  Bench,
  CORES,
  PLACEMENT_MEANS,
  PLACEMENTS,
  type Placement,
  type StepCost,
  type Subject,
  SUBJECTS,
} from './subjects';

const progress = new Progress('bench');

interface Plan {
  readonly subjects: readonly Subject[];
  readonly sizes: readonly number[];
  readonly repetitions: number;
  /** Offered at overload, datagrams/s; 0: as many as the generator can. */
  readonly overload: number;
  /** Of an overload trial and of a step of the search. */
  readonly milliseconds: number;
  readonly searches: boolean;
  readonly placement: Placement;
  readonly out: string;
  readonly lock?: string;
}

interface Repetition {
  readonly offered: number;
  readonly overload: number;
  readonly lossless?: Found;
}

/** At least this many datagrams/s, or the search for a rate without loss gives up. */
const LEAST_RATE = 1000;
const MOST_RATE = 10_000_000;

const HELP = `usage: bench/run.ts [OPTION]...
  --subjects NAME,...     of ${SUBJECTS.join(', ')} (all)
  --sizes BYTES,...       IP total lengths of the mirrored datagrams, 36 to 3000 (1380,1428,2852)
  --repetitions NUMBER    1 to 99; the median counts (5)
  --overload PPS          offered at overload, up to ${MOST_RATE}; 0: as many as the generator can (2000000)
  --seconds NUMBER        of one trial, 0.2 to 60 (2)
  --no-search             only overload, not the highest rate without loss
  --placement NAME        ${PLACEMENTS.join(' or ')}: which core takes frames off the wire (softirq)
  --lock FILE             held while something is measured, on a machine shared with others
  --out FILE              of the results (bench/results.json)`;

class UsageError extends Error {}

function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new UsageError(`--${name} '${text}': give a whole number from ${least} to ${most}`);
}

function oneOf<T extends string>(name: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((each) => each === text);
  if (found !== undefined) return found;
  throw new UsageError(`--${name} '${text}': give one of ${allowed.join(', ')}`);
}

function parse(args: string[]): Plan | undefined {
  const { values } = parseArgs({
    args,
    options: {
      subjects: { type: 'string', default: SUBJECTS.join(',') },
      sizes: { type: 'string', default: '1380,1428,2852' },
      repetitions: { type: 'string', default: '5' },
      overload: { type: 'string', default: '2000000' },
      seconds: { type: 'string', default: '2' },
      'no-search': { type: 'boolean', default: false },
      placement: { type: 'string', default: 'softirq' },
      lock: { type: 'string' },
      out: { type: 'string', default: join(REPOSITORY, 'bench/results.json') },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  const seconds = Number(values.seconds);
  if (!(seconds >= 0.2 && seconds <= 60)) throw new UsageError(`--seconds '${values.seconds}': give 0.2 to 60`);
  return {
    subjects: values.subjects.split(',').map((name) => oneOf('subjects', name, SUBJECTS)),
    sizes: values.sizes.split(',').map((text) => whole('sizes', text, 36, 3000)),
    repetitions: whole('repetitions', values.repetitions, 1, 99),
    overload: whole('overload', values.overload, 0, MOST_RATE),
    milliseconds: seconds * 1000,
    searches: !values['no-search'],
    placement: oneOf('placement', values.placement, PLACEMENTS),
    out: values.out,
    ...(values.lock === undefined ? {} : { lock: values.lock }),
  };
}

/** Holds a lock file meanwhile. Waits for it as long as it takes, and says so. */
async function locked<T>(file: string | undefined, work: () => Promise<T>): Promise<T> {
  if (file === undefined) return work();
  const holder = spawn('flock', [file, 'sh', '-c', 'echo held; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
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

/** A machine that others use loses something or is held up now and then: a rate fails only when that happens twice. */
const TRIES = 2;

class Run {
  private readonly results = new Map<string, Repetition[]>();
  private done = 0;
  private busy = 0;
  stopping = false;

  constructor(
    private readonly bench: Bench,
    private readonly plan: Plan,
  ) {}

  async measure(): Promise<Figures[]> {
    const { repetitions, sizes, subjects, lock } = this.plan;
    for (let repetition = 0; repetition < repetitions; repetition++)
      for (const bytes of sizes)
        await locked(lock, async () => {
          for (const subject of subjects) await this.one(subject, bytes);
        });
    return sizes.flatMap((bytes) => subjects.map((subject) => this.figures(subject, bytes)));
  }

  private async one(subject: Subject, bytes: number): Promise<void> {
    const startedAt = Date.now();
    const so = this.of(subject, bytes);
    await this.bench.use(subject);
    const overload = await this.trial(bytes, this.plan.overload);
    const repetition: Repetition = {
      offered: overload.offered / overload.seconds,
      overload: overload.in_time / overload.seconds,
      ...(this.plan.searches ? { lossless: await this.search(bytes, so.at(-1)?.lossless?.rate, overload) } : {}),
    };
    so.push(repetition);
    this.done++;
    this.busy += Date.now() - startedAt;
    const left = this.plan.repetitions * this.plan.sizes.length * this.plan.subjects.length - this.done;
    const { lossless } = repetition;
    progress.say(
      `${subject} ${bytes} bytes: ${Math.round(repetition.overload)}/s of ${Math.round(repetition.offered)}/s` +
        (lossless ? `, without loss ${lossless.isLowerBound ? 'at least ' : ''}${Math.round(lossless.rate)}/s` : '') +
        `; ${Math.ceil((left * this.busy) / this.done / 1000)} s left`,
    );
  }

  private search(
    bytes: number,
    before: number | undefined,
    overload: { in_time: number; seconds: number },
  ): Promise<Found> {
    const guess = before || (overload.in_time / overload.seconds) * 0.8;
    const tryRate = async (rate: number): Promise<Verdict> => {
      for (let tries = 1; ; tries++) {
        const trial = await this.trial(bytes, rate);
        const verdict = { lost: trial.offered - trial.delivered, rate: trial.offered / trial.seconds };
        if (isConclusive(verdict, rate) || tries === TRIES) return verdict;
      }
    };
    return highestWithoutLoss(tryRate, { guess, least: LEAST_RATE, most: MOST_RATE });
  }

  private async trial(bytes: number, pps: number): ReturnType<Bench['run']> {
    if (this.stopping) throw new Error('stopped by a signal');
    const trial = await this.bench.run(bytes, pps, this.plan.milliseconds);
    if (trial.surplus + trial.foreign > 0)
      progress.say(`${trial.surplus} frames too many, ${trial.foreign} of unknown origin at ${bytes} bytes, ${pps}/s`);
    return trial;
  }

  private of(subject: Subject, bytes: number): Repetition[] {
    const key = `${subject} ${bytes}`;
    const known = this.results.get(key) ?? [];
    this.results.set(key, known);
    return known;
  }

  private figures(subject: Subject, bytes: number): Figures {
    const all = this.of(subject, bytes);
    return {
      subject,
      bytes,
      overload: summarize(all.map(({ overload }) => overload)),
      lossless: summarize(all.map(({ lossless }) => lossless?.rate ?? NaN)),
      isLowerBound: all.some(({ lossless }) => lossless?.isLowerBound),
      offered: summarize(all.map(({ offered }) => offered)),
    };
  }
}

async function commit(): Promise<string> {
  const [head, changes] = await Promise.all([
    run('git', ['-C', REPOSITORY, 'rev-parse', 'HEAD']),
    run('git', ['-C', REPOSITORY, 'status', '--porcelain', '--untracked-files=no']),
  ]);
  return `${head.stdout.trim() || 'unknown'}${changes.stdout.trim() === '' ? '' : ' with changes'}`;
}

async function clangVersion(): Promise<string> {
  return (await must('clang', ['--version'])).split('\n')[0] ?? 'unknown';
}

async function write(plan: Plan, figures: readonly Figures[], steps: readonly StepCost[]): Promise<void> {
  const { subjects, sizes, repetitions, overload, milliseconds, placement } = plan;
  const all = compare(figures);
  const result = {
    ratios: all,
    how: {
      ...{ subjects, sizes, repetitions, overload, milliseconds, placement, cores: CORES },
      placementMeans: PLACEMENT_MEANS[placement],
      units: 'sizes: IP total length of the mirrored datagram in bytes; rates: whole datagrams/s; costs: ns a run',
    },
    machine: { cpu: os.cpus()[0]?.model, cores: os.cpus().length, kernel: os.release(), load: os.loadavg() },
    software: { commit: await commit(), clang: await clangVersion() },
    date: new Date().toISOString(),
    figures,
    steps,
  };
  mkdirSync(dirname(plan.out), { recursive: true });
  writeFileSync(plan.out, `${JSON.stringify(result, null, 2)}\n`);
  process.stdout.write(
    `${placement}: ${PLACEMENT_MEANS[placement]}\n\n${ratioTable(all)}\n\n${figureTable(figures)}\n\n${stepTable(steps)}\n`,
  );
  progress.say(`written to ${plan.out}`);
}

async function main(): Promise<void> {
  const plan = parse(process.argv.slice(2));
  if (plan === undefined) {
    process.stdout.write(`${HELP}\n`);
    return;
  }
  if (process.getuid?.() !== 0) throw new Error('network namespaces and BPF need root: run as root');
  if (os.cpus().length < 2)
    throw new Error(`${os.cpus().length} processor: the generator and the gateway need one each`);
  const bench = new Bench(`mgb${process.pid}`, plan.placement, progress);
  const measuring = new Run(bench, plan);
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => {
      progress.say(`${signal}: cleaning up after the trial that runs`);
      measuring.stopping = true;
    });
  try {
    await bench.up();
    const steps = await locked(plan.lock, () => bench.stepCosts(plan.sizes));
    await write(plan, await measuring.measure(), steps);
  } finally {
    await bench.down();
  }
}

main().catch((error: Error) => {
  process.stderr.write(`bench: ${error.message}${error instanceof UsageError ? '; see --help' : ''}\n`);
  process.exitCode = 1;
});
