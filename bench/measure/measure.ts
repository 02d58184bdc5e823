// SPDX-License-Identifier: Apache-2.0
// One complete run as a list of steps. Rates, which are compared, are measured in rounds through all sizes and subjects, and those
// of both kinds by turns: whatever disturbs the machine disturbs all, and no figure's repetitions at once.
import { LARGEST_IN_DRIVER_MODE } from '../../constructs/config/limits';
import { GATEWAY_CORE, GENERATOR_CORE } from './machine';
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
  type DeviceUnderTest,
} from '../results';
import { type Found, highestWithoutLoss, isConclusive, isOffered, mean, percentile, type Verdict } from './statistics';
import type { Bench, Observed } from './devices-under-test';
import { OVERLOAD, type TrialOptions } from './trials';

export interface Plan {
  readonly subjects: readonly DeviceUnderTest[];
  readonly sizes: readonly number[];
  /** Of an overload. */
  readonly repetitions: number;
  /** For each rate without loss. */
  readonly searches: number;
  readonly costRepetitions: number;
  /** Of one trial of a search. */
  readonly searchMilliseconds: number;
  /** Flows, cores and memory, too. */
  readonly hasGrowth: boolean;
}

type Tell = (share: number, message: string) => void;

export interface Step {
  readonly what: string;
  /** About what it takes, against the others. */
  readonly seconds: number;
  /** Says in a few words what came of it, and before, now and then, which share of it is done. */
  readonly measure: (tell: Tell) => Promise<string>;
}

/** At least this many datagrams/s, or the search for a rate without loss gives up. */
const LEAST_RATE = 5000;
const MOST_RATE = 10_000_000;
/** Of any trial but those of a search. At overload the NFQUEUE daemon's queue, empty at first, is a small part of what comes. */
export const TRIAL_MS = 1000;
/**
 * A machine that others use is held up now and then: a rate at which little is lost fails only when that happens so often. Between
 * tries, all other searches have their turn.
 */
export const TRIES = 3;
/** Of what was offered: so much is lost by no accident. */
export const MUCH = 0.01;
/**
 * Below this rate, trials of a search last longer in proportion: the kernel's backlog takes 8192 datagrams before it loses one,
 * which is 4 % of a trial then, as much as the precision of the search (datagrams/s).
 */
export const LONGER_BELOW = 100_000;
const LATENCY_SHARES = [0.5, 0.9] as const;
/** Of the rate without loss: the gateway's processor works, and is idle, too. */
const COST_SHARE = 0.5;
const REST_SECONDS = 2;
/** The default of `egress_mtu`, and of `min_packet_size`: the rule takes longer ones, and they are cut. */
const LONGEST_WHOLE = 1400;
/** Fragments, as most of the traffic for which there is a gateway. */
export const GROWTH_BYTES = 1428;
const FLOW_BITS = [0, 10, 16, 20] as const;
/** To begin a trial, and to wait for the last of its frames. */
const AROUND_SECONDS = 0.1;
/** A generator and a sink for another purpose. */
const RESTART_SECONDS = 0.5;
/** What stays in the driver takes part in one round of so many: it ends where the generator does, and varies half as much. */
export const IN_DRIVER_EVERY = 4;
/** Of one search, more or less. */
const SEARCH_TRIALS = 5;

/** The driver's programs take no jumbo frames (docs/direct-engine.md). */
function isPossible(subject: DeviceUnderTest, bytes: number): boolean {
  return bytes <= LARGEST_IN_DRIVER_MODE || !['driver', 'baseline'].includes(subject);
}

const secondsOf = (milliseconds: number): number => milliseconds / 1000 + AROUND_SECONDS;

const rounded = (rate: number): string => `${Math.round(rate).toLocaleString('en')}/s`;

type Tried = Verdict & { readonly refused: number };

type Rates = Pick<Point, 'offered' | 'overload' | 'refusedBySink'>;

const ratesOf = ({ offered, in_time, seconds, refused }: Observed): Rates => ({
  offered: [offered / seconds],
  overload: [in_time / seconds],
  refusedBySink: [refused / (in_time + refused)],
});

const said = ({ offered, overload }: Rates): string =>
  `${rounded(overload[0] ?? NaN)} of ${rounded(offered[0] ?? NaN)}`;

/** What a run needs of it. */
export type Measured = Pick<Bench, 'place' | 'run' | 'prepare' | 'idleShare' | 'memory' | 'stepCosts'>;

export class Measurement {
  private readonly points = new Map<string, Point>();
  private readonly flows: FlowPoint[] = [];
  private readonly cores: CorePoint[] = [];
  private readonly memory: Memory[] = [];
  private steps: StepCost[] = [];
  private stepsOnBoth: StepCost[] = [];
  private readonly trials = { counted: 0, discarded: 0, apart: 0 };
  private startedAt = NaN;

  constructor(
    private readonly bench: Measured,
    private readonly plan: Plan,
    private readonly say: (message: string) => void,
  ) {}

  /** All steps, from now on. */
  all(): Step[] {
    const { hasGrowth } = this.plan;
    this.startedAt = Date.now();
    return [
      ...this.programs(),
      ...this.rates(),
      ...this.latencySteps(),
      ...this.costs(),
      ...(hasGrowth ? [...this.growthWithFlows(), ...this.growthWithCores()] : []),
    ];
  }

  result(): Run {
    const { trials, steps, stepsOnBoth, flows, cores, memory } = this;
    return {
      date: new Date(this.startedAt).toISOString(),
      seconds: Math.round((Date.now() - this.startedAt) / 1000),
      points: [...this.points.values()],
      ...{ trials, flows, cores, steps, stepsOnBoth, memory },
    };
  }

  private programs(): Step[] {
    const sizes = this.plan.sizes.filter((bytes) => bytes <= LARGEST_IN_DRIVER_MODE);
    const measure = async (): Promise<string> => {
      this.steps = await this.bench.stepCosts(sizes);
      this.stepsOnBoth = await this.bench.stepCosts(sizes, [GENERATOR_CORE, GATEWAY_CORE]);
      return this.steps.map(({ bytes, direct }) => `direct ${direct} ns at ${bytes} bytes`).join(', ');
    };
    return [{ what: 'the programs alone', seconds: this.plan.sizes.length * 3, measure }];
  }

  /** First an overload, from which the first search begins: no run knows of another. */
  private rates(): Step[] {
    const { repetitions, searches } = this.plan;
    const searchAfter = (round: number): number => Math.floor(((round - 1) * searches) / repetitions) + 1;
    return rounds(searches).flatMap((search) => [
      ...rounds(repetitions)
        .filter((round) => searchAfter(round) === search)
        .flatMap((round) => this.overloads(round)),
      this.search(search),
    ]);
  }

  private overloads(round: number): Step[] {
    return this.plan.sizes.map((bytes) => ({
      what: `overload ${round} of ${this.plan.repetitions}, ${bytes} bytes`,
      seconds: this.subjectsIn(round, bytes).length * secondsOf(TRIAL_MS),
      measure: async () => {
        await this.bench.place('softirq');
        const said: string[] = [];
        for (const subject of this.subjectsIn(round, bytes))
          said.push(`${subject} ${await this.overload(subject, bytes)}`);
        return said.join(', ');
      },
    }));
  }

  /** For all rates at once: who asks for the next trial waits behind the others, so that they take turns. */
  private search(number: number): Step {
    const { sizes, searches, searchMilliseconds } = this.plan;
    const all = sizes.flatMap((bytes) => this.subjectsIn(number, bytes).map((subject) => ({ subject, bytes })));
    const planned = all.length * SEARCH_TRIALS;
    const measure = async (tell: Tell): Promise<string> => {
      let trials = 0;
      const say = (message: string): void => tell(Math.min(trials / planned, 1), message);
      const onTrial = (): void => {
        trials += 1;
        if (trials % all.length === 0) say(`${trials} trials`);
      };
      const searches = all.map(async ({ subject, bytes }) => {
        const { rate, isLowerBound } = await this.withoutLoss(subject, bytes, onTrial);
        say(`${subject}, ${bytes} bytes: ${isLowerBound ? 'at least ' : ''}${rounded(rate)}`);
      });
      await Promise.all(searches);
      return `all ${all.length} rates found in ${trials} trials`;
    };
    return { what: `without loss ${number} of ${searches}`, seconds: planned * secondsOf(searchMilliseconds), measure };
  }

  private latencySteps(): Step[] {
    return this.plan.sizes.flatMap((bytes) =>
      this.subjectsAt(bytes).map((subject) => ({
        what: `latency of ${subject}, ${bytes} bytes`,
        seconds: LATENCY_SHARES.length * secondsOf(TRIAL_MS),
        measure: () => this.latencies(subject, bytes),
      })),
    );
  }

  private subjectsAt(bytes: number): readonly DeviceUnderTest[] {
    return this.plan.subjects.filter((subject) => isPossible(subject, bytes));
  }

  private subjectsIn(round: number, bytes: number): DeviceUnderTest[] {
    const takesPart = (subject: DeviceUnderTest): boolean =>
      !IN_DRIVER.includes(subject) || round % IN_DRIVER_EVERY === 1;
    return this.subjectsAt(bytes).filter(takesPart);
  }

  private async overload(subject: DeviceUnderTest, bytes: number): Promise<string> {
    const trial = await this.trial(subject, { bytes, pps: OVERLOAD, milliseconds: TRIAL_MS });
    const result = ratesOf(trial);
    const before = this.point(subject, bytes);
    this.keep({
      ...before,
      offered: [...before.offered, ...result.offered],
      overload: [...before.overload, ...result.overload],
      refusedBySink: [...before.refusedBySink, ...result.refusedBySink],
      ...withStandby(before, { overload: trial.byStandby }),
    });
    return said(result);
  }

  private async growth(subject: Engine, flowBits?: number): Promise<Rates> {
    return ratesOf(await this.trial(subject, { bytes: GROWTH_BYTES, pps: OVERLOAD, milliseconds: TRIAL_MS }, flowBits));
  }

  private async withoutLoss(subject: DeviceUnderTest, bytes: number, onTrial: () => void): Promise<Found> {
    const { lossless: before = [], overload } = this.point(subject, bytes);
    const tried: Tried[] = [];
    const tryRate = async (pps: number): Promise<Verdict> => {
      const verdict = await this.bestOfTries(subject, bytes, pps, onTrial);
      tried.push(verdict);
      return verdict;
    };
    const guess = losslessIn(this.point(subject, bytes)) || mean(overload) * 0.9;
    const found = await highestWithoutLoss(tryRate, { guess, least: LEAST_RATE, most: MOST_RATE });
    const [failed] = tried.filter(({ lost }) => lost > 0).sort((one, other) => one.rate - other.rate);
    const isSinks = failed !== undefined && failed.refused >= failed.lost;
    const lossless = { ...found, isLowerBound: found.isLowerBound || isSinks };
    this.keep({ ...this.point(subject, bytes), lossless: [...before, lossless] });
    return lossless;
  }

  /** Ends with the first that decides, or with the best of those in which the generator was not held up, if there is one. */
  private async bestOfTries(subject: DeviceUnderTest, bytes: number, pps: number, onTrial: () => void): Promise<Tried> {
    const milliseconds = Math.round(this.plan.searchMilliseconds * Math.max(LONGER_BELOW / pps, 1));
    const isBetter = (one: Tried, other: Tried): boolean => {
      if (isOffered(one, pps) !== isOffered(other, pps)) return isOffered(one, pps);
      return one.lost < other.lost || (one.lost === other.lost && one.rate > other.rate);
    };
    let best: Tried = { lost: Infinity, rate: 0, refused: 0 };
    for (let tries = 1; tries <= TRIES; tries++) {
      const { offered, delivered, seconds, refused } = await this.trial(subject, { bytes, pps, milliseconds });
      onTrial();
      const tried = { lost: offered - delivered, rate: offered / seconds, refused };
      if (isConclusive(tried, pps) || tried.lost > offered * MUCH) return tried;
      if (isBetter(tried, best)) best = tried;
    }
    return best;
  }

  private async latencies(subject: DeviceUnderTest, bytes: number): Promise<string> {
    const rate = losslessIn(this.point(subject, bytes)) ?? 0;
    const latency: Latency[] = [];
    for (const share of LATENCY_SHARES) latency.push(await this.latency(subject, bytes, share, rate));
    this.keep({ ...this.point(subject, bytes), latency });
    return latency.map(({ share, p50, p99 }) => `at ${share * 100} % p50 ${p50} ns, p99 ${p99} ns`).join(', ');
  }

  private async latency(subject: DeviceUnderTest, bytes: number, share: number, lossless: number): Promise<Latency> {
    const pps = Math.max(Math.round(lossless * share), LEAST_RATE);
    const trial = await this.trial(subject, { bytes, pps, milliseconds: TRIAL_MS, isTimed: true });
    const { offered, delivered, seconds, latencies } = trial;
    const at = (part: number): number => Math.round(percentile(latencies, part));
    return {
      ...{ share, rate: offered / seconds, lost: offered - delivered },
      ...{ p50: at(0.5), p99: at(0.99), p999: at(0.999) },
    };
  }

  private costs(): Step[] {
    const { sizes, costRepetitions } = this.plan;
    return rounds(costRepetitions).flatMap((round) => sizes.flatMap((bytes) => this.costsAt(bytes, round)));
  }

  private costsAt(bytes: number, round: number): Step[] {
    const which = `${round} of ${this.plan.costRepetitions}, ${bytes} bytes`;
    let idle = 1;
    const atRest: Step = {
      what: `cost ${which}: a gateway at rest`,
      seconds: REST_SECONDS,
      measure: async () => {
        await this.bench.place('thread');
        idle = await this.bench.idleShare();
        return `its processor is idle for ${(idle * 100).toFixed(1)} %`;
      },
    };
    const each = this.subjectsAt(bytes).map((subject) => ({
      what: `cost ${which}: ${subject}`,
      seconds: RESTART_SECONDS + secondsOf(TRIAL_MS),
      measure: () => this.cost(subject, bytes, idle),
    }));
    return [atRest, ...each];
  }

  private async cost(subject: DeviceUnderTest, bytes: number, idle: number): Promise<string> {
    const before = this.point(subject, bytes);
    const pps = Math.max(Math.round((losslessIn(before) ?? 0) * COST_SHARE), LEAST_RATE);
    await this.bench.prepare(subject, bytes);
    const trial = await this.trial(subject, { bytes, pps, milliseconds: TRIAL_MS });
    const { offered, seconds, delivered, worked, elapsed, byStandby } = trial;
    const nanoseconds = Math.round(((worked - elapsed * (1 - idle)) / delivered) * 1e9);
    const cost = [...(before.cost ?? []), { rate: offered / seconds, nanoseconds }];
    this.keep({ ...before, cost, ...withStandby(before, { cost: byStandby }) });
    return `${nanoseconds} ns a datagram at ${rounded(pps)}`;
  }

  private growthWithFlows(): Step[] {
    return FLOW_BITS.flatMap((flowBits) =>
      this.engines().map((subject) => ({
        what: `${subject}, ${(2 ** flowBits).toLocaleString('en')} flows`,
        seconds: RESTART_SECONDS + secondsOf(TRIAL_MS),
        measure: async () => {
          await this.bench.place('softirq');
          const rates = await this.growth(subject, flowBits);
          this.flows.push({ subject, flows: 2 ** flowBits, ...rates });
          if (flowBits === FLOW_BITS[0]) this.memory.push(await this.bench.memory(subject));
          return said(rates);
        },
      })),
    );
  }

  /** What stays in the driver has the core that polls its interface, and a veth has one. */
  private growthWithCores(): Step[] {
    return [[GATEWAY_CORE], [GENERATOR_CORE, GATEWAY_CORE]].flatMap((cores) =>
      this.engines()
        .filter((subject) => !IN_DRIVER.includes(subject))
        .map((subject) => ({
          what: `${subject}, packets on ${cores.length} of two cores`,
          seconds: RESTART_SECONDS + secondsOf(TRIAL_MS),
          measure: async () => {
            await this.bench.place('softirq', cores);
            const rates = await this.growth(subject);
            this.cores.push({ subject, cores: cores.length, ...rates });
            return said(rates);
          },
        })),
    );
  }

  private engines(): Engine[] {
    return ENGINES.filter((engine) => this.plan.subjects.includes(engine));
  }

  private async trial(subject: DeviceUnderTest, options: TrialOptions, flowBits?: number): Promise<Observed> {
    const { result: trial, discarded, isApart } = await this.bench.run(subject, options, flowBits);
    const { surplus, unmatched, with_df } = trial;
    this.trials.counted += 1;
    this.trials.discarded += discarded;
    this.trials.apart += Number(isApart);
    if (trial.delivered === 0)
      throw new Error(
        `${subject}: none of ${trial.offered} datagrams of ${options.bytes} bytes came; is something else running?`,
      );
    const isGateway = ENGINES.some((engine) => engine === subject);
    const wrong = options.bytes > LONGEST_WHOLE && isGateway ? with_df : 0;
    if (surplus + unmatched + wrong > 0)
      this.say(
        `${subject}: ${surplus} frames too many, ${unmatched} of unknown origin, ${wrong} with DF at ${options.bytes} bytes, ` +
          `${options.pps}/s`,
      );
    return trial;
  }

  private point(subject: DeviceUnderTest, bytes: number): Point {
    return this.points.get(`${subject} ${bytes}`) ?? { subject, bytes, offered: [], overload: [], refusedBySink: [] };
  }

  private keep(point: Point): void {
    this.points.set(`${point.subject} ${point.bytes}`, point);
  }
}

/** Of the searches so far. */
const losslessIn = ({ lossless }: Point): number | undefined => lossless && mean(lossless.map(({ rate }) => rate));

const rounds = (count: number): number[] => Array.from({ length: count }, (_, round) => round + 1);

/** Of `nfqueue`, where it is known. */
function withStandby(
  { byStandby: { overload, cost } = { overload: [], cost: [] } }: Point,
  share: { readonly overload?: number | undefined; readonly cost?: number | undefined },
): Pick<Point, 'byStandby'> {
  const and = (values: readonly number[], value: number | undefined): number[] => [
    ...values,
    ...(value === undefined ? [] : [value]),
  ];
  if (share.overload === undefined && share.cost === undefined) return {};
  return { byStandby: { overload: and(overload, share.overload), cost: and(cost, share.cost) } };
}
