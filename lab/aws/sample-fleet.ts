// SPDX-License-Identifier: Apache-2.0
// Three hours of three gateways, made up: traffic grows; on one gateway somebody rolls back for ten minutes, and the legacy
// program cannot keep up; then a deployment replaces another. The same numbers every time.
import { FUNCTION_METRICS } from '../../lambda/shared/metrics';
import list from '../../userdata/metrics.json';

export const MINUTES = 180;
export type Statistic = 'Average' | 'Sum' | 'Maximum' | 'Minimum';

/** Of one gateway in one minute; null where it is not there. */
interface Moment {
  /** Packets/s that it gets. */
  readonly rate: number;
  readonly isRolledBack: boolean;
  readonly gateway: number;
  readonly minute: number;
}

const GATEWAYS = 3;
const [ROLLED_BACK, REPLACED] = [1, 2];
const rollback = (minute: number): boolean => minute >= 60 && minute < 70;
const replacement = (minute: number): boolean => minute >= 125 && minute < 133;
const isThere = (gateway: number, minute: number): boolean => gateway !== REPLACED || !replacement(minute);

/** Between -1 and 1, with no pattern that an eye finds. */
const noise = (minute: number, salt: number): number =>
  (Math.sin(minute * 0.9 + salt * 5) + Math.sin(minute * 2.3 + salt * 11) + Math.sin(minute * 0.13 + salt)) / 3;

/** Mirrored packets/s of all sources. */
const offered = (minute: number): number =>
  2_700_000 * (1 + 0.35 * Math.sin((minute / MINUTES) * 1.5) + 0.03 * noise(minute, 1));

function moment(gateway: number, minute: number): Moment | null {
  if (!isThere(gateway, minute)) return null;
  const there = Array.from({ length: GATEWAYS }, (_, each) => each).filter((each) => isThere(each, minute)).length;
  const rate = (offered(minute) / there) * (1 + 0.02 * noise(minute, 3 + gateway));
  return { rate, isRolledBack: gateway === ROLLED_BACK && rollback(minute), gateway, minute };
}

const LEGACY_RATE = 70_000;
/** What the kernel's own path takes in all. */
const PATH_RATE = 90_000;
const ofLegacy = (value: number) => (now: Moment) => (now.isRolledBack ? value * (1 + 0.04 * noise(now.minute, 9)) : 0);
const modified = ({ rate, isRolledBack }: Moment): number => (isRolledBack ? PATH_RATE : 0.97 * rate);
const lost = ({ rate, isRolledBack }: Moment): number => (isRolledBack ? rate - PATH_RATE : 0);
const nothing = (): number => 0;

const OF_GATEWAYS: Readonly<Record<keyof typeof list.metrics, (now: Moment) => number>> = {
  PacketsPerSecond: ({ rate, isRolledBack }) => (isRolledBack ? PATH_RATE : rate),
  PacketsModifiedPerSecond: modified,
  BytesPerSecond: (now) => modified(now) * 1428,
  XdpAttached: ({ isRolledBack }) => (isRolledBack ? 0 : 1),
  Degraded: ({ isRolledBack }) => (isRolledBack ? 1 : 0),
  StandbyPacketsPerSecond: ofLegacy(PATH_RATE - LEGACY_RATE),
  NfqueuePacketsPerSecond: ofLegacy(LEGACY_RATE),
  ProcessingNanoseconds: ({ minute, gateway }) => 410 + 15 * noise(Math.floor(minute), gateway),
  PacketsLostPerSecond: lost,
  NfqueueDropsPerSecond: nothing,
  RedirectDropsPerSecond: nothing,
  SoftnetDropsPerSecond: lost,
  InterfaceDropsPerSecond: lost,
  ForwardingDropsPerSecond: nothing,
  // All leaves whole.
  FragmentsPerSecond: nothing,
  MalformedPacketsPerSecond: ({ minute, gateway }) => (minute % 37 === gateway ? 2 : 0),
  PpsAllowanceExceeded: nothing,
  BandwidthAllowanceExceeded: ({ minute, gateway }) =>
    replacement(minute) && gateway === 0 ? 40 + 30 * noise(minute, 4) : 0,
  ConntrackAllowanceExceeded: nothing,
  MemoryUsedPercent: ({ gateway, minute }) => 14 + gateway + 0.3 * noise(minute, 6),
  DiskUsedPercent: ({ gateway }) => 31 + gateway,
};

const there = (minute: number): number => GATEWAYS - (replacement(minute) ? 1 : 0);

/** What AWS and the function measure, one value a minute. */
const OF_AWS: Readonly<Record<string, (minute: number) => number>> = {
  'AWS/NetworkELB/ProcessedBytes_UDP': (minute) => offered(minute) * 60 * 1492,
  'AWS/NetworkELB/HealthyHostCount': there,
  'AWS/NetworkELB/UnHealthyHostCount': (minute) => (replacement(minute) ? 1 : 0),
  'AWS/NetworkELB/ConsumedLCUs_UDP': (minute) => (offered(minute) * 60 * 1492) / 1e9 / 60,
  'AWS/AutoScaling/GroupDesiredCapacity': () => GATEWAYS,
  'AWS/AutoScaling/GroupInServiceInstances': there,
  'AWS/AutoScaling/GroupPendingInstances': (minute) => (replacement(minute) ? 1 : 0),
  'AWS/EC2/CPUUtilization': (minute) => 24 + 9 * Math.sin((minute / MINUTES) * 1.5) + noise(minute, 2),
  'AWS/Lambda/Errors': nothing,
  'AWS/SQS/ApproximateNumberOfMessagesVisible': nothing,
  'AWS/Logs/IncomingBytes': (minute) => there(minute) * 6 * 3400,
  ...Object.fromEntries(Object.keys(FUNCTION_METRICS).map((name) => [`${list.namespace}/${name}`, nothing])),
};

const STATISTICS: Readonly<Record<Statistic, (values: readonly number[]) => number>> = {
  Average: (values) => values.reduce((sum, value) => sum + value, 0) / values.length,
  Sum: (values) => values.reduce((sum, value) => sum + value, 0),
  Maximum: (values) => Math.max(...values),
  Minimum: (values) => Math.min(...values),
};

/** Who is which gateway, and when: a successor has another id. */
const INSTANCES: readonly (readonly [id: string, gateway: number, isIt: (minute: number) => boolean])[] = [
  ['i-07c1a52e94b83d601', 0, () => true],
  ['i-0d94e6b21fa7c0358', ROLLED_BACK, () => true],
  ['i-03fb8e917d5a2c46b', REPLACED, (minute) => minute < 125],
  ['i-0a6d20c4b8e59f713', REPLACED, (minute) => minute >= 133],
];

/** Of each instance that a search finds; null while it is not there. @throws Error on a metric that gateways do not send */
export function valuesOfEach(metric: string): { readonly id: string; readonly values: (number | null)[] }[] {
  const name = metric.replace(`${list.namespace}/`, '') as keyof typeof OF_GATEWAYS;
  const value = OF_GATEWAYS[name] as ((now: Moment) => number) | undefined;
  if (value === undefined)
    throw new Error(`${metric}: the sample fleet's gateways have no such metric; add it to lab/aws/sample-fleet.ts`);
  return INSTANCES.map(([id, gateway, isIt]) => ({
    id,
    values: Array.from({ length: MINUTES + 1 }, (_, minute) => {
      const now = isIt(minute) ? moment(gateway, minute) : null;
      return now && rounded(value(now));
    }),
  }));
}

/** One value a minute. @throws Error on a metric that this fleet does not have */
export function valuesOf(metric: string, statistic: Statistic): number[] {
  const ofAws = OF_AWS[metric];
  const name = metric.replace(`${list.namespace}/`, '') as keyof typeof OF_GATEWAYS;
  const ofGateways = OF_GATEWAYS[name] as ((now: Moment) => number) | undefined;
  if (ofAws === undefined && ofGateways === undefined)
    throw new Error(`${metric}: the sample fleet has no such metric; add it to lab/aws/sample-fleet.ts`);
  return Array.from({ length: MINUTES + 1 }, (_, minute) => {
    if (ofAws !== undefined) return rounded(ofAws(minute));
    const moments = Array.from({ length: GATEWAYS }, (_, gateway) => moment(gateway, minute)).filter(
      (now) => now !== null,
    );
    return rounded(STATISTICS[statistic](moments.map((now) => ofGateways?.(now) ?? 0)));
  });
}

/** What differs between processors' last digits is not drawn. */
const rounded = (value: number): number => Number(value.toPrecision(4));
