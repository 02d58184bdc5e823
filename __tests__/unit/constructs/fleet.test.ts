// SPDX-License-Identifier: Apache-2.0
// The group of gateways: its size, how a launch waits, how a rollout goes and goes back, and when the fleet grows.
import { DIMENSION_SETS, METRIC_NAMESPACE, METRICS } from '../../../constructs/monitoring/metrics';
import { GatewayFleet } from '../../../constructs/fleet/fleet';
import { address, all, type Body, only, reference, synth, synthOwn, type Synthesized, VARIANTS } from './synthesized';

const xdp = synth();

describe('the fleet', () => {
  const group = only(xdp, 'aws_autoscaling_group');

  test('starts with its minimum and keeps the size it is given later', () => {
    expect(group).toMatchObject({ name: 'mirror-gateway-xdp-asg', min_size: 1, desired_capacity: 1, max_size: 2 });
    expect(group.lifecycle).toEqual({ ignore_changes: ['desired_capacity', 'launch_template', 'suspended_processes'] });
  });

  test.each([
    ['0', 2],
    ['2', 2],
    ['3', 3],
    ['40', 40],
  ])('for %s mirroring instances grows to %d', (count, size) => {
    expect(only(synth({ mirroring_instance_count: count }), 'aws_autoscaling_group').max_size).toBe(size);
  });

  test('spreads over all subnets', () => {
    const ids = 'subnet-0123456789abcdef0,subnet-0123456789abcdef1,subnet-0123456789abcdef2';
    const stack = synth({ private_subnet_ids: ids });
    expect(only(stack, 'aws_autoscaling_group').vpc_zone_identifier).toEqual(ids.split(','));
    expect(only(stack, 'aws_lb').subnets).toEqual(ids.split(','));
  });

  test('names the version of the template by number, since no rollback takes $Latest', () => {
    const [template] = Object.keys(xdp.resource.aws_launch_template ?? {});
    expect(group.launch_template).toEqual({
      id: `\${aws_launch_template.${template}.id}`,
      version: `\${aws_launch_template.${template}.latest_version}`,
    });
  });

  test('launches a replacement before it stops a gateway', () => {
    expect(group.instance_maintenance_policy).toEqual({ min_healthy_percentage: 100, max_healthy_percentage: 200 });
    // Terraform's own rollouts cannot go back: docs/adr/0009-rollouts.md.
    expect(group).not.toHaveProperty('instance_refresh');
  });

  test('believes the health check of the load balancer, after time enough to build', () => {
    const [targets] = Object.keys(xdp.resource.aws_lb_target_group ?? {});
    expect(group).toMatchObject({
      health_check_type: 'ELB',
      health_check_grace_period: 600,
      target_group_arns: [`\${aws_lb_target_group.${targets}.arn}`],
    });
  });

  test('tags what it launches', () => {
    expect(group.tag).toContainEqual({ key: 'Component', value: 'xdp-packet-processor', propagate_at_launch: true });
  });

  test('tags nothing by the provider alone, as default tags do not reach instances', () => {
    const tags = group.tag as readonly Body[];
    expect(tags.map(({ key }) => key)).toEqual(['Product', 'Component', 'Name']);
    tags.forEach((tag) => expect(tag.propagate_at_launch).toBe(true));
  });

  test('has the metrics of its size collected, which the dashboard and an alarm need', () => {
    expect(group.enabled_metrics).toEqual(['GroupDesiredCapacity', 'GroupInServiceInstances', 'GroupPendingInstances']);
  });
});

describe('a launch', () => {
  const group = only(xdp, 'aws_autoscaling_group');

  test('waits ten minutes for the second interface and is abandoned without it', () => {
    expect(group.initial_lifecycle_hook).toEqual([
      {
        name: 'mirror-gateway-second-interface',
        lifecycle_transition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
        heartbeat_timeout: 600,
        default_result: 'ABANDON',
      },
    ]);
  });

  test('finds its hook in the group itself, as one of its own would miss the first launch', () => {
    expect(Object.keys(xdp.resource)).not.toContain('aws_autoscaling_lifecycle_hook');
  });

  test('finds somebody who listens: all that serves its event is there before the group', () => {
    const launches = { name: 'mirror-gateway-eni-launches' };
    const rule = { rule: reference(xdp, 'aws_cloudwatch_event_rule', 'name', launches) };
    const caller = { source_arn: reference(xdp, 'aws_cloudwatch_event_rule', 'arn', launches) };
    expect(group.depends_on).toEqual(
      expect.arrayContaining([
        address(xdp, 'aws_cloudwatch_event_target', rule),
        address(xdp, 'aws_lambda_permission', caller),
        address(xdp, 'aws_iam_role_policy', { name: 'attach-second-interfaces' }),
        'aws_lambda_function_event_invoke_config.eni-function_limits_FA1B380F',
        expect.stringMatching(/^aws_sqs_queue_policy\.eni-function_/),
      ]),
    );
  });

  test('finds its way to packages and health checks open: the listener and every rule are there before the group', () => {
    const every = (type: string) => Object.keys(xdp.resource[type] ?? {}).map((name) => `${type}.${name}`);
    expect(group.depends_on).toEqual(
      expect.arrayContaining([
        ...every('aws_lb_listener'),
        ...every('aws_vpc_security_group_ingress_rule'),
        ...every('aws_vpc_security_group_egress_rule'),
      ]),
    );
  });

  test('is not waited for by what it waits for, although that knows the group by name', () => {
    const { aws_lambda_function, aws_iam_role_policy, aws_cloudwatch_event_rule } = xdp.resource;
    const every = Object.entries({ ...aws_lambda_function, ...aws_iam_role_policy, ...aws_cloudwatch_event_rule });
    const listeners = JSON.stringify(every.filter(([name]) => name.startsWith('eni-function_')));
    expect(listeners).toContain('mirror-gateway-xdp-asg');
    // graph.test.ts proves that there is no longer way round either.
    expect(listeners).not.toContain('aws_autoscaling_group.');
  });

  test('may run out once before Terraform gives up', () => {
    const [hook] = group.initial_lifecycle_hook as readonly { heartbeat_timeout: number }[];
    const minutes = /^(\d+)m$/.exec(group.wait_for_capacity_timeout as string)?.[1];
    expect(Number(minutes) * 60).toBeGreaterThan(2 * (hook?.heartbeat_timeout ?? Infinity));
  });
});

describe('a rollout', () => {
  const FUNCTION = { function_name: 'mirror-gateway-rollout' };
  const environmentOf = (stack: Synthesized, name = FUNCTION) =>
    (only(stack, 'aws_lambda_function', name).environment as { variables: Record<string, string> }).variables;

  test('counts a successor only after its grace, and launches it before its predecessor goes', () => {
    const group = only(xdp, 'aws_autoscaling_group');
    expect(JSON.parse(environmentOf(xdp).PREFERENCES ?? '')).toEqual({
      MinHealthyPercentage: 100,
      MaxHealthyPercentage: 200,
      InstanceWarmup: group.health_check_grace_period,
    });
    expect(group.default_instance_warmup).toBe(group.health_check_grace_period);
    // What no rollback accepts: a moving version, or an image that EC2 resolves itself.
    expect(JSON.stringify(xdp)).not.toMatch(/\$Latest|resolve:ssm/);
  });

  test.each(VARIANTS)(
    'stops on an alarm that exists, has an opinion without data, and that either engine can set off: %s',
    (_, settings) => {
      const stack = synth(settings);
      const [fn] = all(stack, 'aws_lambda_function').filter(({ function_name }) =>
        /-rollout$/.test(String(function_name)),
      );
      const { variables } = fn?.environment as { variables: Record<string, string> };
      const alarms = (variables.ALARM_NAMES ?? '').split(',').map((alarm) => {
        const [, name = ''] = /^\$\{aws_cloudwatch_metric_alarm\.([\w-]+)\.alarm_name\}$/.exec(alarm) ?? [];
        return stack.resource.aws_cloudwatch_metric_alarm?.[name];
      });
      expect(alarms).toEqual([
        expect.objectContaining({ metric_name: 'Degraded', treat_missing_data: 'notBreaching' }),
      ]);
    },
  );

  test('begins with a new version of the template, and is one at a time', () => {
    const [template] = Object.keys(xdp.resource.aws_launch_template ?? {});
    expect(only(xdp, 'aws_lambda_invocation', { lifecycle_scope: 'CREATE_ONLY' }).input).toBe(
      `{"start":"\${aws_launch_template.${template}.latest_version}"}`,
    );
    expect(only(xdp, 'aws_lambda_function', FUNCTION).reserved_concurrent_executions).toBe(1);
  });

  test('is cancelled before the group is destroyed', () => {
    const stop = only(xdp, 'aws_lambda_invocation', { lifecycle_scope: 'CRUD' });
    expect(stop.depends_on).toContain(address(xdp, 'aws_autoscaling_group'));
  });

  test('that is due is said by each plan', () => {
    const { check } = xdp as unknown as { check: { rollout: { assert: { condition: string }[] } } };
    expect(check.rollout.assert[0]?.condition).toMatch(/launch_template\[0\]\.version == tostring\(.*latest_version\)/);
  });

  test('tells whoever gets the alarms', () => {
    const topic = 'arn:aws:sns:eu-central-1:111122223333:oncall';
    expect(environmentOf(synth({ alarm_topic_arn: topic })).TOPIC_ARN).toBe(topic);
    expect(environmentOf(xdp).TOPIC_ARN).toBe('');
  });
});

describe('the fleet’s growth', () => {
  const configurationOf = (name: string) =>
    only(synth({ pps_scaling_target: '750000' }), 'aws_autoscaling_policy', { name }).target_tracking_configuration;

  test('follows packets/s per gateway, by the metric that gateways send under the group’s name', () => {
    expect(configurationOf('mirror-gateway-packets')).toEqual({
      target_value: 750000,
      customized_metric_specification: {
        namespace: METRIC_NAMESPACE,
        metric_name: 'PacketsPerSecond',
        unit: METRICS.PacketsPerSecond.unit,
        statistic: 'Average',
        metric_dimension: [{ name: 'AutoScalingGroupName', value: reference(xdp, 'aws_autoscaling_group', 'name') }],
      },
    });
    expect(DIMENSION_SETS).toContainEqual(['AutoScalingGroupName']);
  });

  test('follows bytes/s, by what the type carries for ever', () => {
    // 70 % of the 3 Gbit/s of a c5n.large.
    expect(configurationOf('mirror-gateway-bytes')).toMatchObject({
      target_value: 262_500_000,
      customized_metric_specification: { metric_name: 'BytesPerSecond', unit: METRICS.BytesPerSecond.unit },
    });
  });

  test('sees processors once a minute', () => {
    expect(only(xdp, 'aws_launch_template').monitoring).toEqual({ enabled: true });
  });

  test('follows the processors too, which netfilter fills long before the packets are many', () => {
    expect(configurationOf('mirror-gateway-processors')).toEqual({
      target_value: 60,
      predefined_metric_specification: { predefined_metric_type: 'ASGAverageCPUUtilization' },
    });
  });

  test('is all by target tracking, on this group', () => {
    const policies = all(xdp, 'aws_autoscaling_policy');
    expect(policies).toHaveLength(3);
    policies.forEach((policy) =>
      expect(policy).toMatchObject({
        policy_type: 'TargetTrackingScaling',
        autoscaling_group_name: reference(xdp, 'aws_autoscaling_group', 'name'),
      }),
    );
  });
});

test('a fleet in somebody else’s stack needs neither hook nor alarms', () => {
  const stack = synthOwn((own) => {
    new GatewayFleet(own, 'fleet', {
      name: 'own',
      launchTemplate: { templateId: 'lt-0123456789abcdef0', latestVersion: '7' },
      subnetIds: ['subnet-0123456789abcdef0'],
      targetGroupArns: [],
      minSize: 2,
      maxSize: 4,
      tags: {},
      healthCheckGracePeriod: 90,
    });
  });
  const group = only(stack, 'aws_autoscaling_group');
  expect(group).toMatchObject({ health_check_grace_period: 90, default_instance_warmup: 90, desired_capacity: 2 });
  expect(group).not.toHaveProperty('initial_lifecycle_hook');
  expect(group).not.toHaveProperty('depends_on');
});

test.each([
  [1, 200],
  [2, 150],
  [5, 120],
  [40, 110],
])('a fleet of %d is replaced with at most %d %% of it running', (size, percentage) => {
  const count = String(Math.max(size * 2, 2));
  const group = only(synth({ min_instances: String(size), mirroring_instance_count: count }), 'aws_autoscaling_group');
  expect(group.instance_maintenance_policy).toEqual({
    min_healthy_percentage: 100,
    max_healthy_percentage: percentage,
  });
});
