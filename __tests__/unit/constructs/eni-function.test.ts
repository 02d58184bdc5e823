// SPDX-License-Identifier: Apache-2.0
// How the second interface comes about: the function, who may call it, what it may do, and where a lost event ends.
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import type { Statement } from '../../../constructs/iam';
import { METRIC_NAMESPACE } from '../../../constructs/monitoring/metrics';
import { address, all, type Body, BUNDLE, only, parsed, reference, synth, withoutBundle } from './synthesized';

const xdp = synth();
const ENI = { function_name: 'mirror-gateway-eni' };
const QUEUE = { name: 'mirror-gateway-eni-failures' };
const fn = only(xdp, 'aws_lambda_function', ENI);
const limits = only(xdp, 'aws_lambda_function_event_invoke_config', {
  function_name: reference(xdp, 'aws_lambda_function', 'function_name', ENI),
});
const queueArn = reference(xdp, 'aws_sqs_queue', 'arn', QUEUE);
const LAUNCHES = { name: 'mirror-gateway-eni-launches' };
const SWEEP = { name: 'mirror-gateway-eni-sweep' };
const ruleArn = (rule: Body) => reference(xdp, 'aws_cloudwatch_event_rule', 'arn', rule);
const targets = [LAUNCHES, SWEEP].map((rule) =>
  only(xdp, 'aws_cloudwatch_event_target', { rule: reference(xdp, 'aws_cloudwatch_event_rule', 'name', rule) }),
);

function statementsOf(settings: Body): readonly Statement[] {
  const { policy } = only(synth(settings), 'aws_iam_role_policy', { name: 'attach-second-interfaces' });
  return parsed<{ Statement: Statement[] }>(policy).Statement;
}

describe('the ENI function', () => {
  test('runs on Node.js 24 and Graviton, a few at a time', () => {
    expect(fn).toMatchObject({
      function_name: 'mirror-gateway-eni',
      runtime: 'nodejs24.x',
      architectures: ['arm64'],
      handler: 'index.handler',
      timeout: 120,
      memory_size: 512,
      reserved_concurrent_executions: 5,
    });
    expect(fn).not.toHaveProperty('vpc_config');
  });

  test('changes when its code does, and not with the time or the place of the archive', () => {
    const hash = createHash('sha256').update(fs.readFileSync(BUNDLE)).digest('base64');
    expect(fn.source_code_hash).toBe(hash);
    expect(fn.filename).toMatch(/^assets\/[\w-]+\/[0-9a-f]{32}\/eni-function\.zip$/);
    const later = new Date(Date.now() + 3_600_000);
    fs.utimesSync(BUNDLE, later, later);
    expect(only(synth(), 'aws_lambda_function', ENI)).toEqual(fn);
  });

  test('gets all that it asks its environment for', () => {
    const settings = { secondary_subnet_ids: 'subnet-0123456789abcdef2', environment: 'staging' };
    const stack = synth(settings);
    expect(only(stack, 'aws_lambda_function', { function_name: 'mirror-gateway-staging-eni' }).environment).toEqual({
      variables: {
        STACK: 'mirror-gateway-staging',
        AUTO_SCALING_GROUP_NAME: only(stack, 'aws_autoscaling_group').name,
        LIFECYCLE_HOOK_NAME: 'mirror-gateway-staging-second-interface',
        HEARTBEAT_SECONDS: '600',
        SECURITY_GROUP_ID: reference(stack, 'aws_security_group', 'id', { name: 'mirror-gateway-staging-secondary' }),
        SECONDARY_SUBNET_IDS: 'subnet-0123456789abcdef2',
        EXTRA_TAGS: '{"Product":"mirror-gateway","Component":"xdp-packet-processor","Environment":"staging"}',
        METRIC_NAMESPACE,
      },
    });
    expect(fn.environment).toMatchObject({ variables: { SECONDARY_SUBNET_IDS: '' } });
  });

  test('has its log group and its permissions before it can run', () => {
    const logs = { name: '/aws/lambda/mirror-gateway-eni' };
    expect(fn.depends_on).toEqual([
      address(xdp, 'aws_iam_role_policy', { name: 'attach-second-interfaces' }),
      address(xdp, 'aws_cloudwatch_log_group', logs),
    ]);
    expect(only(xdp, 'aws_cloudwatch_log_group', logs).retention_in_days).toBe(7);
    const kept = synth({ log_retention_days: '30' });
    all(kept, 'aws_cloudwatch_log_group').forEach((group) => expect(group.retention_in_days).toBe(30));
  });

  test('is the same whatever the engine', () => {
    const legacy = withoutBundle(synth({ enable_xdp: 'false' }));
    expect(only(legacy, 'aws_lambda_function', ENI)).toEqual(only(withoutBundle(xdp), 'aws_lambda_function', ENI));
  });
});

describe('an event of a launch', () => {
  test('calls the function only from this group and this hook', () => {
    expect(parsed(only(xdp, 'aws_cloudwatch_event_rule', LAUNCHES).event_pattern)).toEqual({
      source: ['aws.autoscaling'],
      'detail-type': ['EC2 Instance-launch Lifecycle Action'],
      detail: {
        AutoScalingGroupName: ['mirror-gateway-xdp-asg'],
        LifecycleHookName: ['mirror-gateway-second-interface'],
      },
    });
    const [hook] = only(xdp, 'aws_autoscaling_group').initial_lifecycle_hook as readonly Body[];
    expect(hook?.name).toBe('mirror-gateway-second-interface');
  });

  test('is served or given up before the launch is', () => {
    const [hook] = only(xdp, 'aws_autoscaling_group').initial_lifecycle_hook as readonly Body[];
    const delivery = targets.map(({ retry_policy }) => (retry_policy as Body).maximum_event_age_in_seconds as number);
    const longest = Math.max(...delivery) + (limits.maximum_event_age_in_seconds as number) + (fn.timeout as number);
    expect(longest).toBeLessThan(hook?.heartbeat_timeout as number);
  });

  test('is tried three times, by EventBridge and by Lambda', () => {
    expect(limits).toMatchObject({ maximum_retry_attempts: 2, maximum_event_age_in_seconds: 300 });
    targets.forEach((target) =>
      expect(target.retry_policy).toEqual({ maximum_event_age_in_seconds: 120, maximum_retry_attempts: 2 }),
    );
  });

  test('that nobody serves ends in one queue, from either layer', () => {
    expect(fn.dead_letter_config).toEqual({ target_arn: queueArn });
    targets.forEach((target) => expect(target.dead_letter_config).toEqual({ arn: queueArn }));
    // What lies there is the event itself, and not Lambda's report about it.
    expect(limits).not.toHaveProperty('destination_config');
  });
});

describe('the sweep', () => {
  test('comes once an hour and by the same function', () => {
    expect(only(xdp, 'aws_cloudwatch_event_rule', SWEEP)).toMatchObject({ schedule_expression: 'rate(1 hour)' });
    expect(only(xdp, 'aws_cloudwatch_event_rule', SWEEP)).not.toHaveProperty('event_pattern');
    const functionArn = reference(xdp, 'aws_lambda_function', 'arn', ENI);
    targets.forEach((target) => expect(target.arn).toBe(functionArn));
  });
});

describe('the queue of failures', () => {
  test('is encrypted and keeps an event as long as SQS can', () => {
    expect(only(xdp, 'aws_sqs_queue', QUEUE)).toEqual({
      name: 'mirror-gateway-eni-failures',
      message_retention_seconds: 14 * 24 * 3600,
      sqs_managed_sse_enabled: true,
    });
  });

  test('admits the two rules and nobody else', () => {
    const queue_url = reference(xdp, 'aws_sqs_queue', 'url', QUEUE);
    const { policy } = only(xdp, 'aws_sqs_queue_policy', { queue_url });
    expect(parsed<{ Statement: Statement[] }>(policy).Statement).toEqual([
      {
        Effect: 'Allow',
        Principal: { Service: 'events.amazonaws.com' },
        Action: 'sqs:SendMessage',
        Resource: queueArn,
        Condition: { ArnEquals: { 'aws:SourceArn': [ruleArn(LAUNCHES), ruleArn(SWEEP)] } },
      },
    ]);
  });
});

describe('the permissions', () => {
  test('to call the function name the rule that calls, one each', () => {
    const permissions = all(xdp, 'aws_lambda_permission').filter(
      ({ function_name }) => function_name === limits.function_name,
    );
    expect(permissions.map(({ source_arn }) => source_arn).sort()).toEqual([ruleArn(LAUNCHES), ruleArn(SWEEP)].sort());
    permissions.forEach((permission) =>
      expect(permission).toMatchObject({ action: 'lambda:InvokeFunction', principal: 'events.amazonaws.com' }),
    );
    targets.forEach(({ depends_on }) => expect(depends_on).toHaveLength(1));
  });

  test('of the function let it make interfaces in the subnets of the second interfaces only', () => {
    const subnetsOf = (settings: Body) => {
      const { Resource = [] } = statementsOf(settings).find(({ Sid }) => Sid === 'MakeInOurSubnets') ?? {};
      return [...Resource].flatMap((arn) => /:subnet\/(.+)$/.exec(arn)?.[1] ?? []);
    };
    const gateways = { private_subnet_ids: 'subnet-0123456789abcdef0,subnet-0123456789abcdef1' };
    expect(subnetsOf(gateways)).toEqual(['subnet-0123456789abcdef0', 'subnet-0123456789abcdef1']);
    const apart = { ...gateways, secondary_subnet_ids: 'subnet-0123456789abcdef2,subnet-0123456789abcdef3' };
    expect(subnetsOf(apart)).toEqual(['subnet-0123456789abcdef2', 'subnet-0123456789abcdef3']);
  });

  test('of the function end at interfaces with our tag, instances of our group, and that group', () => {
    const conditions = Object.fromEntries(statementsOf({}).map(({ Sid = '', Condition }) => [Sid, Condition]));
    expect(conditions).toMatchObject({
      MakeWithOurTag: { StringEquals: { 'aws:RequestTag/mirror-gateway:stack': 'mirror-gateway' } },
      TagWhileMaking: { StringEquals: { 'ec2:CreateAction': 'CreateNetworkInterface' } },
      TouchOurInterfaces: { StringEquals: { 'aws:ResourceTag/mirror-gateway:stack': 'mirror-gateway' } },
      TouchOurInstances: { StringEquals: { 'aws:ResourceTag/aws:autoscaling:groupName': 'mirror-gateway-xdp-asg' } },
    });
    const { Resource } = statementsOf({}).find(({ Sid }) => Sid === 'LetLaunchesGoOn') ?? {};
    expect(Resource).toMatch(/:autoScalingGroup:\*:autoScalingGroupName\/mirror-gateway-xdp-asg$/);
  });

  test('of the function are in the partition of the region', () => {
    const arns = (region: string) => JSON.stringify(statementsOf({ region })).match(/arn:[a-z-]+/g) ?? [];
    expect(new Set(arns('cn-north-1'))).toEqual(new Set(['arn:aws-cn']));
    expect(new Set(arns('us-gov-west-1'))).toEqual(new Set(['arn:aws-us-gov']));
  });
});

test.each([
  ['2', 5],
  ['20', 20],
  ['500', 50],
])('the function may run as often at once as gateways may launch: for %s of them %d times', (count, runs) => {
  const fn = only(synth({ mirroring_instance_count: count }), 'aws_lambda_function', ENI);
  expect(fn.reserved_concurrent_executions).toBe(runs);
});
