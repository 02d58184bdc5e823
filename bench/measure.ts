// SPDX-License-Identifier: Apache-2.0
// One complete run as a list of steps, each short enough to say how long the rest takes. Within a size, subjects take turns,
// so that whatever disturbs the machine disturbs all.
import { performance } from 'node:perf_hooks';
import { LARGEST_IN_DRIVER_MODE } from '../constructs/limits';
import { sleep } from '../lab/host';
import { GATEWAY_CORE, GENERATOR_CORE, idleSeconds } from './machine';
import {
  type CorePoint,
  type Engine,
  ENGINES,
  type FlowPoint,
  IN_DRIVER,
  type Latency,
  type Memory,
  type Point,
  type Run,
  type StepCost,
  type Subject,
} from './results';
import { type Found, highestWithoutLoss, isConclusive, percentile, type Verdict } from './statistics';
import type { Bench, UseOptions } from './subjects';
import type { Trial, TrialOptions } from './trials';

export interface Plan {
  readonly subjects: readonly Subject[];
  readonly sizes: readonly number[];
  readonly repetitions: number;
  readonly milliseconds: number;
  /** Flows, cores and memory, too. */
  readonly hasGrowth: boolean;
}

export interface Step {
  readonly what: string;
  /** About what it takes, against the others. */
  readonly seconds: number;
  /** Says in a few words what came of it. */
  readonly measure: () => Promise<string>;
}

/** Offered at overload: as many as the generator can. */
export const OVERLOAD = 0;
/** At least this many datagrams/s, or the search for a rate without loss gives up. */
const LEAST_RATE = 1000;
const MOST_RATE = 10_000_000;
/** A machine that others use loses something or is held up now and then: a rate fails only when that happens twice. */
const TRIES = 2;
const LATENCY_SHARES = [0.5, 0.9] as const;
/** Of the rate without loss: the gateway's processor works, and is idle, too. */
const COST_SHARE = 0.5;
/** Of a gateway at rest: with less, the work of others is more than that of some engines. */
const LEAST_IDLE = 0.9;
/** One look may meet somebody else's work. */
const [LOOKS, LOOK_MS] = [5, 2000];
const REST_SECONDS = 2;
/** The default of `egress_mtu`, and of `min_packet_size`: the rule takes longer ones, and they are cut. */
const LONGEST_WHOLE = 1400;
/** Fragments, as most of the traffic for which there is a gateway. */
export const GROWTH_BYTES = 1428;
const FLOW_BITS = [0, 10, 16, 20] as const;
const SWITCHING_SECONDS = 1.2;
const SEARCH_TRIALS = 7;
/** The stride from what the run before found. */
const CLOSE = 1.12;

/** The driver's programs take no jumbo frames (docs/direct-engine.md). */
function isPossible(subject: Subject, bytes: number): boolean {
  return bytes <= LARGEST_IN_DRIVER_MODE || !['driver', 'ceiling'].includes(subject);
}

const rounded = (rate: number): string => `${Math.round(rate).toLocaleString('en')}/s`;

interface Rates {
  readonly offered: readonly number[];
  readonly overload: readonly number[];
}

const said = ({ offered, overload }: Rates): string =>
  `${rounded(overload[0] ?? NaN)} of ${rounded(offered[0] ?? NaN)}`;

export class Measurement {
  private readonly points = new Map<string, Point>();
  private readonly flows: FlowPoint[] = [];
  private readonly cores: CorePoint[] = [];
  private readonly memory: Memory[] = [];
  private steps: StepCost[] = [];
  private stepsOnBoth: StepCost[] = [];
  private isGateway = false;
  private startedAt = NaN;

  constructor(
    private readonly bench: Bench,
    private readonly plan: Plan,
    private readonly say: (message: string) => void,
    /** The run before, if there was one: where searches begin. */
    private readonly before: () => Run | undefined,
  ) {}

  /** All steps, from now on. */
  all(): Step[] {
    const { hasGrowth } = this.plan;
    this.startedAt = Date.now();
    return [
      ...this.programs(),
      ...this.rates(),
      ...this.costs(),
      ...(hasGrowth ? [...this.growthWithFlows(), ...this.growthWithCores()] : []),
    ];
  }

  result(): Run {
    const { steps, stepsOnBoth, flows, cores, memory } = this;
    return {
      date: new Date(this.startedAt).toISOString(),
      seconds: Math.round((Date.now() - this.startedAt) / 1000),
      points: [...this.points.values()],
      ...{ flows, cores, steps, stepsOnBoth, memory },
    };
  }

  private programs(): Step[] {
    const sizes = this.plan.sizes.filter((bytes) => bytes <= LARGEST_IN_DRIVER_MODE);
    const measure = async (): Promise<string> => {
      this.steps = await this.bench.stepCosts(sizes);
      this.stepsOnBoth = await this.bench.stepCosts(sizes, [GENERATOR_CORE, GATEWAY_CORE]);
      return this.steps.map(({ bytes, direct }) => `direct ${direct} ns at ${bytes} bytes`).join(', ');
    };
    return [{ what: 'the programs alone', seconds: sizes.length * 3, measure }];
  }

  private rates(): Step[] {
    const { milliseconds, repetitions } = this.plan;
    const trial = milliseconds / 1000;
    const turns = Array.from({ length: repetitions }, (_, turn) => turn);
    return turns.flatMap((turn) =>
      this.pairs().map(([subject, bytes]) => ({
        what: `${subject}, ${bytes} bytes`,
        seconds: SWITCHING_SECONDS + trial * (turn === 0 ? 1 + SEARCH_TRIALS + LATENCY_SHARES.length : 1),
        measure: async () => {
          if (turn === 0) await this.bench.place('softirq');
          await this.use(subject, { bytes });
          const came = await this.overload(subject, bytes);
          return turn > 0 ? came : `${came}; ${await this.withoutLoss(subject, bytes)}`;
        },
      })),
    );
  }

  private pairs(sizes = this.plan.sizes): [Subject, number][] {
    const { subjects } = this.plan;
    return sizes.flatMap((bytes) =>
      subjects.filter((subject) => isPossible(subject, bytes)).map((subject): [Subject, number] => [subject, bytes]),
    );
  }

  private async overload(subject: Subject, bytes: number): Promise<string> {
    const { result, byStandby } = await this.sharing(subject, bytes, () => this.overloadRates(bytes));
    const before = this.point(subject, bytes);
    this.keep({
      ...before,
      offered: [...before.offered, ...result.offered],
      overload: [...before.overload, ...result.overload],
      ...(byStandby === undefined
        ? {}
        : { byStandby: { overload: [...(before.byStandby?.overload ?? []), byStandby] } }),
    });
    return said(result);
  }

  private async overloadRates(bytes: number): Promise<Rates> {
    const { offered, in_time, seconds } = await this.trial({ bytes, pps: OVERLOAD });
    return { offered: [offered / seconds], overload: [in_time / seconds] };
  }

  /** Of the legacy program's datagrams, the share that the standby had to take. */
  private async sharing<T>(
    subject: Subject,
    bytes: number,
    work: () => Promise<T>,
  ): Promise<{ result: T; byStandby?: number }> {
    if (subject !== 'nfqueue' || bytes <= LONGEST_WHOLE) return { result: await work() };
    const before = await this.bench.clearedByNetfilter();
    const result = await work();
    const after = await this.bench.clearedByNetfilter();
    return { result, byStandby: (after.byStandby - before.byStandby) / (after.all - before.all) };
  }

  private async withoutLoss(subject: Subject, bytes: number): Promise<string> {
    const isIt = (point: Point): boolean => point.subject === subject && point.bytes === bytes;
    const known = this.before()?.points.find(isIt)?.lossless?.rate;
    const guess = (this.point(subject, bytes).overload.at(-1) ?? 0) * 0.8;
    const lossless = await (known ? this.search(bytes, known, CLOSE) : this.search(bytes, guess));
    this.keep({ ...this.point(subject, bytes), lossless });
    const latency: Latency[] = [];
    for (const share of LATENCY_SHARES) latency.push(await this.latency(bytes, share, lossless.rate));
    this.keep({ ...this.point(subject, bytes), latency });
    return (
      `without loss ${lossless.isLowerBound ? 'at least ' : ''}${rounded(lossless.rate)}, ` +
      latency.map(({ share, p50, p99 }) => `at ${share * 100} % p50 ${p50} ns, p99 ${p99} ns`).join(', ')
    );
  }

  private search(bytes: number, guess: number, stride?: number): Promise<Found> {
    const tryRate = async (pps: number): Promise<Verdict> => {
      for (let tries = 1; ; tries++) {
        const { offered, delivered, seconds } = await this.trial({ bytes, pps });
        const verdict = { lost: offered - delivered, rate: offered / seconds };
        if (isConclusive(verdict, pps) || tries === TRIES) return verdict;
      }
    };
    return highestWithoutLoss(tryRate, {
      ...{ guess, least: LEAST_RATE, most: MOST_RATE },
      ...(stride === undefined ? {} : { stride }),
    });
  }

  private async latency(bytes: number, share: number, lossless: number): Promise<Latency> {
    const pps = Math.max(Math.round(lossless * share), LEAST_RATE);
    const { offered, delivered, seconds, latencies } = await this.trial({ bytes, pps, isTimed: true });
    const at = (part: number): number => Math.round(percentile(latencies, part));
    return {
      ...{ share, rate: offered / seconds, lost: offered - delivered },
      ...{ p50: at(0.5), p99: at(0.99), p999: at(0.999) },
    };
  }

  private costs(): Step[] {
    const { sizes, milliseconds } = this.plan;
    return sizes.flatMap((bytes) => {
      let idle = 1;
      const atRest: Step = {
        what: `a gateway at rest, before ${bytes} bytes`,
        seconds: REST_SECONDS,
        measure: async () => {
          await this.bench.place('thread');
          idle = await idleShare();
          return `its processor is idle for ${(idle * 100).toFixed(1)} %`;
        },
      };
      const each = this.pairs([bytes]).map(([subject]) => ({
        what: `the work of ${subject}, ${bytes} bytes`,
        seconds: SWITCHING_SECONDS + milliseconds / 1000,
        measure: () => this.cost(subject, bytes, idle),
      }));
      return [atRest, ...each];
    });
  }

  private async cost(subject: Subject, bytes: number, idle: number): Promise<string> {
    if (idle < LEAST_IDLE) return 'not measured: others keep its processor busy';
    await this.use(subject, { bytes });
    const before = this.point(subject, bytes);
    const pps = Math.max(Math.round((before.lossless?.rate ?? 0) * COST_SHARE), LEAST_RATE);
    const { result: measured, byStandby } = await this.sharing(subject, bytes, () =>
      busy(() => this.trial({ bytes, pps })),
    );
    const { result, seconds, elapsed } = measured;
    const nanoseconds = Math.round(((seconds - elapsed * (1 - idle)) / result.delivered) * 1e9);
    if (!(nanoseconds > 0)) return 'not measured: less than its processor worked at rest';
    const cost = { rate: result.offered / result.seconds, nanoseconds };
    const { overload = [] } = before.byStandby ?? {};
    this.keep({ ...before, cost, ...(byStandby === undefined ? {} : { byStandby: { overload, cost: byStandby } }) });
    return `${nanoseconds} ns a datagram at ${rounded(pps)}`;
  }

  private growthWithFlows(): Step[] {
    const bytes = GROWTH_BYTES;
    return FLOW_BITS.flatMap((flowBits) =>
      this.engines().map((subject) => ({
        what: `${subject}, ${(2 ** flowBits).toLocaleString('en')} flows`,
        seconds: SWITCHING_SECONDS + this.plan.milliseconds / 1000,
        measure: async () => {
          await this.bench.place('softirq');
          await this.use(subject, { bytes, flowBits });
          const rates = await this.overloadRates(bytes);
          this.flows.push({ subject, flows: 2 ** flowBits, ...rates });
          if (flowBits === FLOW_BITS[0]) this.memory.push(await this.bench.memory(subject));
          return said(rates);
        },
      })),
    );
  }

  /** What stays in the driver has the core that polls its interface, and a veth has one. */
  private growthWithCores(): Step[] {
    const bytes = GROWTH_BYTES;
    return [[GATEWAY_CORE], [GENERATOR_CORE, GATEWAY_CORE]].flatMap((cores) =>
      this.engines()
        .filter((subject) => !IN_DRIVER.includes(subject))
        .map((subject) => ({
          what: `${subject}, packets on ${cores.length} of two cores`,
          seconds: SWITCHING_SECONDS + this.plan.milliseconds / 1000,
          measure: async () => {
            await this.bench.place('softirq', cores);
            await this.use(subject, { bytes });
            const rates = await this.overloadRates(bytes);
            this.cores.push({ subject, cores: cores.length, ...rates });
            return said(rates);
          },
        })),
    );
  }

  private engines(): Engine[] {
    return ENGINES.filter((engine) => this.plan.subjects.includes(engine));
  }

  private async use(subject: Subject, options: UseOptions): Promise<void> {
    await this.bench.use(subject, options);
    this.isGateway = ENGINES.some((engine) => engine === subject);
  }

  private async trial(options: Omit<TrialOptions, 'milliseconds'>): Promise<Trial> {
    const { milliseconds } = this.plan;
    const trial = await this.bench.run({ ...options, milliseconds });
    const { surplus, foreign, with_df } = trial;
    const wrong = options.bytes > LONGEST_WHOLE && this.isGateway ? with_df : 0;
    if (surplus + foreign + wrong > 0)
      this.say(
        `${surplus} frames too many, ${foreign} of unknown origin, ${wrong} with DF at ${options.bytes} bytes, ${options.pps}/s`,
      );
    return trial;
  }

  private point(subject: Subject, bytes: number): Point {
    return this.points.get(`${subject} ${bytes}`) ?? { subject, bytes, offered: [], overload: [] };
  }

  private keep(point: Point): void {
    this.points.set(`${point.subject} ${point.bytes}`, point);
  }
}

/** Of the gateway's processor at rest. */
async function idleShare(): Promise<number> {
  let most = 0;
  for (let look = 0; look < LOOKS && most < LEAST_IDLE; look++)
    most = Math.max(most, 1 - (await busy(() => sleep(LOOK_MS))).seconds / (LOOK_MS / 1000));
  return most;
}

/** How long the gateway's processor worked meanwhile; all in seconds. */
async function busy<T>(work: () => Promise<T>): Promise<{ result: T; seconds: number; elapsed: number }> {
  const [startedAt, idleBefore] = [performance.now(), idleSeconds()];
  const result = await work();
  const elapsed = (performance.now() - startedAt) / 1000;
  return { result, elapsed, seconds: Math.max(elapsed - (idleSeconds() - idleBefore), 0) };
}
