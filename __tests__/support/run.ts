// SPDX-License-Identifier: Apache-2.0
// Runs suites: `run.ts [--all] [SUITE...]`. Unit tests come first and fill the cores by themselves. The files of all other
// suites then share lanes, longest first, each isolated from its neighbour; what measures rates or loss comes last, one
// by one. A line tells of each end, a table of all of them. Ends with 1 if anything failed, 2 for what it cannot read.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { cacheDirectory, eachLine, REPOSITORY } from '../../lab/support/host';
import { LANES, type Task, tasksOf } from './tasks';
import { asRoot, Capabilities, ISOLATED, type Need } from './capabilities';
import { advice, cleanCommit, remember } from './changes';
import { isFarOver, type Outcome, table } from './report';
import { SUITE_NAMES, type SuiteName, SUITES } from './suites';

/** Of a lab's or a machine's progress: what a reader wants to see while a test runs. */
const PROGRESS = /^\[.+ +\d+\.\d+s\] /;
/** Of jest: what went well, its own JSON, and where that is. */
const NOISE = /^PASS |^\{"num|^Ran all test suites within paths|^Test results written to/;
/** Of a second (USER_HZ of Linux on every architecture that tests run on). */
const TICKS = 100;
/** A machine is idle while others take less of its processors than this. */
const IDLE_SHARE = 0.15;

interface Results {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly startTime: number;
    readonly endTime: number;
  }[];
}

/** How each child is ended. */
const running = new Map<ChildProcess, readonly string[]>();
const scratch = (): string => join(cacheDirectory(), `run-${process.pid}`);

// --- one jest -------------------------------------------------------------------------------------------------------

/** What jest is started with: the files of a suite, alone in its namespaces where that suite touches the machine. */
function commandOf(suite: SuiteName, files: readonly string[], results: string): string[] {
  const paths = files.map((file) => join(REPOSITORY, '__tests__', file));
  const workers = suite === 'unit' ? '--maxWorkers=100%' : '--runInBand';
  const jest = [join(REPOSITORY, 'node_modules/jest/bin/jest.js'), `--selectProjects=${suite}`, workers];
  const command = [process.execPath, ...jest, '--json', `--outputFile=${results}`, '--runTestsByPath', ...paths];
  const needs = needsOf(suite);
  const isolated = needs.includes('namespaces') ? [ISOLATED, ...command] : command;
  return needs.includes('root') ? asRoot(isolated) : isolated;
}

function needsOf(suite: SuiteName): readonly Need[] {
  return SUITES[suite].needs;
}

/** unshare ignores all that can be ignored while it waits (util-linux, sys-utils/unshare.c); its namespaces clean up. */
function endingOf(suite: SuiteName): NodeJS.Signals {
  return needsOf(suite).includes('namespaces') ? 'SIGKILL' : 'SIGTERM';
}

/**
 * Runs a command to its end, tells progress as it comes, and keeps everything else. However this program ends, what it
 * started does not outlive it; but sudo, which forgets who its parent was, is ended by signals alone.
 */
async function carryOut(suite: SuiteName, command: readonly string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  const signal = endingOf(suite).slice('SIG'.length);
  const tethered = ['--pdeathsig', signal, '--', ...command];
  const child = spawn('setpriv', tethered, { cwd: REPOSITORY, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const kill = ['kill', '-s', signal, '--', `-${child.pid}`]; // its process group
  running.set(child, needsOf(suite).includes('root') ? asRoot(kill) : kill);
  const said: string[] = [];
  const hear = (line: string): void => {
    if (PROGRESS.test(line)) process.stderr.write(`${line}\n`);
    else if (!NOISE.test(line)) said.push(line);
  };
  for (const stream of [child.stdout, child.stderr]) eachLine(stream.setEncoding('utf8'), hear);
  const code = await new Promise<number>((done) => child.on('close', (status) => done(status ?? 128)));
  running.delete(child);
  return { code, said };
}

interface Ended {
  readonly code: number;
  readonly said: readonly string[];
}

/** Runs files of a suite by one jest; says what it said if a test fails. */
async function jest(suite: SuiteName, tasks: readonly Task[], folder: string): Promise<Outcome[]> {
  mkdirSync(folder, { recursive: true });
  const [results, tally] = [join(folder, 'results.json'), join(folder, 'tally')];
  writeFileSync(tally, '');
  const files = tasks.map(({ file }) => file);
  const startedAt = Date.now();
  const env = { ...process.env, TALLY: tally, SCRATCH: folder };
  const { code, said } = await carryOut(suite, commandOf(suite, files, results), env);
  const failed = code !== 0;
  if (failed) process.stderr.write(`${said.join('\n')}\n`);
  if (suite === 'unit' && existsSync(results)) {
    const outcomes = perFile(tasks, results);
    // A jest that fails beside its files: none of them is believed.
    return failed && !outcomes.some((each) => each.failed) ? outcomes.map((each) => ({ ...each, failed })) : outcomes;
  }
  const counts = readFileSync(tally, 'utf8').split('\n');
  const count = (what: string): number => counts.filter((line) => line === what).length;
  const seconds = (Date.now() - startedAt) / 1000;
  return tasks.map((task) => ({ task, seconds, failed, labUps: count('lab-up'), boots: count('boot') }));
}

/** Of files that one jest ran beside each other. */
function perFile(tasks: readonly Task[], results: string): Outcome[] {
  const { testResults } = JSON.parse(readFileSync(results, 'utf8')) as Results;
  return tasks.map((task) => {
    const result = testResults.find(({ name }) => name.endsWith(`/__tests__/${task.file}`));
    const seconds = result ? (result.endTime - result.startTime) / 1000 : 0;
    return { task, seconds, failed: result?.status === 'failed' || !result, labUps: 0, boots: 0 };
  });
}

// --- all of them ----------------------------------------------------------------------------------------------------

/** Once for all lanes; where it cannot be built, the tests that need it say why. */
async function prepareImage(): Promise<void> {
  const program = [process.execPath, '-r', 'ts-node/register/transpile-only', join(REPOSITORY, 'lab/vm/image.ts')];
  await carryOut('vm', asRoot([...program, '13-baked']), process.env);
}

class Run {
  readonly outcomes: Outcome[] = [];
  private started = 0;

  constructor(private readonly tasks: readonly Task[]) {}

  async all(): Promise<void> {
    const unit = this.tasks.filter(({ suite }) => suite === 'unit');
    const image = this.tasks.some(({ suite }) => suite === 'vm') ? prepareImage() : Promise.resolve();
    if (unit.length > 0) this.ended(await jest('unit', unit, this.folder()));
    await image;
    const others = this.tasks.filter(({ suite }) => suite !== 'unit').sort((a, b) => b.seconds - a.seconds);
    const shared = others.filter(({ alone }) => !alone);
    const lanes = Math.max(LANES, Math.floor(availableParallelism() / 2));
    const machines = shared.filter(({ machine }) => machine);
    const rest = shared.filter(({ machine }) => !machine);
    await Promise.all(Array.from({ length: lanes }, (_, lane) => this.lane(lane === 0 ? machines : [], rest)));
    await this.lane(others.filter(({ alone }) => alone));
  }

  private async lane(...queues: Task[][]): Promise<void> {
    const next = (): Task | undefined => queues.find(({ length }) => length > 0)?.shift();
    for (let task = next(); task; task = next()) this.ended(await jest(task.suite, [task], this.folder()));
  }

  private folder(): string {
    return join(scratch(), String(++this.started));
  }

  private ended(outcomes: readonly Outcome[]): void {
    this.outcomes.push(...outcomes);
    const done = `${this.outcomes.length} of ${this.tasks.length} files`;
    const failed = outcomes.filter((each) => each.failed);
    for (const { task } of failed) process.stderr.write(`FAIL ${task.file}\n`);
    const [first] = outcomes;
    if (failed.length > 0 || first === undefined) return;
    const what = outcomes.length === 1 ? `${first.task.file}, ${first.seconds.toFixed(0)} s` : `unit tests`;
    process.stderr.write(`ok   ${what}; ${done}\n`);
  }
}

/** Seconds of processors: of the whole machine, and of what this program has started and seen end (proc(5)). */
function processorSeconds(): { machine: number; own: number } {
  const fields = (text: string): number[] => text.split(/\s+/).map(Number);
  const [, user = 0, nice = 0, system = 0, , , , , steal = 0] = fields(readFileSync('/proc/stat', 'utf8'));
  const [utime = 0, stime = 0, cutime = 0, cstime = 0] = fields(
    readFileSync('/proc/self/stat', 'utf8').split(') ')[1] ?? '',
  ).slice(11);
  // Without interrupts: they are the packets of labs, and nobody's seconds.
  const [machine, own] = [user + nice + system + steal, utime + stime + cutime + cstime];
  return { machine: machine / TICKS, own: own / TICKS };
}

/** What killed runs have left. */
function sweep(): void {
  for (const name of readdirSync(cacheDirectory())) {
    const pid = /^run-(\d+)$/.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    rmSync(join(cacheDirectory(), name), { recursive: true, force: true });
  }
}

function stopOn(signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP', code: number): void {
  process.once(signal, () => {
    for (const [kill = '', ...args] of running.values()) spawnSync(kill, args);
    rmSync(scratch(), { recursive: true, force: true });
    process.exit(code);
  });
}

interface Wanted {
  readonly suites: readonly SuiteName[];
  readonly all: boolean;
}

/** @throws Error that names what is no suite */
export function parse(args: readonly string[]): Wanted {
  const names = args.filter((arg) => arg !== '--all');
  const strange = names.find((name) => !Object.hasOwn(SUITES, name));
  if (strange !== undefined)
    throw new Error(`tests: no suite '${strange}'; it must be one of ${SUITE_NAMES.join(', ')}`);
  return { suites: names.length > 0 ? (names as SuiteName[]) : SUITE_NAMES, all: args.includes('--all') };
}

/** Suites that this machine can run; the others are told, with the remedy. */
function sieve(suites: readonly SuiteName[]): { able: SuiteName[]; skipped: string[] } {
  const capabilities = new Capabilities();
  const hindrances = suites.map((name) => [name, capabilities.hindrance(SUITES[name].needs)] as const);
  const able = hindrances.filter(([, hindrance]) => hindrance === undefined).map(([name]) => name);
  const skipped = hindrances.flatMap(([name, hindrance]) => (hindrance ? [`skipped test-${name}: ${hindrance}`] : []));
  return { able, skipped };
}

const say = (...lines: readonly string[]): boolean => process.stderr.write(lines.map((line) => `${line}\n`).join(''));

/** Runs them all; answers with the share of the processors that others took meanwhile. */
async function measured(run: Run): Promise<{ seconds: number; others: number }> {
  const [startedAt, before] = [Date.now(), processorSeconds()];
  try {
    await run.all();
  } finally {
    rmSync(scratch(), { recursive: true, force: true });
  }
  const after = processorSeconds();
  const seconds = (Date.now() - startedAt) / 1000;
  const foreign = after.machine - before.machine - (after.own - before.own);
  return { seconds, others: Math.max(0, foreign / seconds / availableParallelism()) };
}

function conclude({ outcomes }: Run, seconds: number, others: number, skipped: readonly string[]): boolean {
  const failed = outcomes.filter((each) => each.failed);
  const over = others < IDLE_SHARE ? outcomes.filter(isFarOver) : [];
  const share = `others took ${(100 * others).toFixed(0)} % of the processors`;
  say('', ...table(outcomes), '', ...skipped);
  say(`${outcomes.length} files in ${(seconds / 60).toFixed(1)} minutes, ${failed.length} failed; ${share}`);
  for (const { task, seconds: took } of over) {
    const budget = `${took.toFixed(0)} s of ${task.seconds} on an idle machine`;
    say(`FAIL ${task.file} took ${budget}: make it quicker, or its budget larger`);
  }
  return failed.length + over.length === 0;
}

async function main(args: readonly string[]): Promise<number> {
  const { suites, all } = parse(args);
  const { able, skipped } = sieve(suites);
  say(...skipped);
  if (skipped.length > 0 && process.env.CI) throw new Error('tests: CI is set, where no part may be skipped');
  if (able.length === 0) return 0;
  const run = new Run(tasksOf(able, all));
  if (all) process.env.TEST_ALL = '1';
  sweep();
  stopOn('SIGINT', 130);
  stopOn('SIGTERM', 143);
  stopOn('SIGHUP', 129);
  const commit = cleanCommit();
  const { seconds, others } = await measured(run);
  if (!conclude(run, seconds, others, skipped)) return 1;
  const isEverything = able.length === SUITE_NAMES.length;
  if (all && isEverything && commit !== undefined) remember(commit);
  if (!all && isEverything) say(...[advice()].flatMap((line) => line ?? []));
  return 0;
}

if (require.main === module) {
  main(process.argv.slice(2)).then(
    (code) => (process.exitCode = code),
    (error: Error) => {
      console.error(error.message);
      process.exitCode = 2;
    },
  );
}
