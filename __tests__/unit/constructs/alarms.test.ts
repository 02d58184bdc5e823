// SPDX-License-Identifier: Apache-2.0
// Every alarm, value by value, since one on a metric that nobody sends never fires; and who hears of them.
import {
  DIMENSION_SETS,
  METRIC_NAMESPACE,
  METRICS,
  type MetricName,
  unitOf,
} from '../../../constructs/monitoring/metrics';
import { EC2_FRAGMENTS_PER_SECOND } from '../../../constructs/config/limits';
import { FUNCTION_METRICS } from '../../../lambda/shared/metrics';
import { all, type Body, only, parsed, reference, synth, type Synthesized } from './synthesized';

const TYPE = 'aws_cloudwatch_metric_alarm';
const xdp = synth();
const TOPIC = 'arn:aws:sns:eu-central-1:111122223333:oncall';

type Row = readonly [name: string, metric: string, fires: string, minutes: number, missing: string | undefined];

// For as many minutes of one minute each; silence counts as it says.
const OURS: readonly Row[] = [
  ['xdp-packet-processing-rate', 'PacketsPerSecond', 'Average LessThanThreshold 1000000', 2, 'missing'],
  ['mirror-gateway-xdp-not-attached', 'XdpAttached', 'Minimum LessThanThreshold 1', 3, 'missing'],
  // A rollout waits for it, and would for ever for data.
  ['mirror-gateway-degraded', 'Degraded', 'Maximum GreaterThanThreshold 0', 5, 'notBreaching'],
  ['mirror-gateway-standby-carries-traffic', 'StandbyPacketsPerSecond', 'Maximum GreaterThanThreshold 0', 3, 'missing'],
  ['mirror-gateway-nfqueue-drops', 'NfqueueDropsPerSecond', 'Maximum GreaterThanThreshold 0', 2, 'missing'],
  ['mirror-gateway-packets-lost', 'PacketsLostPerSecond', 'Maximum GreaterThanThreshold 0', 3, 'missing'],
  ['mirror-gateway-fragment-limit', 'FragmentsPerSecond', 'Maximum GreaterThanThreshold 819.2', 2, 'missing'],
  ['mirror-gateway-pps-allowance-exceeded', 'PpsAllowanceExceeded', 'Maximum GreaterThanThreshold 0', 3, 'missing'],
  [
    'mirror-gateway-bandwidth-allowance-exceeded',
    'BandwidthAllowanceExceeded',
    'Maximum GreaterThanThreshold 0',
    3,
    'missing',
  ],
  [
    'mirror-gateway-conntrack-allowance-exceeded',
    'ConntrackAllowanceExceeded',
    'Maximum GreaterThanThreshold 0',
    3,
    'missing',
  ],
  ['mirror-gateway-launches-failed', 'LaunchesFailed', 'Sum GreaterThanThreshold 0', 1, 'notBreaching'],
  ['mirror-gateway-no-data', 'PacketsPerSecond', 'SampleCount LessThanThreshold 1', 5, 'breaching'],
  ['mirror-gateway-launches-abandoned', 'LaunchesAbandoned', 'Sum GreaterThanThreshold 0', 1, 'notBreaching'],
];

const OF_HOSTS: readonly Row[] = [
  ['mirror-gateway-unhealthy-hosts', 'UnHealthyHostCount', 'Minimum GreaterThanThreshold 0', 15, 'missing'],
  ['mirror-gateway-no-healthy-hosts', 'HealthyHostCount', 'Maximum LessThanThreshold 1', 3, 'breaching'],
  ['mirror-gateway-replacement-does-not-help', 'HealthyHostCount', 'Maximum LessThanThreshold 1', 40, 'ignore'],
];

const OF_FUNCTION: readonly Row[] = [
  ['mirror-gateway-eni-function-errors', 'Errors', 'Sum GreaterThanThreshold 0', 1, 'notBreaching'],
  [
    'mirror-gateway-eni-events-undelivered',
    'ApproximateNumberOfMessagesVisible',
    'Maximum GreaterThanThreshold 0',
    1,
    'notBreaching',
  ],
];

const QUEUES = ['rollout-events-undelivered', 'guard-events-undelivered'];
const RULES = ['eni-launches', 'eni-sweep', 'rollout-news', 'rollout-looks', 'replacement-guard'];
const OF_MACHINERY: readonly Row[] = [
  ['mirror-gateway-rollout-function-errors', 'Errors', 'Sum GreaterThanThreshold 0', 1, 'notBreaching'],
  ...QUEUES.map((name): Row => [
    `mirror-gateway-${name}`,
    'ApproximateNumberOfMessagesVisible',
    'Maximum GreaterThanThreshold 0',
    1,
    'notBreaching',
  ]),
  ...RULES.map((name): Row => [
    `mirror-gateway-rule-failed-${name}`,
    'FailedInvocations',
    'Sum GreaterThanThreshold 0',
    1,
    'notBreaching',
  ]),
];

const SILENT = 'mirror-gateway-silent-gateway';
const MISSING = 'mirror-gateway-gateways-missing';

function rowOf(alarm: Body): Row {
  const { alarm_name, metric_name, statistic, comparison_operator, threshold, evaluation_periods } = alarm;
  return [
    alarm_name as string,
    metric_name as string,
    `${String(statistic)} ${String(comparison_operator)} ${String(threshold)}`,
    evaluation_periods as number,
    alarm.treat_missing_data as string | undefined,
  ];
}

const named = (name: string) => only(xdp, TYPE, { alarm_name: name });
const names = (stack: Synthesized) => all(stack, TYPE).map(({ alarm_name }) => String(alarm_name));

describe('the alarms', () => {
  test('are these and no others', () => {
    const onOneMetric = [...OURS, ...OF_HOSTS, ...OF_FUNCTION, ...OF_MACHINERY].map(([name]) => name);
    expect(names(xdp).sort()).toEqual([...onOneMetric, SILENT, MISSING].sort());
  });

  test.each([...OURS, ...OF_HOSTS, ...OF_FUNCTION, ...OF_MACHINERY])(
    '%s watches %s and fires at %s for %d minutes',
    (...row: readonly unknown[]) => {
      const alarm = named(row[0] as string);
      expect(rowOf(alarm)).toEqual(row);
      expect(alarm.period).toBe(60);
      expect(alarm.datapoints_to_alarm ?? alarm.evaluation_periods).toBe(alarm.evaluation_periods);
      expect(alarm).not.toHaveProperty('metric_query');
    },
  );

  test.each(OURS)(
    '%s is on a metric, a unit and a set of dimensions that gateways or the function send',
    (name, metric) => {
      const alarm = named(name);
      expect(alarm.namespace).toBe(METRIC_NAMESPACE);
      expect(Object.keys({ ...METRICS, ...FUNCTION_METRICS })).toContain(metric);
      expect(alarm.unit).toBe(unitOf(metric as MetricName));
      expect(DIMENSION_SETS).toContainEqual(Object.keys(alarm.dimensions as Body).sort());
      expect(alarm.dimensions).toEqual({ AutoScalingGroupName: only(xdp, 'aws_autoscaling_group').name });
    },
  );

  test('on a silent gateway counts those in service and the samples of those that report', () => {
    const group = { dimensions: { AutoScalingGroupName: only(xdp, 'aws_autoscaling_group').name }, period: 60 };
    const inService = { namespace: 'AWS/AutoScaling', metric_name: 'GroupInServiceInstances', stat: 'Minimum' };
    const samples = { namespace: METRIC_NAMESPACE, metric_name: 'Degraded', stat: 'SampleCount' };
    const alarm = named(SILENT);
    expect(alarm).toMatchObject({
      ...{ comparison_operator: 'GreaterThanThreshold', threshold: 0.5, treat_missing_data: 'missing' },
      ...{ evaluation_periods: 15, datapoints_to_alarm: 15 },
      metric_query: [
        { id: 'silent', expression: 'in_service - samples / 6', return_data: true },
        { id: 'in_service', metric: { ...inService, ...group } },
        { id: 'samples', metric: { ...samples, ...group, unit: unitOf('Degraded') } },
      ],
    });
    ['metric_name', 'namespace', 'dimensions', 'period', 'statistic'].forEach((key) =>
      expect(alarm).not.toHaveProperty(key),
    );
    expect(only(xdp, 'aws_autoscaling_group').enabled_metrics).toContain(inService.metric_name);
  });

  test('on missing gateways compares those wanted with those in service, for longer than a launch takes', () => {
    const dimensions = { AutoScalingGroupName: only(xdp, 'aws_autoscaling_group').name };
    const ofGroup = (metric_name: string) => ({
      metric: { namespace: 'AWS/AutoScaling', metric_name, dimensions, stat: 'Maximum', period: 60 },
    });
    const alarm = named(MISSING);
    expect(alarm).toMatchObject({
      ...{ comparison_operator: 'GreaterThanThreshold', threshold: 0, treat_missing_data: 'notBreaching' },
      metric_query: [
        { id: 'missing', expression: 'desired - in_service', return_data: true },
        { id: 'desired', ...ofGroup('GroupDesiredCapacity') },
        { id: 'in_service', ...ofGroup('GroupInServiceInstances') },
      ],
    });
    const [hook] = only(xdp, 'aws_autoscaling_group').initial_lifecycle_hook as readonly {
      heartbeat_timeout: number;
    }[];
    expect((alarm.evaluation_periods as number) * 60).toBeGreaterThan(2 * (hook?.heartbeat_timeout ?? Infinity));
  });

  test('on undelivered events there are for every rule and its queue', () => {
    const rules = all(xdp, 'aws_cloudwatch_event_rule').map(({ name }) =>
      reference(xdp, 'aws_cloudwatch_event_rule', 'name', { name }),
    );
    const watched = (metric: string, dimension: string) =>
      all(xdp, TYPE)
        .filter(({ metric_name }) => metric_name === metric)
        .map(({ dimensions }) => (dimensions as Body)[dimension]);
    expect(watched('FailedInvocations', 'RuleName').sort()).toEqual([...rules].sort());
    const queues = watched('ApproximateNumberOfMessagesVisible', 'QueueName');
    all(xdp, 'aws_cloudwatch_event_target').forEach(({ dead_letter_config }) => {
      const { arn } = dead_letter_config as { arn: string };
      expect(queues).toContain(arn.replace(/\.arn\}$/, '.name}'));
    });
  });

  test('on hosts carry both dimensions that a network load balancer sends', () => {
    OF_HOSTS.forEach(([name]) =>
      expect(named(name)).toMatchObject({
        namespace: 'AWS/NetworkELB',
        dimensions: {
          LoadBalancer: reference(xdp, 'aws_lb', 'arn_suffix'),
          TargetGroup: reference(xdp, 'aws_lb_target_group', 'arn_suffix'),
        },
      }),
    );
  });

  test('on the function and its queue name them', () => {
    expect(named('mirror-gateway-eni-function-errors')).toMatchObject({
      namespace: 'AWS/Lambda',
      dimensions: { FunctionName: 'mirror-gateway-eni' },
    });
    expect(named('mirror-gateway-eni-events-undelivered')).toMatchObject({
      namespace: 'AWS/SQS',
      dimensions: { QueueName: reference(xdp, 'aws_sqs_queue', 'name', { name: 'mirror-gateway-eni-failures' }) },
    });
  });

  test('say what to check first, as long as a description may be', () => {
    all(xdp, TYPE).forEach(({ alarm_description }) => {
      expect(alarm_description).toMatch(/\bFirst [a-z].{20}/);
      expect((alarm_description as string).length).toBeLessThanOrEqual(1024);
    });
  });

  test("on fragments fires before EC2's limit is reached, and like that on packets says that a larger type is no help", () => {
    expect(named('mirror-gateway-fragment-limit').threshold).toBeLessThan(EC2_FRAGMENTS_PER_SECOND);
    ['fragment-limit', 'pps-allowance-exceeded'].forEach((name) =>
      expect(named(`mirror-gateway-${name}`).alarm_description).toMatch(/larger.* does not help against this/),
    );
  });

  test('on XDP are absent without it, and only those two', () => {
    const legacy = names(synth({ enable_xdp: 'false' }));
    expect(
      names(xdp)
        .filter((name) => !legacy.includes(name))
        .sort(),
    ).toEqual(['mirror-gateway-xdp-not-attached', 'xdp-packet-processing-rate']);
    expect(legacy).toHaveLength(names(xdp).length - 2);
  });

  test('take the rate from the configuration', () => {
    const alarm = only(synth({ pps_alarm_threshold: '5000' }), TYPE, { alarm_name: 'xdp-packet-processing-rate' });
    expect(alarm.threshold).toBe(5000);
  });
});

describe('who hears of an alarm', () => {
  const NOTIFIES = ['aws_sns_topic', 'aws_kms_key', 'aws_sns_topic_subscription'];
  const actions = (stack: Synthesized) =>
    all(stack, TYPE).flatMap(({ alarm_actions, ok_actions, insufficient_data_actions }) => [
      ...[alarm_actions, ok_actions, insufficient_data_actions].map((each) => JSON.stringify(each)),
    ]);

  test('is nobody without a topic or an address', () => {
    expect(new Set(actions(xdp))).toEqual(new Set([undefined]));
    NOTIFIES.forEach((type) => expect(xdp.resource).not.toHaveProperty(type));
  });

  test('is a topic that exists, when an alarm fires and when it clears', () => {
    const stack = synth({ alarm_topic_arn: TOPIC });
    all(stack, TYPE).forEach((alarm) => expect(alarm).toMatchObject({ alarm_actions: [TOPIC], ok_actions: [TOPIC] }));
    NOTIFIES.forEach((type) => expect(stack.resource).not.toHaveProperty(type));
  });

  test('is an address, through a topic of its own that a key encrypts', () => {
    const stack = synth({ alarm_email: 'oncall@example.com' });
    const topic = reference(stack, 'aws_sns_topic', 'arn');
    all(stack, TYPE).forEach((alarm) => expect(alarm).toMatchObject({ alarm_actions: [topic], ok_actions: [topic] }));
    expect(only(stack, 'aws_sns_topic')).toEqual({
      name: 'mirror-gateway-alarms',
      kms_master_key_id: reference(stack, 'aws_kms_key', 'arn'),
    });
    expect(only(stack, 'aws_sns_topic_subscription')).toEqual({
      topic_arn: topic,
      protocol: 'email',
      endpoint: 'oncall@example.com',
    });
  });

  test('is an address through the topic that exists, where both are given', () => {
    const stack = synth({ alarm_topic_arn: TOPIC, alarm_email: 'oncall@example.com' });
    expect(only(stack, 'aws_sns_topic_subscription').topic_arn).toBe(TOPIC);
    expect(stack.resource).not.toHaveProperty('aws_sns_topic');
    expect(stack.resource).not.toHaveProperty('aws_kms_key');
  });

  test('is told by CloudWatch, which the key lets in without a condition that could lose an alarm', () => {
    const key = only(synth({ alarm_email: 'oncall@example.com' }), 'aws_kms_key');
    expect(key).toMatchObject({ enable_key_rotation: true, deletion_window_in_days: 7 });
    expect(parsed<{ Statement: Body[] }>(key.policy).Statement).toContainEqual({
      Effect: 'Allow',
      Sid: 'PublishAlarms',
      Principal: { Service: 'cloudwatch.amazonaws.com' },
      Action: ['kms:Decrypt', 'kms:GenerateDataKey'],
      Resource: '*',
    });
  });
});
