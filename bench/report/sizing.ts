// SPDX-License-Identifier: Apache-2.0
// How many gateways a mirrored load needs with each engine, and what they cost a month: from what was measured and from what
// AWS publishes of its instances (constructs/config/instances.json) and of fragments. The processor that was measured is not an
// instance's, and the packet rate that AWS allows an instance is unknown: the answer is where to begin, not what to expect.
import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import inputs from '../../constructs/config/instances.json';
import {
  EC2_FRAGMENTS_PER_SECOND,
  fragmentsOf,
  LARGEST_IN_DRIVER_MODE,
  mirroredFrame,
} from '../../constructs/config/limits';
import type { Engine, Results } from '../results';
import { mean, median } from '../measure/statistics';

/** In bytes. */
const ETHERNET = 14;
const IPV4 = 20;
/** What docs/performance.json was measured with: longer datagrams left in fragments, and none of them whole. */
export const MEASURED_EGRESS_MTU = 1400;
/** The default of `min_packet_size`: the rule takes longer ones. */
const MIN_PACKET_SIZE = 1400;

export interface Instance {
  readonly type: string;
  readonly vcpus: number;
  /** Fewer than vCPUs where two of them share a core. */
  readonly cores: number;
  /** Of each interface. */
  readonly enaQueues: number;
  /** Gbit/s in either direction, for as long as it takes. */
  readonly baselineGbps: number;
  /** Gbit/s while credits last. */
  readonly burstGbps: number;
  /** In `CURRENCY`, on demand, Linux. */
  readonly hourly: number;
}

export const INSTANCES: readonly Instance[] = inputs.instances;
export const REGION = inputs.region;
export const CURRENCY = inputs.currency;
/** When the prices were. */
export const PRICES_OF = inputs.sources.find(({ data }) => data.includes('hourly'))?.date ?? '';

/** Bits that come for a datagram of so many bytes (IP total length), the mirror's headers included. */
export function bitsIn(bytes: number): number {
  return 8 * mirroredFrame(bytes);
}

/** Bits that leave for it: all its fragments with their headers. */
export function bitsOut(bytes: number, fragments: number): number {
  return 8 * (bytes - IPV4 + fragments * (ETHERNET + IPV4));
}

/** Nanoseconds of a processor for each datagram, each of its fragments but one and each of its bytes. */
export interface Cost {
  readonly datagram: number;
  readonly fragment: number;
  readonly byte: number;
}

type Term = keyof Cost;

const COUNT: Readonly<Record<Term, (bytes: number) => number>> = {
  datagram: () => 1,
  fragment: (bytes) => fragmentsOf(bytes, MEASURED_EGRESS_MTU) - 1,
  byte: (bytes) => bytes,
};

/** Where two explain the measured equally well, the earlier is taken. */
const CHOICES: readonly (readonly Term[])[] = [
  ['datagram'],
  ['fragment'],
  ['byte'],
  ['datagram', 'fragment'],
  ['datagram', 'byte'],
  ['fragment', 'byte'],
  ['datagram', 'fragment', 'byte'],
];
const EQUALLY_WELL = 1e-9;

/** What a datagram of so many bytes cost: the median of all runs, in nanoseconds. */
export interface Measured {
  readonly bytes: number;
  readonly nanoseconds: number;
}

/** Shares of what was measured. */
export interface Deviation {
  readonly worst: number;
  readonly mean: number;
}

export interface Fit {
  readonly cost: Cost;
  readonly measured: readonly Measured[];
  /** Undefined where there are as many terms as measured sizes: then it is zero and says nothing. */
  readonly error?: Deviation;
}

/** Nanoseconds of the measured processor for a datagram of so many bytes (IP total length) in so many fragments. */
export function nanosecondsFor(cost: Cost, bytes: number, fragments: number): number {
  return cost.datagram + cost.fragment * (fragments - 1) + cost.byte * bytes;
}

/** By size, the smallest first. Of the NFQUEUE daemon without those that the rule does not take: it gets none of them. */
export function measuredCosts(results: Results, engine: Engine): Measured[] {
  const bySize = new Map<number, number[]>();
  results.runs
    .flatMap(({ points }) => points)
    .forEach(({ subject, bytes, cost }) => {
      if (subject === engine && cost && (engine !== 'nfqueue' || bytes > MIN_PACKET_SIZE))
        bySize.set(bytes, [...(bySize.get(bytes) ?? []), mean(cost.map(({ nanoseconds }) => nanoseconds))]);
    });
  return [...bySize]
    .map(([bytes, all]) => ({ bytes, nanoseconds: median(all) }))
    .sort((one, other) => one.bytes - other.bytes);
}

/** Whose cost a datagram of so many bytes has with an engine: what the rule does not take, the NFQUEUE daemon never sees. */
export function costsAs(engine: Engine, bytes: number): Engine {
  return engine === 'nfqueue' && bytes <= MIN_PACKET_SIZE ? 'standby' : engine;
}

function deviations(cost: Cost, measured: readonly Measured[]): number[] {
  return measured.map(({ bytes, nanoseconds }) => {
    const fragments = fragmentsOf(bytes, MEASURED_EGRESS_MTU);
    return Math.abs(nanosecondsFor(cost, bytes, fragments) / nanoseconds - 1);
  });
}

/** Least squares of the relative deviations; undefined where the sizes do not tell the terms apart or one came out negative. */
function solve(terms: readonly Term[], measured: readonly Measured[]): Cost | undefined {
  if (measured.length < terms.length) return undefined;
  const shares = measured.map(({ bytes, nanoseconds }) => terms.map((term) => COUNT[term](bytes) / nanoseconds));
  const decomposition = new SingularValueDecomposition(new Matrix(shares));
  if (decomposition.rank < terms.length) return undefined;
  const found = decomposition.solve(Matrix.columnVector(measured.map(() => 1))).to1DArray();
  if (found.some((value) => value < 0)) return undefined;
  return { datagram: 0, fragment: 0, byte: 0, ...Object.fromEntries(terms.map((term, at) => [term, found[at]])) };
}

/** The best cost without a negative term; undefined when nothing was measured. */
export function fit(measured: readonly Measured[]): Fit | undefined {
  let best: { cost: Cost; squares: number; terms: number } | undefined;
  for (const terms of CHOICES) {
    const cost = solve(terms, measured);
    if (cost === undefined) continue;
    const squares = deviations(cost, measured).reduce((sum, each) => sum + each ** 2, 0);
    if (best === undefined || squares < best.squares - EQUALLY_WELL) best = { cost, squares, terms: terms.length };
  }
  if (best === undefined) return undefined;
  const all = deviations(best.cost, measured);
  const error = { worst: Math.max(...all), mean: all.reduce((sum, each) => sum + each, 0) / all.length };
  return { cost: best.cost, measured, ...(best.terms < measured.length ? { error } : {}) };
}

/**
 * vCPUs that an engine puts to use. Work is spread by flow, so it is as many as the primary interface has queues; ENA gives an
 * interface no more than there are vCPUs, and a program in its driver half of them. The NFQUEUE daemon is one thread, with
 * another vCPU at most in the kernel for it.
 */
export function usableVcpus(engine: Engine, { vcpus, enaQueues }: Instance): number {
  const queues = Math.min(vcpus, enaQueues);
  if (engine === 'driver') return Math.floor(queues / 2);
  return engine === 'nfqueue' ? Math.min(queues, 2) : queues;
}

export interface Load {
  /** Datagrams a second. */
  readonly pps: number;
  /** IP total length of each. */
  readonly bytes: number;
  /** Longest IP packet that leaves a gateway; longer ones leave in fragments. */
  readonly egressMtu: number;
}

export interface Assumptions {
  /** The share of a processor that the load may take. */
  readonly headroom: number;
  /** Gateways on top, so that the fleet survives the loss of as many. */
  readonly spare: number;
  /** How much faster an instance's vCPU is than the measured processor. */
  readonly speed: number;
  /** Whether ENA's driver takes fragments past EC2's limit. */
  readonly fragmentBypass: boolean;
}

export type Limit = 'processor' | 'bandwidth in' | 'bandwidth out' | "EC2's fragment limit";

export interface Need {
  /** On the instance, for a datagram. */
  readonly nanoseconds: number;
  /** Whether no such datagram was measured: one of about this size, in as many fragments. */
  readonly isExtrapolated: boolean;
  readonly limit: Limit;
  readonly gateways: number;
  /** In `CURRENCY`, the instances alone. */
  readonly monthly: number;
}

/** Why an engine does not carry a load, in a few words. */
export interface Refusal {
  readonly reason: string;
}

/** Datagrams/s that a gateway takes at most, by what limits it. EC2 counts fragments, and no datagram that leaves whole. */
function capacities(
  processor: number,
  { bytes }: Load,
  fragments: number,
  gbps: number,
  fragmentBypass: boolean,
): [Limit, number][] {
  const isLimited = fragments > 1 && !fragmentBypass;
  return [
    ['processor', processor],
    ['bandwidth in', (gbps * 1e9) / bitsIn(bytes)],
    ['bandwidth out', (gbps * 1e9) / bitsOut(bytes, fragments)],
    ["EC2's fragment limit", isLimited ? EC2_FRAGMENTS_PER_SECOND / fragments : Infinity],
  ];
}

function refusal(engine: Engine, { bytes }: Load, instance: Instance): string | undefined {
  if (engine === 'driver' && bytes > LARGEST_IN_DRIVER_MODE) return `takes at most ${LARGEST_IN_DRIVER_MODE} bytes`;
  return usableVcpus(engine, instance) === 0 ? 'needs two queues' : undefined;
}

/** What a load needs with one engine on one instance type. */
export function size(
  engine: Engine,
  load: Load,
  found: Fit | undefined,
  instance: Instance,
  { headroom, spare, speed, fragmentBypass }: Assumptions,
): Need | Refusal {
  const reason = refusal(engine, load, instance);
  if (reason !== undefined) return { reason };
  if (found === undefined) return { reason: 'was not measured' };
  const { bytes, pps, egressMtu } = load;
  const fragments = fragmentsOf(bytes, egressMtu);
  const nanoseconds = nanosecondsFor(found.cost, bytes, fragments) / speed;
  const processor = (usableVcpus(engine, instance) * headroom * 1e9) / nanoseconds;
  const [limit, capacity] = capacities(processor, load, fragments, instance.baselineGbps, fragmentBypass).reduce(
    (least, each) => (each[1] < least[1] ? each : least),
  );
  const gateways = Math.ceil(pps / capacity) + spare;
  const sizes = found.measured.map((each) => each.bytes);
  return {
    ...{ nanoseconds, limit, gateways, monthly: gateways * instance.hourly * inputs.hoursAMonth },
    isExtrapolated:
      bytes < Math.min(...sizes) || bytes > Math.max(...sizes) || fragments !== fragmentsOf(bytes, MEASURED_EGRESS_MTU),
  };
}
