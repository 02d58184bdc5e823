// SPDX-License-Identifier: Apache-2.0
// From a gateway's counters to the states of all alarms, for what happens to a fleet: the shipped program makes documents of
// them, the forwarder puts these into a CloudWatch behind its real API, and there the synthesized alarms stand. What AWS
// measures itself (hosts of the load balancer, the function, the queue) is put as AWS would.
import type {
  ComparisonOperator,
  PutMetricAlarmCommandInput,
  StandardUnit,
  Statistic,
} from '@aws-sdk/client-cloudwatch';
import type { AlarmState } from '../../lab/alarm-rule';
import { CloudWatch, type Datum } from '../../lab/cloudwatch';
import type { Emf } from '../../lab/emf';
import { Progress } from '../../lab/host';
import { published, sample } from '../../lab/samples';
import { all, type Body, synth, type Synthesized } from '../constructs/synthesized';

const MINUTE = 60_000;
/** Longer than alarms on gateways look back. */
const LOOK_BACK = 10;
/** Half as many as a gateway takes: nothing here depends on it. */
const SAMPLES_PER_MINUTE = 3;
const GATEWAYS = ['i-00000000000000001', 'i-00000000000000002'] as const;
const START = Math.floor(Date.now() / MINUTE) * MINUTE - 60 * MINUTE;
const LOG_GROUP = '/aws/ec2/xdp-packet-processor';
const progress = new Progress('alarms');

interface Gateway {
  /** Datagrams/s that come in. */
  readonly rate?: number;
  /** Of counters that grow by so much a second. */
  readonly growing?: Readonly<Record<string, number>>;
  /** Of the status. */
  readonly status?: object;
  /** After so many minutes it is silent. */
  readonly dies?: number;
}

interface Situation {
  readonly name: string;
  /** @default LOOK_BACK */
  readonly minutes?: number;
  readonly gateways: readonly Gateway[];
  /** Alarms that fire, by the end of their names; of both stacks unless one lacks it. */
  readonly alarm: readonly string[];
  readonly insufficient?: readonly string[];
  /** With enable_xdp=false, where that differs: legacy traffic is what was asked for. */
  readonly legacy?: Pick<Situation, 'gateways' | 'alarm'>;
}

const STANDBY = { engine: 'standby', xdp_mode: 'none', interface: 'br0', attached: false, state: 'degraded' };
const NFQUEUE = { ...STANDBY, engine: 'nfqueue', nfqueue_socket: 4711 };
const both = (gateway: Gateway): readonly Gateway[] => GATEWAYS.map(() => gateway);
/** Gateways are silent: about them nothing is known. */
const UNKNOWN = [
  ...['xdp-packet-processing-rate', 'xdp-not-attached', 'degraded', 'standby-carries-traffic', 'nfqueue-drops'],
  ...['packets-lost', 'pps-allowance-exceeded'],
];

const SITUATIONS: readonly Situation[] = [
  { name: '2 000 000 packets/s on each gateway', gateways: both({ rate: 2_000_000 }), alarm: [] },
  {
    name: '500 000 packets/s on each gateway',
    gateways: both({ rate: 500_000 }),
    alarm: ['xdp-packet-processing-rate'],
  },
  { name: 'no packets at all', gateways: both({ rate: 0 }), alarm: ['xdp-packet-processing-rate'] },
  {
    name: 'XDP detached on one of two gateways',
    gateways: [{ rate: 2_000_000 }, { rate: 150_000, status: STANDBY, growing: { standby_packets: 150_000 } }],
    // The mean of both is still above the threshold.
    alarm: ['xdp-not-attached', 'degraded', 'standby-carries-traffic'],
  },
  {
    name: 'NFQUEUE dropping on one of two gateways',
    gateways: [
      { rate: 2_000_000 },
      { rate: 120_000, status: NFQUEUE, growing: { nfqueue_packets: 100_000, nfqueue_dropped: 20_000 } },
    ],
    alarm: ['xdp-not-attached', 'degraded', 'nfqueue-drops', 'packets-lost'],
    legacy: {
      gateways: [
        { rate: 80_000, status: { ...NFQUEUE, state: 'healthy' }, growing: { nfqueue_packets: 80_000 } },
        {
          ...{ rate: 120_000, status: { ...NFQUEUE, state: 'healthy' } },
          growing: { nfqueue_packets: 100_000, nfqueue_dropped: 20_000 },
        },
      ],
      alarm: ['nfqueue-drops', 'packets-lost'],
    },
  },
  {
    name: 'one of two gateways dead, and not replaced',
    minutes: 20,
    gateways: [{ rate: 2_000_000 }, { rate: 2_000_000, dies: 3 }],
    alarm: ['unhealthy-hosts'],
  },
  {
    name: 'every gateway dead',
    minutes: 45,
    gateways: both({ rate: 2_000_000, dies: 2 }),
    alarm: ['no-data', 'unhealthy-hosts', 'no-healthy-hosts', 'replacement-does-not-help'],
    insufficient: UNKNOWN,
  },
];

/** What the shipped program sends of one gateway from START on, which is after its first sample: rates need two. */
function documentsOf(gateway: Gateway, instance: string, group: string, minutes: number): Emf[] {
  const { rate = 0, growing = {}, status = {}, dies = minutes } = gateway;
  const seen = { packets_seen: rate, packets_matched: rate, packets_modified: rate, bytes_processed: 1428 * rate };
  const samples = Array.from({ length: dies * SAMPLES_PER_MINUTE + 1 }, (_, number) => {
    const seconds = (60 / SAMPLES_PER_MINUTE) * number;
    const grown = Object.entries({ ...seen, ...growing }).map(([name, each]) => [name, each * seconds] as const);
    const ena = ['pps', 'bw_in', 'bw_out', 'conntrack'].map((name) => [`ena_${name}_allowance_exceeded`, 0] as const);
    const { machine } = sample(0, null);
    return sample(
      number,
      { ...status, ...Object.fromEntries(grown), uptime: seconds },
      {
        ...{ uptime: seconds, machine: { ...machine, ...Object.fromEntries(ena) } },
        at: START + 1000 * seconds - MINUTE / SAMPLES_PER_MINUTE,
      },
    );
  });
  return published(samples, { group, instance, region: 'eu-central-1', log_group: LOG_GROUP });
}

/** What the load balancer reports every minute, of gateways that are there. */
function hostsOf(gateways: readonly Gateway[], dimensions: Readonly<Record<string, string>>, minutes: number): Datum[] {
  return Array.from({ length: minutes }, (_, minute) => minute).flatMap((minute) => {
    const healthy = gateways.filter(({ dies = minutes }) => minute < dies).length;
    const values = { HealthyHostCount: healthy, UnHealthyHostCount: gateways.length - healthy };
    return Object.entries(values).map(([name, value]) => ({
      ...{ namespace: 'AWS/NetworkELB', name, dimensions, value },
      at: START + minute * MINUTE,
    }));
  });
}

const alarmsOf = (stack: Synthesized) => all(stack, 'aws_cloudwatch_metric_alarm');

function inputOf(alarm: Body): PutMetricAlarmCommandInput {
  const { alarm_name, namespace, metric_name, unit, dimensions, statistic, period, threshold } = alarm;
  return {
    ...{ AlarmName: alarm_name as string, Namespace: namespace as string, MetricName: metric_name as string },
    Dimensions: Object.entries(dimensions as Record<string, string>).map(([Name, Value]) => ({ Name, Value })),
    ...{ Unit: unit as StandardUnit | undefined, Statistic: statistic as Statistic },
    ...{ Period: period as number, Threshold: threshold as number },
    ComparisonOperator: alarm.comparison_operator as ComparisonOperator,
    EvaluationPeriods: alarm.evaluation_periods as number,
    DatapointsToAlarm: alarm.datapoints_to_alarm as number | undefined,
    TreatMissingData: alarm.treat_missing_data as string | undefined,
  };
}

/** Of the first alarm that has them: all are the same. */
function dimensionsOf(stack: Synthesized, namespace: string): Readonly<Record<string, string>> {
  return alarmsOf(stack).find((alarm) => alarm.namespace === namespace)?.dimensions as Record<string, string>;
}

const shortName = (name: string): string => name.replace(/^mirror-gateway-/, '');

describe.each([
  ['XDP', synth()],
  ['the legacy program', synth({ enable_xdp: 'false' })],
])('the alarms of a fleet on %s', (engine, stack) => {
  let cloudWatch: CloudWatch;

  beforeAll(async () => {
    cloudWatch = await CloudWatch.start();
  });
  afterAll(() => cloudWatch.stop());
  beforeEach(async () => {
    await cloudWatch.reset();
    for (const alarm of alarmsOf(stack)) await cloudWatch.putAlarm(inputOf(alarm));
  });

  async function happens(gateways: readonly Gateway[], minutes: number): Promise<Record<string, AlarmState>> {
    const group = dimensionsOf(stack, 'XDP/PacketProcessing').AutoScalingGroupName ?? '';
    const documents = gateways.flatMap((gateway, at) => documentsOf(gateway, GATEWAYS[at] ?? '', group, minutes));
    await cloudWatch.take(documents);
    await cloudWatch.put(hostsOf(gateways, dimensionsOf(stack, 'AWS/NetworkELB'), minutes));
    const states = await cloudWatch.evaluate(START, START + minutes * MINUTE);
    return Object.fromEntries(Object.entries(states).map(([name, state]) => [shortName(name), state]));
  }

  const isLegacy = engine !== 'XDP';

  it.each(SITUATIONS.map((situation): [string, Situation] => [situation.name, situation]))(
    'with %s are in the states that this calls for, every one',
    async (name, situation) => {
      const { gateways, alarm } = (isLegacy ? situation.legacy : undefined) ?? situation;
      const states = await happens(gateways, situation.minutes ?? LOOK_BACK);
      const expected = alarmsOf(stack).map(({ alarm_name }): [string, AlarmState] => {
        const short = shortName(String(alarm_name));
        if (alarm.includes(short)) return [short, 'ALARM'];
        return [short, situation.insufficient?.includes(short) ? 'INSUFFICIENT_DATA' : 'OK'];
      });
      progress.say(
        `${engine}, ${name}: ${Object.entries(states)
          .map(([short, state]) => `${short} ${state}`)
          .join(', ')}`,
      );
      expect(states).toEqual(Object.fromEntries(expected));
    },
  );

  it('keeps the documents as they were sent, in the log group of the gateways', async () => {
    const documents = documentsOf({ rate: 1000 }, GATEWAYS[0], 'a-group', 1);
    await cloudWatch.take(documents);
    const events = await cloudWatch.events(LOG_GROUP, `${GATEWAYS[0]}/metrics`);
    expect(events.map((event) => JSON.parse(event) as Emf)).toEqual(documents);
  });
});
