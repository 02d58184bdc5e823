// SPDX-License-Identifier: Apache-2.0
// A stress run of operations over the lab's gateway: everything an operator, a unit manager or an accident does to it while
// traffic flows. The lab has no systemd, so the stress run plays it: it keeps the loader running as Restart=always would, and
// stops it before a verb that would stop its unit. The plan is drawn from a seed before anything happens, so the same seed
// brings the same operations, pauses and interruptions again.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEPLOY_SCRIPT, INSTALLED } from '../../constructs/user-data/user-data';
import { must, type Progress, run, type RunResult, sleep } from '../support/host';
import { LAB, RUNTIME, SETTINGS_FILE } from './namespaces';
import { buildSources, copySources, makeNextVersion } from './next-version';
import { inside } from '../packets/traffic';

const LOCK = join(RUNTIME, 'lock');
const VERB_MS = 60_000;
/** By a signal, as its parent sees it and as a shell says it. */
const INTERRUPTED = new Set([128, 130]);
const LOADER_START_MS = 10_000;

/** Where random numbers come from. */
export interface Dice {
  below(bound: number): number;
  pick<T>(choices: readonly [T, ...T[]]): T;
}

export const OPERATIONS = [
  'attach',
  'detach',
  'rollback',
  'kill loader',
  'restart loader',
  'upgrade',
  'change engine',
  'config set',
  'percent',
  'restart nfqueue',
] as const;
export type Operation = (typeof OPERATIONS)[number];
/** Those that put a program on an interface or take it off. */
const HOOKING: readonly Operation[] = ['attach', 'detach', 'rollback', 'change engine'];

/** What a plan says of one operation. */
export interface Step {
  readonly operation: Operation;
  /** Of `config set` and `percent`: KEY=VALUE. */
  readonly settings: readonly string[];
  readonly pauseMs: number;
  /** The next step starts without waiting for this one. */
  readonly together: boolean;
  /** A Ctrl-C so long after its start. */
  readonly interruptMs?: number;
}

/** What happened. */
export interface Done {
  readonly step: Step;
  readonly startedAt: number;
  readonly endedAt: number;
  /** Why it failed, unless it was interrupted. */
  readonly failure?: string;
}

/** Settings under which every datagram of these lengths matches. */
export interface Sizes {
  readonly shortest: number;
  readonly longest: number;
  /** What max_packet_size may be at most. */
  readonly most: number;
}

/**
 * Draws a plan: each operation once, the rest at random, those that change the engine more often; two at once now and then,
 * some interrupted.
 */
export function drawPlan(dice: Dice, count: number, sizes: Sizes): Step[] {
  const weighted = [...OPERATIONS, 'attach', 'rollback', 'percent', 'percent', 'kill loader'] as const;
  const drawn = Array.from({ length: count }, (_, at) => OPERATIONS[at] ?? dice.pick<Operation>(weighted));
  return shuffled(dice, drawn).map((operation) => {
    const interrupted = dice.below(6) === 0 && !operation.endsWith(' loader');
    return {
      operation,
      settings: drawSettings(dice, operation, sizes),
      pauseMs: dice.below(400),
      together: dice.below(4) === 0,
      interruptMs: interrupted ? 10 + dice.below(500) : undefined,
    };
  });
}

function shuffled<T>(dice: Dice, items: readonly T[]): T[] {
  const left = [...items];
  return items.flatMap(() => left.splice(dice.below(left.length), 1));
}

function drawSettings(dice: Dice, operation: Operation, { shortest, longest, most }: Sizes): string[] {
  if (operation === 'percent') return [`traffic_percent=${dice.pick([0, 10, 50, 90, 100])}`];
  if (operation !== 'config set') return [];
  const [min, max] = [shortest - 1 - dice.below(300), longest + dice.below(most - longest)];
  return dice.pick([
    [`min_packet_size=${min}`],
    [`max_packet_size=${max}`],
    [`min_packet_size=${min}`, `max_packet_size=${max}`],
  ]);
}

export function describeStep({ operation, settings, together, interruptMs }: Step): string {
  const notes = [
    ...settings,
    ...(together ? ['together with the next'] : []),
    ...(interruptMs === undefined ? [] : [`interrupted after ${interruptMs} ms`]),
  ];
  return notes.length ? `${operation} (${notes.join(', ')})` : operation;
}

/** deploy_xdp.sh in the gateway, interrupted as Ctrl-C would: it and whatever it started in its process group. */
async function verb(args: readonly string[], interruptMs?: number): Promise<RunResult> {
  const [command, commandArgs] = inside(LAB.primary, DEPLOY_SCRIPT, ...args);
  const child = spawn(command, commandArgs, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const)
    child[stream].setEncoding('utf8').on('data', (text: string) => (output[stream] += text));
  const timers = [setTimeout(() => signalGroup(child, 'SIGKILL'), VERB_MS)];
  if (interruptMs !== undefined) timers.push(setTimeout(() => signalGroup(child, 'SIGINT'), interruptMs));
  const [code] = (await once(child, 'close')) as [number | null];
  timers.forEach(clearTimeout);
  return { code: code ?? 128, ...output };
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It ended just now.
  }
}

function groupLives(leader: ChildProcess): boolean {
  try {
    return leader.pid !== undefined && process.kill(-leader.pid, 0);
  } catch {
    return false;
  }
}

/** A unit of the gateway, as systemd runs it: started again when it ends, unless it was stopped. */
export class Unit {
  private child?: ChildProcess;
  private timer?: NodeJS.Timeout;
  private wanted = false;
  private holders = 0;
  /** What it has said since its last start. */
  log = '';

  constructor(
    private readonly program: 'network' | 'xdp',
    private readonly restartMs: () => number,
  ) {}

  /** Like `systemctl start`. */
  start(): void {
    this.wanted = true;
    this.later(0);
  }

  /** Like `systemctl stop`, without what the unit does afterwards. */
  async stop(): Promise<void> {
    this.wanted = false;
    clearTimeout(this.timer);
    await this.end('SIGTERM');
  }

  /** Whatever its program ends by, `later` starts it again. With all that it has started, as systemd does. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    signalGroup(child, signal);
    await ended;
    const limit = Date.now() + LOADER_START_MS;
    while (groupLives(child) && Date.now() < limit) await sleep(5);
  }

  /** Of the loader: none starts meanwhile, as none does while systemd has a job of its unit in hand. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.holders++;
    try {
      await this.started();
      return await work();
    } finally {
      if (--this.holders === 0 && this.wanted) this.later(0);
    }
  }

  private later(milliseconds: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.spawn(), milliseconds);
  }

  private spawn(): void {
    const running = this.child && this.child.exitCode === null && this.child.signalCode === null;
    if (!this.wanted || running || this.holders > 0) return;
    const [command, args] = inside(LAB.primary, DEPLOY_SCRIPT, 'run', this.program);
    const child = spawn(command, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    this.child = child;
    this.log = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (this.log += text));
    child.on('exit', () => {
      if (this.wanted) this.later(this.restartMs());
    });
  }

  /** A loader that was started has hooked its program or is gone. */
  private async started(): Promise<void> {
    const limit = Date.now() + LOADER_START_MS;
    const starting = (): boolean =>
      this.child !== undefined &&
      this.child.exitCode === null &&
      this.child.signalCode === null &&
      !/ (hooked to|updated on) /.test(this.log);
    while (starting() && Date.now() < limit) await sleep(5);
  }
}

/** Two builds of the XDP program with its loader; in the second the statistics have one counter more. */
export class Builds {
  private constructor(
    private readonly folder: string,
    private current = 0,
  ) {}

  static async make(): Promise<Builds> {
    const folder = await mkdtemp(join(tmpdir(), 'stress-'));
    const builds = new Builds(folder);
    await copySources(builds.place(0));
    await buildSources(builds.place(0));
    await makeNextVersion(builds.place(1));
    return builds;
  }

  /** Installs the other build as an orderly installation would: under the lock of the verbs, each file at once. */
  async swap(): Promise<void> {
    this.current = 1 - this.current;
    const script = ['udp_df_modifier.bpf.o', 'udp_df_direct.bpf.o', 'udp_df_modifier_loader'].flatMap((name) => {
      const target = join(INSTALLED, 'bpf', name);
      return [`cp ${join(this.place(this.current), 'bpf', name)} ${target}.new`, `mv ${target}.new ${target}`];
    });
    await must('flock', ['-w', '60', LOCK, 'sh', '-ec', script.join('\n')], { timeoutMs: VERB_MS });
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }

  private place(index: number): string {
    return join(this.folder, String(index));
  }
}

/** As if the gateway had been deployed with the other XDP engine. */
async function changeEngine(): Promise<void> {
  const text = await readFile(SETTINGS_FILE, 'utf8');
  const other = text.includes('XDP_ENGINE=bridge') ? 'direct' : 'bridge';
  await writeFile(`${SETTINGS_FILE}.new`, text.replace(/^XDP_ENGINE=.*$/m, `XDP_ENGINE=${other}`));
  await rename(`${SETTINGS_FILE}.new`, SETTINGS_FILE);
}

/** Carries out a plan. Make one with the lab up, `close` it in any case. */
export class StressRun {
  readonly done: Done[] = [];
  private readonly unit: Unit;

  private constructor(
    dice: Dice,
    private readonly builds: Builds,
    private readonly deployed: string,
    private readonly progress: Progress,
  ) {
    this.unit = new Unit('xdp', () => 100 + dice.below(900));
  }

  static async start(dice: Dice, progress: Progress): Promise<StressRun> {
    const stress = new StressRun(dice, await Builds.make(), await readFile(SETTINGS_FILE, 'utf8'), progress);
    stress.unit.start();
    return stress;
  }

  /** Two operations at most at once. */
  async carryOut(plan: readonly Step[]): Promise<void> {
    const startedAt = Date.now();
    let saidAt = startedAt;
    let before: Promise<void> = Promise.resolve();
    for (const [index, step] of plan.entries()) {
      await sleep(step.pauseMs);
      const work = this.perform(step);
      await before;
      before = work;
      if (!step.together) await work;
      if (Date.now() - saidAt < 10_000) continue;
      saidAt = Date.now();
      const left = ((saidAt - startedAt) / (index + 1)) * (plan.length - index - 1);
      this.progress.say(`${index + 1} of ${plan.length} operations, about ${Math.round(left / 1000)} s left`);
    }
    await before;
  }

  private async perform(step: Step): Promise<void> {
    const startedAt = Date.now();
    const failure = await this.operate(step).catch((error: Error) => error.message);
    this.done.push({ step, startedAt, endedAt: Date.now(), failure });
  }

  /** @returns what went wrong */
  private async operate(step: Step): Promise<string | undefined> {
    const { operation, settings } = step;
    switch (operation) {
      case 'attach':
        return this.attach(step);
      case 'upgrade':
        return this.unit.during(async () => {
          await this.builds.swap();
          return this.attach(step);
        });
      case 'change engine':
        return this.unit.during(async () => {
          await changeEngine();
          return this.attach(step);
        });
      case 'detach':
      case 'rollback':
        return this.unit.during(async () => {
          await this.unit.stop();
          return this.verb([operation], step);
        });
      case 'kill loader':
        return this.unit.end('SIGKILL').then(() => undefined);
      case 'restart loader':
        return this.unit.end('SIGTERM').then(() => undefined);
      case 'config set':
      case 'percent':
        return this.verb(['config', 'set', ...settings], step);
      case 'restart nfqueue': {
        const percent = (await verb(['config', 'get', 'traffic_percent'])).stdout.trim();
        return this.verb(['config', 'set', `traffic_percent=${percent}`], step);
      }
    }
  }

  /** The unit takes up what was built or set since. */
  private attach(step: Step): Promise<string | undefined> {
    return this.unit.during(async () => {
      const failure = await this.verb(['attach'], step);
      await this.unit.end('SIGTERM');
      this.unit.start();
      return failure;
    });
  }

  private async verb(args: readonly string[], { interruptMs }: Step): Promise<string | undefined> {
    const { code, stdout, stderr } = await verb(args, interruptMs);
    if (code === 0 || (interruptMs !== undefined && INTERRUPTED.has(code))) return undefined;
    return `deploy_xdp.sh ${args.join(' ')}: exit code ${code}: ${stderr.trim() || stdout.trim() || 'nothing said'}`;
  }

  /** Whether a hook may have changed at a time, give or take. */
  mayHookAt(time: number): boolean {
    return this.during(time).some(({ step }) => HOOKING.includes(step.operation));
  }

  private during(time: number, marginMs = 300): Done[] {
    return this.done.filter(({ startedAt, endedAt }) => startedAt - marginMs <= time && time <= endedAt + marginMs);
  }

  /** Which operations were under way at a time, give or take. */
  at(time: number): string[] {
    return this.during(time).map(({ step, startedAt, endedAt }) => {
      const [from, to] = [startedAt - time, endedAt - time].map((ms) => `${ms < 0 ? '' : '+'}${Math.round(ms)}`);
      return `${describeStep(step)} from ${from} to ${to} ms`;
    });
  }

  /** Operation, how often, how many of them interrupted, the longest. */
  table(): string {
    const rows = OPERATIONS.map((operation) => {
      const of = this.done.filter(({ step }) => step.operation === operation);
      const longest = Math.max(0, ...of.map(({ startedAt, endedAt }) => endedAt - startedAt));
      const interrupted = of.filter(({ step }) => step.interruptMs !== undefined).length;
      return [operation, of.length, interrupted, `${(longest / 1000).toFixed(2)} s`];
    });
    const all = [['operation', 'times', 'interrupted', 'longest'], ...rows];
    return all
      .map(([name, ...figures]) => String(name).padEnd(16) + figures.map((each) => String(each).padStart(12)).join(''))
      .join('\n');
  }

  async close(): Promise<void> {
    await this.unit.stop();
    await writeFile(SETTINGS_FILE, this.deployed);
    await this.builds.remove();
  }
}

const ENGINE_NAMES = ['xdp', 'nfqueue', 'standby'] as const;
type Carried = Record<(typeof ENGINE_NAMES)[number], number>;

/** Reads, each second, what every engine carried; `status` itself must stand the stress. */
export class Engines {
  readonly carried: Carried = { xdp: 0, nfqueue: 0, standby: 0 };
  /** Of `status`, when it could not answer. */
  readonly failures: string[] = [];
  /** Answers of `status` with more datagrams than the stream can have brought. */
  readonly implausible: string[] = [];
  private last?: Carried & { readonly at: number };
  private readonly working: Promise<void>;
  private ended = false;

  /** @param mostPerSecond what the stream brings at most, with something to spare */
  constructor(private readonly mostPerSecond: number) {
    this.working = this.work();
  }

  async end(): Promise<void> {
    this.ended = true;
    await this.working;
  }

  private async work(): Promise<void> {
    while (!this.ended) {
      await this.look();
      await sleep(1000);
    }
  }

  private async look(): Promise<void> {
    const [command, args] = inside(LAB.primary, DEPLOY_SCRIPT, 'status', '--json');
    const { code, stdout, stderr } = await run(command, args);
    if (code !== 0) {
      this.failures.push(`exit code ${code}: ${stderr.trim() || 'nothing said'}`);
      return;
    }
    const status = JSON.parse(stdout) as Record<string, number | boolean>;
    const now = {
      xdp: status.attached ? Number(status.packets_modified) : 0,
      nfqueue: Number(status.nfqueue_packets),
      standby: Number(status.standby_packets),
      at: Date.now(),
    };
    const before = this.last;
    this.last = now;
    if (!before) return;
    const most = (this.mostPerSecond * (now.at - before.at)) / 1000;
    for (const engine of ENGINE_NAMES) {
      // What starts anew counts from zero.
      const more = now[engine] - (now[engine] >= before[engine] ? before[engine] : 0);
      if (more <= most) this.carried[engine] += more;
      else this.implausible.push(`${engine} +${more} in ${now.at - before.at} ms`);
    }
  }
}

/** A full input queue of a processor loses packets in the lab's wires, which an instance does not have. */
export async function withDeepBacklog<T>(work: () => Promise<T>): Promise<T> {
  const name = 'net.core.netdev_max_backlog';
  const before = (await must('sysctl', ['-n', name])).trim();
  await must('sysctl', ['-qw', `${name}=100000`]);
  try {
    return await work();
  } finally {
    await must('sysctl', ['-qw', `${name}=${before}`]);
  }
}
