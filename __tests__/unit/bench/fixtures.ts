// SPDX-License-Identifier: Apache-2.0
// Results that nobody measured: of the order that engines have, exactly computable, each run a little faster than the last.
import {
  ENGINES,
  type Engine,
  type Latency,
  type Point,
  type Results,
  type Run,
  type DeviceUnderTest,
} from '../../../bench/results';

/** Datagrams/s at 1428 bytes; longer ones are proportionally fewer. */
const RATES: Readonly<Record<DeviceUnderTest, number>> = {
  ...{ nfqueue: 60_000, standby: 64_000, bridge: 66_000, generic: 240_000, driver: 500_000 },
  ...{ baseline: 590_000, path: 800_000 },
};
const NANOSECONDS: Readonly<Record<Engine, number>> = {
  ...{ nfqueue: 16_000, standby: 11_500, bridge: 11_300, generic: 3_100, driver: 600 },
};
/** Of the highest rate without loss. */
const SHARES = [0.5, 0.9];

const isEngine = (subject: DeviceUnderTest): subject is Engine => ENGINES.some((engine) => engine === subject);

function latencies(subject: Engine, rate: number): Latency[] {
  return SHARES.map((share) => {
    const p50 = NANOSECONDS[subject] * 2 + 10_000 * share;
    return { share, rate: rate * share, lost: 0, p50, p99: p50 * 3, p999: p50 * 9 };
  });
}

function point(subject: DeviceUnderTest, bytes: number, factor: number): Point {
  const rate = ((RATES[subject] * 1428) / Math.max(bytes, 1000)) * factor;
  return {
    ...{
      subject,
      bytes,
      offered: [2_000_000, 1_800_000, 1_900_000].map((each) => each * factor),
      overload: [rate * 0.85, rate * 0.95, rate * 1.2],
      refusedBySink: [0, 0.001, 0],
    },
    lossless: [0.7, 0.75, 0.95].map((share) => ({ rate: rate * share, isLowerBound: subject === 'path', trials: 9 })),
    ...(subject === 'nfqueue' && bytes > 1400 ? { byStandby: { overload: [0.3, 0.25, 0.2], cost: [0.05] } } : {}),
    ...(isEngine(subject)
      ? {
          latency: latencies(subject, rate * 0.8),
          cost: [0.9, 0.95, 1.15].map((noise) => ({
            rate: rate * 0.4,
            nanoseconds: NANOSECONDS[subject] * (0.8 + bytes / 7140) * noise,
          })),
        }
      : {}),
  };
}

export const SIZES = [200, 1380, 1428, 2852, 8486];
const IN_A_PAGE = 3000;

export function run(factor = 1): Run {
  const subjects = [...ENGINES, 'baseline', 'path'] as const;
  const steps = SIZES.map((bytes) => ({ bytes, empty: 20, bridge: 80, direct: 220 }));
  return {
    ...{ date: '2026-01-01T00:00:00.000Z', seconds: 3600, trials: { counted: 1000, discarded: 50, apart: 1 } },
    points: SIZES.flatMap((bytes) =>
      subjects
        .filter((subject) => bytes <= IN_A_PAGE || !['driver', 'baseline'].includes(subject))
        .map((subject) => point(subject, bytes, factor)),
    ),
    flows: ENGINES.flatMap((subject) =>
      [1, 100, 10_000].map((flows) => ({
        subject,
        flows,
        offered: [2_000_000],
        overload: [RATES[subject] / (1 + Math.log10(flows) / 20)],
        refusedBySink: [0],
      })),
    ),
    cores: ENGINES.flatMap((subject) =>
      [1, 2].map((cores) => ({
        subject,
        cores,
        offered: [2_000_000],
        overload: [RATES[subject] * (0.8 + 0.2 * cores)],
        refusedBySink: [0],
      })),
    ),
    steps,
    stepsOnBoth: steps.map((step) => ({ ...step, bridge: 82, direct: 225 })),
    memory: ENGINES.map((subject) => ({
      subject,
      processes: subject === 'standby' ? 0 : 4 * 1024 * 1024,
      maps: ['bridge', 'generic', 'driver'].includes(subject) ? 400_000 : 0,
    })),
  };
}

export function results(...runs: readonly Run[]): Results {
  return {
    how: {
      ...{
        sizes: SIZES,
        growthBytes: 1428,
        repetitions: 3,
        searches: 3,
        costRepetitions: 3,
        inDriverEvery: 4,
        overload: 0,
        milliseconds: 1000,
      },
      ...{ searchMilliseconds: 2000, tries: 3, much: 0.01, longerBelow: 100_000 },
      ...{ devWeight: 16, backlog: { overload: 1000, other: 4000 } },
    },
    machine: { cpu: 'Sample CPU', cores: 2, kernel: '6.12.0', load: [0.1, 0.1, 0.1] },
    software: { commit: '0123456789abcdef0123456789abcdef01234567', clang: 'clang version 19' },
    runs: runs.length > 0 ? runs : [run(0.98), run(), run(1.02)],
  };
}
