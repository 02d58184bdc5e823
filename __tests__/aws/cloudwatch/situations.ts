// SPDX-License-Identifier: Apache-2.0
// What can happen to a fleet of two gateways, as CloudWatch is told of it: first all is well, then something happens and stays.
// The gateways' documents come from the shipped xdp-monitoring.jq, fed with samples of ten seconds; what AWS sends about its
// own load balancer, group, function and queue stands here as AWS documents it, once a minute.
import { type FunctionMetric, metric } from '../../../lambda/shared/metrics';
import type { AwsDatum } from '../../../lab/aws/cloudwatch';
import type { Emf } from '../../../lab/aws/emf';
import { groupDimensions, METRIC_NAMESPACE } from '../../../constructs/monitoring/metrics';
import { COUNTERS, documentsOfGateway, type Numbers, sample } from '../../unit/userdata/samples';

export const MINUTE_MS = 60_000;
const SAMPLES_A_MINUTE = 6;

/** How long all is well at first. */
export const WELL_MINUTES = 6;
/**
 * Longer than any alarm waits but the one on replacements, which can fire only where no host is healthy: that situation lasts
 * longer.
 */
const SITUATION_MINUTES = 20;
const WITHOUT_HOSTS_MINUTES = 45;

export const minutesOf = ({ minutes = SITUATION_MINUTES }: Situation): number => WELL_MINUTES + minutes;

/** What a gateway does from one sample to the next. */
export interface Behaviour {
  /** Counters of the status, by the second. */
  readonly rates: Numbers;
  /** Counters of the machine, by the second. */
  readonly machine?: Numbers;
  readonly status?: object;
}

const SILENT = undefined;

/** Of AWS's own, each minute. */
interface Surroundings {
  readonly healthyHosts: number;
  readonly unhealthyHosts: number;
  readonly functionErrors: number;
  readonly undelivered: number;
  /** As many launches given up. */
  readonly abandoned: number;
}

/** In service, whatever happens: what AWS takes out of service is replaced. */
const GATEWAYS = 2;

const PEACE: Surroundings = {
  healthyHosts: GATEWAYS,
  unhealthyHosts: 0,
  functionErrors: 0,
  undelivered: 0,
  abandoned: 0,
};

export interface Situation {
  /** What either gateway does; without the second, both do the same. */
  readonly gateways: readonly [Behaviour | undefined, (Behaviour | undefined)?];
  readonly surroundings?: Partial<Surroundings>;
  /** After all was well. @default - 20 */
  readonly minutes?: number;
}

/** How a fleet carries its traffic while all is well. */
export type Carrier = (packetsPerSecond: number) => Behaviour;

const forwarded = (packetsPerSecond: number): Numbers => ({
  packets_seen: packetsPerSecond,
  packets_matched: packetsPerSecond,
  packets_modified: packetsPerSecond,
  bytes_processed: 1400 * packetsPerSecond,
});

export const byXdp: Carrier = (packetsPerSecond) => ({ rates: forwarded(packetsPerSecond) });

/** The NFQUEUE daemon, where nothing else was asked for. */
export const byNetfilter: Carrier = (packetsPerSecond) => ({
  rates: { ...forwarded(packetsPerSecond), nfqueue_packets: packetsPerSecond },
  status: { engine: 'nfqueue', xdp_mode: 'none', interface: 'br0', attached: false, stats_map: 0, nfqueue_socket: 5 },
});

/** The loader is gone: the fallback rule clears DF of everything. */
const detached: Behaviour = {
  rates: { ...forwarded(2_000_000), standby_packets: 2_000_000 },
  status: {
    ...{ engine: 'standby', xdp_mode: 'none', interface: 'br0', attached: false, stats_map: 0 },
    ...{ state: 'degraded', reason: 'XDP is not attached; carrying the traffic: standby' },
  },
};

const more = ({ rates, ...rest }: Behaviour, rates_: Numbers): Behaviour => ({
  ...rest,
  rates: { ...rates, ...rates_ },
});

/** Datagrams/s that leave in two fragments; half of them the direct engine cuts, the others the kernel. */
const cut = (behaviour: Behaviour, datagrams: number, fragment_bypass = 'absent'): Behaviour => ({
  ...more(behaviour, { fragments_due: datagrams, fragments_sent: datagrams, kernel_fragments: datagrams }),
  status: { ...behaviour.status, fragment_bypass },
});

/** What happens to a fleet of this kind. */
export function situationsOf(carry: Carrier): Readonly<Record<string, Situation>> {
  const well = carry(2_000_000);
  return {
    '2 000 000 packets/s': { gateways: [well] },
    '500 000 packets/s': { gateways: [carry(500_000)] },
    '0 packets/s': { gateways: [carry(0)] },
    'XDP detached on one': { gateways: [detached, well] },
    // Only a queue that is not fail-open counts drops. modify_udp_df's is: see the next one.
    'NFQUEUE dropping on one': { gateways: [more(well, { nfqueue_packets: 300_000, nfqueue_dropped: 50_000 }), well] },
    'NFQUEUE full on one, as modify_udp_df has it': {
      gateways: [more(well, { nfqueue_packets: 300_000, standby_packets: 50_000 }), well],
    },
    // Of two fragments each, what 500 datagrams/s make is short of EC2's limit and beyond what the alarm allows.
    'datagrams in fragments on one': { gateways: [cut(well, 500), well] },
    'fewer of them on one, many on the other with the fragment bypass': {
      gateways: [cut(well, 400), cut(well, 30_000, 'on')],
    },
    // It passes its health check all the same.
    'one gateway silent': { gateways: [SILENT, well] },
    // The group replaces it as a rule; here it cannot, so that the target stays.
    'one gateway dead': { gateways: [SILENT, well], surroundings: { healthyHosts: 1, unhealthyHosts: 1 } },
    'every gateway dead': {
      gateways: [SILENT],
      surroundings: { healthyHosts: 0, unhealthyHosts: 2 },
      minutes: WITHOUT_HOSTS_MINUTES,
    },
    // What the others do not set off.
    'EC2 over its allowance, and no launch succeeds': {
      gateways: [{ ...well, machine: { ena_pps_allowance_exceeded: 1000 } }, well],
      surroundings: { functionErrors: 1, undelivered: 1, abandoned: 1 },
    },
  };
}

/** Of whom CloudWatch is told. */
export interface Fleet {
  readonly group: string;
  readonly logGroup: string;
  readonly loadBalancer: Readonly<Record<string, string>>;
  readonly functionName: string;
  readonly queueName: string;
}

export interface Told {
  readonly documents: readonly Emf[];
  readonly ofAws: readonly AwsDatum[];
}

/** All that CloudWatch is told from a time on which begins a minute. */
export function tell(fleet: Fleet, well: Behaviour, situation: Situation, from: number): Told {
  const { gateways, surroundings } = situation;
  const [first, second] = gateways.length === 1 ? [gateways[0], gateways[0]] : gateways;
  const minutes = Array.from({ length: minutesOf(situation) }, (_, minute) => ({
    timestamp: from + minute * MINUTE_MS,
    now: minute < WELL_MINUTES ? PEACE : { ...PEACE, ...surroundings },
  }));
  return {
    documents: [
      ...documentsOfLife(fleet, 'i-00000000000000001', [well, first], minutesOf(situation), from),
      ...documentsOfLife(fleet, 'i-00000000000000002', [well, second], minutesOf(situation), from),
      ...minutes.flatMap(({ timestamp, now }) => (now.abandoned ? [abandoned(fleet, now.abandoned, timestamp)] : [])),
    ],
    ofAws: minutes.flatMap(({ timestamp, now }) => ofAws(fleet, now, timestamp)),
  };
}

function documentsOfLife(
  fleet: Fleet,
  instance: string,
  [well, later]: readonly [Behaviour, Behaviour | undefined],
  allMinutes: number,
  from: number,
): Emf[] {
  const counters: Record<string, number> = { ...COUNTERS };
  const machine: Record<string, number> = { softnet_dropped: 0, 'interface_dropped ens5': 0, forwarding_dropped: 0 };
  for (const name of ['pps', 'bw_in', 'bw_out', 'conntrack']) machine[`ena_${name}_allowance_exceeded`] = 0;
  const minutes = later ? allMinutes : WELL_MINUTES;
  const samples = Array.from({ length: minutes * SAMPLES_A_MINUTE }, (_, number) => {
    const behaviour = number < WELL_MINUTES * SAMPLES_A_MINUTE ? well : (later ?? well);
    const seconds = 60 / SAMPLES_A_MINUTE;
    for (const [name, rate] of Object.entries(behaviour.rates)) counters[name] = (counters[name] ?? 0) + rate * seconds;
    for (const [name, rate] of Object.entries(behaviour.machine ?? {}))
      machine[name] = (machine[name] ?? 0) + rate * seconds;
    return sample(
      number,
      { ...counters, ...behaviour.status },
      // In the middle of each ten seconds.
      { at: from + (number + 0.5) * seconds * 1000, machine: { ...machine } },
    );
  });
  const about = { group: fleet.group, instance, region: 'eu-central-1', log_group: fleet.logGroup };
  return documentsOfGateway(about, samples);
}

/** The function's log line of a launch that it gave up. */
function abandoned({ group, functionName }: Fleet, launches: number, timestamp: number): Emf {
  const context = { configuration: { metricNamespace: METRIC_NAMESPACE, group }, clock: { now: () => timestamp } };
  const name: FunctionMetric = 'LaunchesAbandoned';
  const line = metric(context, name, launches) as unknown as Emf;
  // Lambda itself knows where it logs.
  return { ...line, _aws: { ...line._aws, LogGroupName: `/aws/lambda/${functionName}`, LogStreamName: 'one' } };
}

function ofAws(fleet: Fleet, now: Surroundings, timestamp: number): AwsDatum[] {
  const hosts = { namespace: 'AWS/NetworkELB', dimensions: fleet.loadBalancer, timestamp };
  const group = { namespace: 'AWS/AutoScaling', dimensions: groupDimensions(fleet.group), timestamp };
  const calls = { namespace: 'AWS/Lambda', dimensions: { FunctionName: fleet.functionName }, timestamp };
  const queue = { namespace: 'AWS/SQS', dimensions: { QueueName: fleet.queueName }, timestamp };
  return [
    { ...hosts, name: 'HealthyHostCount', value: now.healthyHosts },
    { ...hosts, name: 'UnHealthyHostCount', value: now.unhealthyHosts },
    { ...group, name: 'GroupInServiceInstances', value: GATEWAYS },
    { ...calls, name: 'Errors', value: now.functionErrors },
    { ...queue, name: 'ApproximateNumberOfMessagesVisible', value: now.undelivered },
  ];
}
