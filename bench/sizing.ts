// SPDX-License-Identifier: Apache-2.0
// How many gateways a mirrored load needs with each engine, and what they cost a month: from what was measured and from what
// AWS publishes of its instances (constructs/instances.json). The processor that was measured is not an instance's, and the packet rate
// that AWS allows an instance is unknown: the answer is where to begin, not what to expect.
import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import inputs from '../constructs/instances.json';
import { LARGEST_IN_DRIVER_MODE, mirroredFrame } from '../constructs/limits';
import type { Engine, Results } from './results';
import { mean, median } from './statistics';

/** In bytes. */
const ETHERNET = 14;
const IPV4 = 20;
/** The default of `egress_mtu`, in bytes, and what was measured with. */
const EGRESS_MTU = 1400;
/** What every fragment but the last carries, in bytes: a multiple of 8. */
const FRAGMENT_DATA = Math.floor((EGRESS_MTU - IPV4) / 8) * 8;

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

/** Fragments that a datagram of so many bytes (IP total length) leaves in. */
export function fragmentsOf(bytes: number): number {
  return 1 + Math.ceil(Math.max(0, bytes - EGRESS_MTU) / FRAGMENT_DATA);
}

/** Bits that come for a datagram of so many bytes (IP total length), the mirror's headers included. */
export function bitsIn(bytes: number): number {
  return 8 * mirroredFrame(bytes);
}

/** Bits that leave for it: all its fragments with their headers. */
export function bitsOut(bytes: number): number {
  return 8 * (bytes - IPV4 + fragmentsOf(bytes) * (ETHERNET + IPV4));
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
  fragment: (bytes) => fragmentsOf(bytes) - 1,
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

/** Nanoseconds of the measured processor for a datagram of so many bytes (IP total length). */
export function nanosecondsFor(cost: Cost, bytes: number): number {
  return cost.datagram + cost.fragment * (fragmentsOf(bytes) - 1) + cost.byte * bytes;
}

/** By size, the smallest first. Of the legacy program without those that stay whole, because it gets none of them. */
export function measuredCosts(results: Results, engine: Engine): Measured[] {
  const bySize = new Map<number, number[]>();
  results.runs
    .flatMap(({ points }) => points)
    .forEach(({ subject, bytes, cost }) => {
      if (subject === engine && cost && (engine !== 'nfqueue' || bytes > EGRESS_MTU))
        bySize.set(bytes, [...(bySize.get(bytes) ?? []), mean(cost.map(({ nanoseconds }) => nanoseconds))]);
    });
  return [...bySize]
    .map(([bytes, all]) => ({ bytes, nanoseconds: median(all) }))
    .sort((one, other) => one.bytes - other.bytes);
}

/** Whose cost a datagram of so many bytes has with an engine: what the rule does not take, the legacy program never sees. */
export function costsAs(engine: Engine, bytes: number): Engine {
  return engine === 'nfqueue' && bytes <= EGRESS_MTU ? 'standby' : engine;
}

function deviations(cost: Cost, measured: readonly Measured[]): number[] {
  return measured.map(({ bytes, nanoseconds }) => Math.abs(nanosecondsFor(cost, bytes) / nanoseconds - 1));
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
 * interface no more than there are vCPUs, and a program in its driver half of them. The legacy program is one thread, with
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
}

export interface Assumptions {
  /** The share of a processor that the load may take. */
  readonly headroom: number;
  /** Gateways on top, so that the fleet survives the loss of as many. */
  readonly spare: number;
  /** How much faster an instance's vCPU is than the measured processor. */
  readonly speed: number;
}

export type Limit = 'processor' | 'bandwidth in' | 'bandwidth out';

export interface Need {
  /** On the instance, for a datagram. */
  readonly nanoseconds: number;
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

/** Datagrams/s that a gateway takes at most, by what limits it. */
function capacities(nanoseconds: number, vcpus: number, bytes: number, gbps: number): [Limit, number][] {
  return [
    ['processor', (vcpus * 1e9) / nanoseconds],
    ['bandwidth in', (gbps * 1e9) / bitsIn(bytes)],
    ['bandwidth out', (gbps * 1e9) / bitsOut(bytes)],
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
  { headroom, spare, speed }: Assumptions,
): Need | Refusal {
  const reason = refusal(engine, load, instance);
  if (reason !== undefined) return { reason };
  if (found === undefined) return { reason: 'was not measured' };
  const { bytes, pps } = load;
  const nanoseconds = nanosecondsFor(found.cost, bytes) / speed;
  const vcpus = usableVcpus(engine, instance) * headroom;
  const [limit, capacity] = capacities(nanoseconds, vcpus, bytes, instance.baselineGbps).reduce((least, each) =>
    each[1] < least[1] ? each : least,
  );
  const gateways = Math.ceil(pps / capacity) + spare;
  const sizes = found.measured.map((each) => each.bytes);
  return {
    ...{ nanoseconds, limit, gateways, monthly: gateways * instance.hourly * inputs.hoursAMonth },
    isExtrapolated: bytes < Math.min(...sizes) || bytes > Math.max(...sizes),
  };
}
