// SPDX-License-Identifier: Apache-2.0
// The shape of docs/performance.json: what run.ts measured, as it was measured; report.ts and sizing.ts compute the rest.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../lab/support/host';

/** `generic` and `driver` are modes of the direct engine. */
export const ENGINES = ['nfqueue', 'standby', 'bridge', 'generic', 'driver'] as const;
export type Engine = (typeof ENGINES)[number];

/**
 * Devices under test (RFC 2544), which results, tables and options call subjects: engines, and two references.
 * `baseline` is a program that only takes off the outer headers and redirects, in the driver; `path` is no gateway at all: what
 * the generator offers is counted at the primary interface.
 */
export const DEVICES_UNDER_TEST = [...ENGINES, 'baseline', 'path'] as const;
export type DeviceUnderTest = (typeof DEVICES_UNDER_TEST)[number];

/** Those whose frames never become the kernel's packets. */
export const IN_DRIVER: readonly DeviceUnderTest[] = ['driver', 'baseline', 'path'];

/** Rates are whole datagrams a second, times nanoseconds. */
export interface Latency {
  /** Of the highest rate without loss. */
  readonly share: number;
  readonly rate: number;
  /** Datagrams that did not come. */
  readonly lost: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** One subject at one size in one run. */
export interface Point {
  readonly subject: DeviceUnderTest;
  /** IP total length of the mirrored datagrams. */
  readonly bytes: number;
  /** At overload: what was offered and what came, a value for each repetition. */
  readonly offered: readonly number[];
  readonly overload: readonly number[];
  /**
   * The highest rate at which nothing was lost (RFC 2544, section 26.1). A bound: the generator or the sink did no more. A value
   * for each search, and how many rates it tried.
   */
  readonly lossless?: readonly { readonly rate: number; readonly isLowerBound: boolean; readonly trials: number }[];
  readonly latency?: readonly Latency[];
  /** What the gateway's processor worked for each datagram that came, at `rate`; a value for each repetition. */
  readonly cost?: readonly { readonly rate: number; readonly nanoseconds: number }[];
  /**
   * Of `nfqueue`, where the rule takes its datagrams: the share of them for which the program's queue had no room, so that
   * `standby` cleared DF. A value for each repetition of `overload` and of `cost`.
   */
  readonly byStandby?: { readonly overload: readonly number[]; readonly cost: readonly number[] };
  /**
   * At overload, the frames for which the sink's ring had no room, as a part of them and the datagrams that came: the bench lost
   * as much at most (each may have been the only one missing of a datagram), not the engine. A value for each repetition.
   */
  readonly refusedBySink: readonly number[];
}

/** At overload, as in `Point`. */
interface Growth extends Pick<Point, 'offered' | 'overload' | 'refusedBySink'> {
  readonly subject: Engine;
}

export interface FlowPoint extends Growth {
  readonly flows: number;
}

export interface CorePoint extends Growth {
  /** That take the kernel's packets; one of two is also the generator's. */
  readonly cores: number;
}

/** Nanoseconds of one run of the program alone (BPF_PROG_TEST_RUN), the clock's own included: that of the empty program. */
export interface StepCost {
  readonly bytes: number;
  readonly empty: number;
  readonly bridge: number;
  readonly direct: number;
}

export interface Memory {
  readonly subject: Engine;
  /** Resident set of its long-lived processes, in bytes: of the NFQUEUE daemon after an overload, of a loader after its start. */
  readonly processes: number;
  /** Its BPF maps, in bytes; 0: it has none. */
  readonly maps: number;
}

/** One complete run: all that is in it was measured in turns. */
export interface Run {
  readonly date: string;
  readonly seconds: number;
  /** Discarded before one counted, or counted all the same: with the processors apart (cpu-affinity.ts). */
  readonly trials: { readonly counted: number; readonly discarded: number; readonly apart: number };
  readonly points: readonly Point[];
  readonly flows: readonly FlowPoint[];
  readonly cores: readonly CorePoint[];
  readonly steps: readonly StepCost[];
  /** The same with both processors running the programs at once: the mean of the two. */
  readonly stepsOnBoth: readonly StepCost[];
  readonly memory: readonly Memory[];
}

export interface Results {
  readonly how: {
    readonly sizes: readonly number[];
    /** Of the gateways, in bytes. @default - 1400, in results of before there was a choice */
    readonly egressMtu?: number;
    /** Of an overload. */
    readonly repetitions: number;
    readonly searches: number;
    readonly costRepetitions: number;
    /** What stays in the driver takes part in the first round of overloads and of searches, and then in one of so many. */
    readonly inDriverEvery: number;
    /** Offered at overload, datagrams/s; 0: as many as the generator can. */
    readonly overload: number;
    /** Of one trial of a search for the highest rate without loss. */
    readonly searchMilliseconds: number;
    /** Below this rate, datagrams/s, longer in proportion. */
    readonly longerBelow: number;
    /** Of any other trial. */
    readonly milliseconds: number;
    /** In a search, a rate fails when so many trials lose something, or one more than this share. */
    readonly tries: number;
    readonly much: number;
    /** Of the kernel, while a run lasts (net.core.dev_weight and netdev_max_backlog of sysctl). */
    readonly devWeight: number;
    readonly backlog: { readonly overload: number; readonly other: number };
    /** IP total length at which flows and cores were varied. */
    readonly growthBytes: number;
  };
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly kernel: string;
    readonly load: readonly number[];
  };
  readonly software: { readonly commit: string; readonly clang: string };
  readonly runs: readonly Run[];
}

export const CHECKED_IN = join(REPOSITORY, 'docs/performance.json');

export function readResults(file: string): Results {
  return JSON.parse(readFileSync(file, 'utf8')) as Results;
}
