// SPDX-License-Identifier: Apache-2.0
// The synthesized stack as a whole: names, tags, state, outputs, what is unwise, and what a flip of the engine changes.
import { Testing } from 'cdktf';
import { loadConfig } from '../../../constructs/config/load';
import { GatewayStack } from '../../../constructs/gateway-stack';
import { unpackUserData } from '../../../constructs/user-data/user-data';
import {
  address,
  all,
  BUNDLE,
  only,
  type Body,
  newStack,
  reference,
  synth,
  type Synthesized,
  warnings,
} from './synthesized';
import { REQUIRED } from './wrong-values';

const xdp = synth();

describe('names and tags', () => {
  const named = synth({ name_prefix: 'edge', environment: 'staging', product: 'Tunnel', component: 'Mirror' });

  test('derive from name_prefix and environment', () => {
    expect(only(named, 'aws_autoscaling_group').name).toBe('edge-staging-xdp-asg');
    expect(only(named, 'aws_lb').name).toBe('edge-staging-nlb');
    expect(only(named, 'aws_launch_template').name).toBe('edge-staging-xdp');
  });

  test('share no fixed name between two gateways of one account', () => {
    const fixed = (stack: Synthesized) =>
      Object.entries(stack.resource)
        // An inline policy is named within its role.
        .filter(([type]) => type !== 'aws_iam_role_policy')
        .flatMap(([, bodies]) => Object.values(bodies))
        .flatMap((body) => ['name', 'alarm_name', 'dashboard_name', 'function_name', 'bucket'].map((key) => body[key]))
        .filter((name) => typeof name === 'string' && !name.includes('${'));
    expect(fixed(xdp).length).toBeGreaterThan(25);
    expect(fixed(named).filter((name) => fixed(xdp).includes(name))).toEqual([]);
  });

  test('reach every resource through the provider', () => {
    expect(named.provider.aws).toEqual([
      {
        region: 'eu-central-1',
        default_tags: [{ tags: { Product: 'Tunnel', Component: 'Mirror', Environment: 'staging' } }],
        // Of the rollout function.
        ignore_tags: [{ key_prefixes: ['mirror-gateway:rollout-'] }],
      },
    ]);
  });

  test('fit AWS at the longest that the configuration accepts', () => {
    const stack = synth({ name_prefix: 'a'.repeat(28) });
    expect((only(stack, 'aws_lb').name as string).length).toBeLessThanOrEqual(32);
    expect((only(stack, 'aws_lb_target_group').name as string).length).toBeLessThanOrEqual(32);
    all(stack, 'aws_iam_role').forEach(({ name_prefix }) =>
      expect((name_prefix as string).length).toBeLessThanOrEqual(38),
    );
    all(stack, 'aws_lambda_function').forEach(({ function_name }) =>
      expect((function_name as string).length).toBeLessThanOrEqual(64),
    );
    all(stack, 'aws_cloudwatch_event_rule').forEach(({ name }) =>
      expect((name as string).length).toBeLessThanOrEqual(64),
    );
    all(stack, 'aws_sqs_queue').forEach(({ name }) => expect((name as string).length).toBeLessThanOrEqual(80));
    expect((only(stack, 'aws_s3_bucket').bucket as string).length).toBeLessThanOrEqual(63);
  });
});

describe('the state', () => {
  test('is beside cdktf.json unless there is a bucket, at the same place on every machine', () => {
    expect(xdp.terraform.backend).toEqual({ local: { path: '../../../terraform.mirror-gateway.tfstate' } });
  });

  test('lies in the bucket, encrypted and locked', () => {
    expect(synth({ state_bucket: 'example-states', environment: 'staging' }).terraform.backend).toEqual({
      s3: {
        bucket: 'example-states',
        key: 'mirror-gateway-staging/terraform.tfstate',
        region: 'eu-central-1',
        encrypt: true,
        use_lockfile: true,
      },
    });
  });

  test('lies where state_key and state_region say', () => {
    const settings = { state_bucket: 'example-states', state_key: 'a/b', state_region: 'eu-west-1' };
    expect(synth(settings).terraform.backend.s3).toMatchObject({ key: 'a/b', region: 'eu-west-1' });
  });
});

describe('what is unwise', () => {
  const pinned = { base_ami: 'ami-0123456789abcdef0', aws_ipsec_vm_ip: '10.0.1.95', pps_alarm_threshold: '100000' };
  const warned = (settings: Body) => warnings(settings).filter((text) => text.startsWith('@cdktf/warn'));

  test('is not reported when all is well', () => {
    expect(warned(pinned)).toEqual([]);
    expect(warned({ ...pinned, ec2_instance_type: 'm5n.xlarge' })).toEqual([]);
  });

  test('is an image that is not pinned', () => {
    expect(warned({ ...pinned, base_ami: '', management_cidrs: '10.200.0.0/16' })).toEqual([
      '@cdktf/warn: base_ami is not set: the image is whatever /aws/service/debian/release/13/latest/amd64 names at the time of each plan, and a republished image replaces the fleet; pin base_ami in production',
    ]);
  });

  test('is a type the gateway was not sized for', () => {
    expect(warned({ ...pinned, ec2_instance_type: 't3.small', pps_scaling_target: '150000' })).toEqual([
      '@cdktf/warn: ec2_instance_type = "t3.small" is neither c5n nor m5n, the types the gateway was sized for: measure its packet rate before relying on it',
    ]);
  });

  test('is an MTU that datagrams left alone cannot pass', () => {
    expect(warned({ ...pinned, egress_mtu: '1300' })[0]).toBe(
      '@cdktf/warn: egress_mtu = 1300, min_packet_size = 1400: datagrams of 1301 to 1400 bytes keep DF and cannot leave; lower min_packet_size to 1300',
    );
  });
});

describe('flipping enable_xdp', () => {
  const legacy = synth({ enable_xdp: 'false' });

  /** The dotted paths at which two JSON values differ. */
  function differences(a: unknown, b: unknown, at = ''): string[] {
    if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b ? [] : [at];
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return keys.flatMap((key) => differences((a as Body)[key], (b as Body)[key], at ? `${at}.${key}` : key));
  }

  test('changes the description and the user data of the launch template and the alarms on XDP, and nothing else', () => {
    const changed = (type: string, attributes: Body = {}) => `resource.${address(xdp, type, attributes)}`;
    const template = changed('aws_launch_template');
    expect(differences(xdp, legacy).sort()).toEqual([
      changed('aws_cloudwatch_metric_alarm', { alarm_name: 'mirror-gateway-xdp-not-attached' }),
      changed('aws_cloudwatch_metric_alarm', { alarm_name: 'xdp-packet-processing-rate' }),
      `${template}.description`,
      `${template}.user_data`,
    ]);
  });

  test('changes one line of the settings and no file', () => {
    const read = (stack: Synthesized) =>
      unpackUserData(Buffer.from(only(stack, 'aws_launch_template').user_data as string, 'base64'));
    const [on, off] = [read(xdp), read(legacy)];
    expect(off.env).toBe(on.env.replace('ENABLE_XDP=true', 'ENABLE_XDP=false'));
    expect(off.bundleEnv).toBe(on.bundleEnv);
  });
});

describe('the synthesized stack', () => {
  test('is the same when synthesized again', () => {
    expect(Testing.synth(newStack())).toBe(Testing.synth(newStack()));
  });

  test('tells the operator what comes next', () => {
    expect(Object.keys(xdp.output).sort()).toEqual([
      'autoscaling_group_name',
      'dashboard_url',
      'load_balancer_arn',
      'load_balancer_dns_name',
      'mirror_filter_id',
      'mirror_target_id',
      'rollback_command',
    ]);
    expect(xdp.output).toMatchObject({
      mirror_target_id: { value: reference(xdp, 'aws_ec2_traffic_mirror_target', 'id') },
      mirror_filter_id: { value: reference(xdp, 'aws_ec2_traffic_mirror_filter', 'id') },
      load_balancer_arn: { value: reference(xdp, 'aws_lb', 'arn') },
      load_balancer_dns_name: { value: reference(xdp, 'aws_lb', 'dns_name') },
      autoscaling_group_name: { value: reference(xdp, 'aws_autoscaling_group', 'name') },
    });
  });

  test('can stand beside another one in the same app', () => {
    const app = Testing.app();
    const other = loadConfig({ ...REQUIRED, environment: 'other' }, {});
    const packages = { eniPackagePath: BUNDLE, rolloutPackagePath: BUNDLE };
    const first = new GatewayStack(app, 'first', { config: loadConfig(REQUIRED, {}), ...packages });
    const second = new GatewayStack(app, 'second', { config: other, ...packages });
    expect(() => [Testing.synth(first, true), Testing.synth(second, true)]).not.toThrow();
  });
});
