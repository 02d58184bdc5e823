// SPDX-License-Identifier: Apache-2.0
// Every alarm of the synthesized stack, created through CloudWatch's API, in every situation: which fires, which has no data,
// and that the others never leave OK.
import type { Dimension, MetricDataQuery, PutMetricAlarmCommandInput } from '@aws-sdk/client-cloudwatch';
import type { State } from '../../../lab/aws/alarm-rule';
import { CloudWatch, type Transition } from '../../../lab/aws/cloudwatch';
import { Progress } from '../../../lab/support/host';
import { type Moto, startMoto } from '../../../lab/aws/moto';
import { all, type Body, only, synth, type Synthesized } from '../../unit/constructs/synthesized';
import {
  byNetfilter,
  byXdp,
  type Carrier,
  type Fleet,
  MINUTE_MS,
  minutesOf,
  situationsOf,
  tell,
  WELL_MINUTES,
} from './situations';

const TYPE = 'aws_cloudwatch_metric_alarm';
const RATE = 'xdp-packet-processing-rate';

/** Those that are not OK in the end. */
interface Outcome {
  readonly ALARM?: readonly string[];
  readonly INSUFFICIENT_DATA?: readonly string[];
}

const FAILING_HOSTS = ['no-healthy-hosts', 'replacement-does-not-help', 'unhealthy-hosts'];
const UNFORTUNATE = {
  ALARM: ['eni-events-undelivered', 'eni-function-errors', 'launches-abandoned', 'pps-allowance-exceeded'],
};

const FUNCTIONS = ['rollout-function-errors'];
const QUEUES = ['guard-events-undelivered', 'rollout-events-undelivered'];
const RULES = ['eni-launches', 'eni-sweep', 'replacement-guard', 'rollout-looks', 'rollout-news'].map(
  (name) => `rule-failed-${name}`,
);
const HELPLESS = {
  ALARM: [
    ...['bandwidth-allowance-exceeded', 'conntrack-allowance-exceeded', 'gateways-missing', 'launches-failed'],
    ...[...FUNCTIONS, ...QUEUES, ...RULES],
  ],
};

const WITH_XDP: Readonly<Record<string, Outcome>> = {
  '2 000 000 packets/s': {},
  '500 000 packets/s': { ALARM: [RATE] },
  '0 packets/s': { ALARM: [RATE] },
  'XDP detached on one': { ALARM: ['degraded', 'standby-carries-traffic', 'xdp-not-attached'] },
  'NFQUEUE dropping on one': { ALARM: ['nfqueue-drops', 'packets-lost'] },
  'NFQUEUE full on one, as modify_udp_df has it': { ALARM: ['standby-carries-traffic'] },
  'datagrams in fragments on one': { ALARM: ['fragment-limit'] },
  'fewer of them on one, many on the other with the fragment bypass': {},
  'one gateway silent': { ALARM: ['silent-gateway'] },
  'one gateway dead': { ALARM: ['silent-gateway', 'unhealthy-hosts'] },
  'every gateway dead': {
    ALARM: ['no-data', ...FAILING_HOSTS],
    INSUFFICIENT_DATA: [
      ...['bandwidth-allowance-exceeded', 'conntrack-allowance-exceeded'],
      ...['fragment-limit', 'nfqueue-drops', 'packets-lost', 'pps-allowance-exceeded'],
      ...['standby-carries-traffic', RATE, 'silent-gateway', 'xdp-not-attached'],
    ],
  },
  'EC2 over its allowance, and no launch succeeds': UNFORTUNATE,
  'EC2 over its other allowances, launches refused, and nothing acts on the fleet': HELPLESS,
};

const ON_NETFILTER: Readonly<Record<string, Outcome>> = {
  '2 000 000 packets/s': {},
  '500 000 packets/s': {},
  '0 packets/s': {},
  // There is no XDP to detach, but it may come to this if the NFQUEUE daemon ends.
  'XDP detached on one': { ALARM: ['degraded', 'standby-carries-traffic'] },
  'NFQUEUE dropping on one': { ALARM: ['nfqueue-drops', 'packets-lost'] },
  'NFQUEUE full on one, as modify_udp_df has it': { ALARM: ['standby-carries-traffic'] },
  'datagrams in fragments on one': { ALARM: ['fragment-limit'] },
  'fewer of them on one, many on the other with the fragment bypass': {},
  'one gateway silent': { ALARM: ['silent-gateway'] },
  'one gateway dead': { ALARM: ['silent-gateway', 'unhealthy-hosts'] },
  'every gateway dead': {
    ALARM: ['no-data', ...FAILING_HOSTS],
    INSUFFICIENT_DATA: [
      ...['bandwidth-allowance-exceeded', 'conntrack-allowance-exceeded'],
      ...['fragment-limit', 'nfqueue-drops', 'packets-lost', 'pps-allowance-exceeded'],
      ...['standby-carries-traffic', 'silent-gateway'],
    ],
  },
  'EC2 over its allowance, and no launch succeeds': UNFORTUNATE,
  'EC2 over its other allowances, launches refused, and nothing acts on the fleet': HELPLESS,
};

const FLEETS: readonly (readonly [kind: string, settings: Body, carry: Carrier, expected: typeof WITH_XDP])[] = [
  ['with XDP', {}, byXdp, WITH_XDP],
  ['on netfilter alone', { enable_xdp: 'false' }, byNetfilter, ON_NETFILTER],
];

const LONG = (short: string) => (short === RATE ? RATE : `mirror-gateway-${short}`);
const SHORT = (name: string) => name.replace('mirror-gateway-', '');

let moto: Moto;
let cloudwatch: CloudWatch;

beforeAll(async () => {
  moto = await startMoto();
  cloudwatch = new CloudWatch({
    region: 'eu-central-1',
    endpoint: `http://127.0.0.1:${moto.port}`,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  });
});

afterAll(async () => {
  cloudwatch.destroy();
  await moto.stop();
});

/** Terraform's words in the API's. What has no counterpart here is refused, so that no setting is left behind. */
function inputOf(alarm: Body): PutMetricAlarmCommandInput {
  const { dimensions, metric_query, ok_actions, ...rest } = alarm;
  const known = /^(alarm|metric|comparison|evaluation|datapoints|treat)_|^(namespace|period|statistic|threshold|unit)$/;
  return {
    ...(inCamelCase(rest, known) as unknown as PutMetricAlarmCommandInput),
    ...(dimensions ? { Dimensions: dimensionsOf(dimensions) } : {}),
    ...(metric_query ? { Metrics: (metric_query as Body[]).map(queryOf) } : {}),
    OKActions: ok_actions as string[],
  };
}

function queryOf({ metric, ...rest }: Body): MetricDataQuery {
  const query = inCamelCase(rest, /^(id|label|expression|return_data)$/);
  // Terraform's word may be left out, the API's may not.
  if (!metric) return { ReturnData: false, ...query } as unknown as MetricDataQuery;
  const { namespace, metric_name, dimensions, ...stat } = metric as Body;
  const MetricStat = {
    ...inCamelCase(stat, /^(period|stat|unit)$/),
    Metric: { ...inCamelCase({ namespace, metric_name }, /./), Dimensions: dimensionsOf(dimensions) },
  };
  return { ReturnData: false, ...query, MetricStat } as unknown as MetricDataQuery;
}

function inCamelCase(body: Body, known: RegExp): Body {
  const entries = Object.entries(body).map(([key, value]) => {
    if (!known.test(key)) throw new Error(`${key}: no word of PutMetricAlarm known for it`);
    return [key.replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase()), value] as const;
  });
  return Object.fromEntries(entries);
}

function dimensionsOf(dimensions: unknown): Dimension[] {
  return Object.entries(dimensions as Record<string, string>).map(([Name, Value]) => ({ Name, Value }));
}

/** References of one resource to another stay as they are: whatever AWS would put there, both sides have the same. */
function fleetOf(stack: Synthesized): Fleet {
  const dimensions = (name: string) =>
    only(stack, TYPE, { alarm_name: LONG(name) }).dimensions as Record<string, string>;
  return {
    group: only(stack, 'aws_autoscaling_group').name as string,
    logGroup: '/aws/ec2/xdp-packet-processor',
    loadBalancer: dimensions('no-healthy-hosts'),
    functionName: String(dimensions('eni-function-errors').FunctionName),
    queueName: String(dimensions('eni-events-undelivered').QueueName),
    machinery: {
      functions: FUNCTIONS.map(dimensions),
      queues: QUEUES.map(dimensions),
      rules: RULES.map(dimensions),
    },
  };
}

function table(columns: ReadonlyMap<string, ReadonlyMap<string, string>>): string[] {
  const names = [...new Set([...columns.values()].flatMap((column) => [...column.keys()]))].sort();
  const rows = names.map((name) => [SHORT(name), ...[...columns.values()].map((column) => column.get(name) ?? '')]);
  const legend = [...columns.keys()].map((situation, i) => `(${i + 1}) ${situation}`);
  const lines = [['alarm', ...legend.map((_, i) => `(${i + 1})`)], ...rows];
  const widths = lines[0]?.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0))) ?? [];
  return [
    ...legend,
    ...lines.map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    ),
  ];
}

describe.each(FLEETS)('of a fleet %s', (kind, settings, carry, expected) => {
  const stack = synth(settings);
  const alarms = all(stack, TYPE).map(inputOf);
  const names = alarms.map(({ AlarmName }) => String(AlarmName)).sort();
  const fleet = fleetOf(stack);
  const situations = situationsOf(carry);
  const seen = new Map<string, Map<string, string>>();

  afterAll(() => (seen.size > 0 ? table(seen) : []).forEach((line) => new Progress(`alarms ${kind}`).say(line)));

  test('every situation has its outcome, and every alarm fires in one', () => {
    expect(Object.keys(expected)).toEqual(Object.keys(situations));
    const firing = Object.values(expected).flatMap(({ ALARM = [] }) => ALARM.map(LONG));
    expect([...new Set(firing)].sort()).toEqual(names);
  });

  test.each(Object.keys(expected))('the alarms are as intended at: %s', async (situation) => {
    await moto.reset();
    for (const alarm of alarms) await cloudwatch.putAlarm(alarm);
    const happened = situations[situation];
    if (!happened) throw new Error(`${situation}: no such situation`);
    const to = Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS;
    const from = to - minutesOf(happened) * MINUTE_MS;
    const { documents, ofAws } = tell(fleet, carry(2_000_000), happened, from);
    await cloudwatch.forward(documents);
    const [first] = documents;
    const ofFirst = documents
      .filter(({ InstanceId }) => InstanceId === first?.InstanceId)
      .map((it) => JSON.stringify(it));
    expect(await cloudwatch.logged(fleet.logGroup, `${String(first?.InstanceId)}/metrics`)).toEqual(ofFirst);
    await cloudwatch.putAwsData(ofAws);
    const histories = await cloudwatch.run(from, to);

    const since = from + WELL_MINUTES * MINUTE_MS;
    seen.set(situation, new Map([...histories].map(([name, history]) => [name, cell(history, since)])));
    const states = Object.fromEntries((await cloudwatch.alarms()).map((it) => [String(it.AlarmName), it.StateValue]));
    expect(states).toEqual(statesOf(names, expected[situation] ?? {}));
    // All was well at first, and where the end is OK it has been ever since.
    histories.forEach((history) => expect(history[0]).toEqual({ timestamp: from + MINUTE_MS, state: 'OK' }));
    histories.forEach((history, name) => expect([name, history.length]).toEqual([name, states[name] === 'OK' ? 1 : 2]));
  });
});

/** The last state, and when a situation that lasts brought it about. */
function cell(history: readonly Transition[], since: number): string {
  const last = history.at(-1);
  if (!last) return '-';
  const minutes = (last.timestamp - since) / MINUTE_MS;
  const word = last.state === 'INSUFFICIENT_DATA' ? 'no data' : last.state;
  return minutes > 0 ? `${word} ${minutes} min` : word;
}

function statesOf(names: readonly string[], outcome: Outcome): Record<string, State> {
  const states = Object.fromEntries(names.map((name): [string, State] => [name, 'OK']));
  for (const state of ['ALARM', 'INSUFFICIENT_DATA'] as const) {
    for (const short of outcome[state] ?? []) states[LONG(short)] = state;
  }
  return states;
}
