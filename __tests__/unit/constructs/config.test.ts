// SPDX-License-Identifier: Apache-2.0
// The configuration: every key both ways, what wins over what, and what a person reads after a mistake.
import * as fs from 'node:fs';
import * as path from 'node:path';
import {
  CONFIG_KEYS,
  type ConfigKey,
  describeKeys,
  envName,
  type GatewayConfig,
} from '../../../constructs/config/keys';
import { ConfigError, loadConfig } from '../../../constructs/config/load';
import { REPOSITORY } from '../../../constructs/user-data/user-data';
import { REQUIRED, WRONG, WRONG_TOGETHER } from './wrong-values';

function problemsOf(context: Record<string, unknown>, env: NodeJS.ProcessEnv = {}): readonly string[] {
  try {
    loadConfig(context, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

type Example = { readonly [K in ConfigKey]: readonly [typed: string, read: GatewayConfig[K]] };

// For each key a value that differs from the default and from the checked-in example, as a shell writes it and as we read it.
const EXAMPLES: Example = {
  enable_xdp: ['false', false],
  xdp_engine: ['direct', 'direct'],
  xdp_mode: ['generic', 'generic'],
  xdp_traffic_percent: ['50', 50],
  aws_ipsec_vm_ip: ['10.9.8.7', '10.9.8.7'],
  aws_ipsec_vm_port: ['500', 500],
  target_port: ['4500', 4500],
  min_packet_size: ['1300', 1300],
  max_packet_size: ['8500', 8500],
  vni: ['16777215', 16777215],
  egress_mtu: ['1500', 1500],
  egress_cidrs: ['10.1.0.0/16, 10.2.0.0/16', ['10.1.0.0/16', '10.2.0.0/16']],
  health_port: ['9000', 9000],
  region: ['us-gov-west-1', 'us-gov-west-1'],
  vpc_id: ['vpc-1a2b3c4d', 'vpc-1a2b3c4d'],
  private_subnet_ids: ['subnet-1a2b3c4d,subnet-5e6f7a8b', ['subnet-1a2b3c4d', 'subnet-5e6f7a8b']],
  secondary_subnet_ids: ['subnet-9a8b7c6d', ['subnet-9a8b7c6d']],
  management_cidrs: ['10.200.0.0/16', ['10.200.0.0/16']],
  base_ami: ['ami-0123456789abcdef0', 'ami-0123456789abcdef0'],
  ec2_instance_type: ['c7gn.4xlarge', 'c7gn.4xlarge'],
  min_instances: ['2', 2],
  mirroring_instance_count: ['12', 12],
  pps_scaling_target: ['400000', 400000],
  mirror_source_eni_ids: ['eni-0123456789abcdef0', ['eni-0123456789abcdef0']],
  mirror_session_number: ['3', 3],
  mirror_filter_cidrs: ['0.0.0.0/0', ['0.0.0.0/0']],
  mirror_source_cidrs: ['10.0.0.0/8', ['10.0.0.0/8']],
  pps_alarm_threshold: ['250000', 250000],
  alarm_topic_arn: ['arn:aws:sns:eu-central-1:123456789012:oncall', 'arn:aws:sns:eu-central-1:123456789012:oncall'],
  alarm_email: ['oncall@example.com', 'oncall@example.com'],
  log_retention_days: ['90', 90],
  deletion_protection: ['false', false],
  state_bucket: ['example-states', 'example-states'],
  state_key: ['gateways/terraform.tfstate', 'gateways/terraform.tfstate'],
  state_region: ['eu-west-1', 'eu-west-1'],
  name_prefix: ['edge', 'edge'],
  environment: ['staging', 'staging'],
  product: ['Packet Tunnel', 'Packet Tunnel'],
  component: ['mirror/edge', 'mirror/edge'],
};

const NEEDS: Partial<Record<ConfigKey, Record<string, unknown>>> = {
  state_key: { state_bucket: 'example-states' },
  state_region: { state_bucket: 'example-states' },
};

const DEFAULTS = {
  enable_xdp: true,
  xdp_engine: 'auto',
  xdp_mode: 'auto',
  xdp_traffic_percent: 100,
  aws_ipsec_vm_ip: '192.0.2.95',
  aws_ipsec_vm_port: 8081,
  target_port: 31765,
  min_packet_size: 1400,
  max_packet_size: 9000,
  vni: 1,
  egress_mtu: 9001,
  egress_cidrs: [],
  health_port: 8079,
  region: 'eu-central-1',
  vpc_id: 'vpc-0123456789abcdef0',
  private_subnet_ids: ['subnet-0123456789abcdef0'],
  secondary_subnet_ids: [],
  management_cidrs: [],
  base_ami: undefined,
  ec2_instance_type: 'c5n.large',
  min_instances: 1,
  mirroring_instance_count: 2,
  pps_scaling_target: undefined,
  mirror_source_eni_ids: [],
  mirror_session_number: 1,
  mirror_filter_cidrs: [],
  mirror_source_cidrs: [],
  pps_alarm_threshold: 1_000_000,
  alarm_topic_arn: undefined,
  alarm_email: undefined,
  log_retention_days: 7,
  deletion_protection: true,
  state_bucket: undefined,
  state_key: undefined,
  state_region: undefined,
  name_prefix: 'mirror-gateway',
  environment: undefined,
  product: 'mirror-gateway',
  component: 'xdp-packet-processor',
} satisfies GatewayConfig;

describe('a configuration', () => {
  test('with only the required keys takes the documented defaults', () => {
    expect(loadConfig(REQUIRED, {})).toEqual(DEFAULTS);
  });

  test('as checked in is valid, in the order of the keys, and equals the defaults where there are any', () => {
    const { context } = JSON.parse(fs.readFileSync(path.join(REPOSITORY, 'cdktf.json'), 'utf8')) as {
      context: Record<string, unknown>;
    };
    expect(Object.keys(context)).toEqual(CONFIG_KEYS.filter((key) => key in context));
    expect(loadConfig(context, {})).toEqual({
      ...DEFAULTS,
      private_subnet_ids: ['subnet-0123456789abcdef0', 'subnet-0123456789abcdef1'],
    });
  });

  test.each(CONFIG_KEYS)('takes %s from the context', (key) => {
    const [typed, read] = EXAMPLES[key];
    expect(loadConfig({ ...REQUIRED, ...NEEDS[key], [key]: typed }, {})[key]).toEqual(read);
  });

  test.each(CONFIG_KEYS)('takes %s from the environment, over the context', (key) => {
    const [typed, read] = EXAMPLES[key];
    const context = { ...REQUIRED, ...NEEDS[key] };
    expect(loadConfig(context, { [envName(key)]: typed })[key]).toEqual(read);
    expect(loadConfig({ ...context, [key]: 'not valid at all!' }, { [envName(key)]: typed })[key]).toEqual(read);
  });

  test.each(CONFIG_KEYS)('takes %s as JSON as well as as a string', (key) => {
    const [, read] = EXAMPLES[key];
    expect(loadConfig({ ...REQUIRED, ...NEEDS[key], [key]: read }, {})[key]).toEqual(read);
  });

  test('changes no other key when the environment overrides one', () => {
    const { enable_xdp, ...rest } = loadConfig(REQUIRED, { MIRROR_GATEWAY_ENABLE_XDP: 'false' });
    expect(enable_xdp).toBe(false);
    expect({ enable_xdp: true, ...rest }).toEqual(DEFAULTS);
  });

  test('treats an empty optional key as unset, in the environment too', () => {
    const context = { ...REQUIRED, base_ami: 'ami-0123456789abcdef0', egress_cidrs: '10.0.0.0/8' };
    const { base_ami, egress_cidrs } = loadConfig(context, {
      MIRROR_GATEWAY_BASE_AMI: '',
      MIRROR_GATEWAY_EGRESS_CIDRS: '',
    });
    expect(base_ami).toBeUndefined();
    expect(egress_cidrs).toEqual([]);
  });

  test('ignores what cdktf itself keeps in the context, and variables of other programs', () => {
    const foreign = {
      cdktfVersion: '0.21.0',
      cdktfRelativeModules: ['x'],
      cdktfStaticModuleAssetHash: 'x',
      excludeStackIdFromLogicalIds: true,
      allowSepCharsInLogicalIds: true,
      '@cdktf/disable_stack_trace_in_metadata': true,
      '@aws-cdk/core:newStyleStackSynthesis': true,
    };
    expect(loadConfig({ ...REQUIRED, ...foreign }, { PATH: '/bin', MIRROR: 'x', GATEWAY_VNI: '7' })).toEqual(DEFAULTS);
  });

  test.each([
    ['the largest datagram', { min_packet_size: '28', max_packet_size: '9001' }],
    ['no share for XDP', { xdp_traffic_percent: '0' }],
    ['the smallest MTU', { egress_mtu: '576' }],
    ['a prefix of one address', { egress_cidrs: '10.0.0.1/32' }],
    ['a name of 28 characters', { name_prefix: 'mirror-gateway', environment: 'quality-check' }],
    ['a fleet that starts at its maximum', { min_instances: '12', mirroring_instance_count: '12' }],
    [
      'five networks in a mirror filter',
      { mirror_filter_cidrs: '10.0.0.0/16,10.1.0.0/16,10.2.0.0/16,10.3.0.0/16,10.4.0.0/16' },
    ],
    ['the longest datagram that a session copies', { min_packet_size: '8485' }],
    ['driver mode with datagrams that fit', { xdp_mode: 'driver', max_packet_size: '3448' }],
    ['driver mode with fragments', { xdp_mode: 'driver', max_packet_size: '3448', egress_mtu: '1400' }],
    ['driver mode without XDP, whatever the sizes: a rollback must pass', { enable_xdp: 'false', xdp_mode: 'driver' }],
    [
      'driver mode on the bridge without XDP: so must this',
      { enable_xdp: 'false', xdp_engine: 'bridge', xdp_mode: 'driver' },
    ],
    ['as many second subnets as zones', { secondary_subnet_ids: 'subnet-0123456789abcdef9' }],
    ['a rate that the type can carry in a burst', { pps_alarm_threshold: '33967391', pps_scaling_target: '33967391' }],
    ['the rate of the report on the smallest type', { ec2_instance_type: 'm5n.large', pps_alarm_threshold: '1000000' }],
    ['no scaling target', { pps_scaling_target: '' }],
    [
      'a rate on a type whose bandwidth is not in the table',
      { ec2_instance_type: 'c7i.large', pps_scaling_target: '100000000' },
    ],
    ['a route beside the package mirrors', { egress_cidrs: '10.20.0.0/16', management_cidrs: '10.21.0.0/16' }],
    ['no mirrored instance yet', { mirroring_instance_count: '0' }],
    [
      'a topic in a partition of its own',
      { region: 'cn-north-1', alarm_topic_arn: 'arn:aws-cn:sns:cn-north-1:123456789012:a' },
    ],
  ])('accepts %s', (_, settings) => {
    expect(problemsOf({ ...REQUIRED, ...settings })).toEqual([]);
  });
});

describe('a wrong configuration', () => {
  test.each([...WRONG, ...WRONG_TOGETHER])('%j is refused with exactly one helpful line', (settings, message) => {
    expect(problemsOf({ ...REQUIRED, ...settings })).toEqual([message]);
  });

  test('is refused in one line whatever the value holds', () => {
    for (const value of ['a\nb', 'a\r\nb', 'a\u2028b', 'a\u0085b', '\u001b[2J', 'x'.repeat(5000)]) {
      for (const key of CONFIG_KEYS.filter((each) => !['product', 'component'].includes(each) || value.length > 9)) {
        const [line, ...more] = problemsOf({ ...REQUIRED, ...NEEDS[key], [key]: value });
        expect(more).toEqual([]);
        // eslint-disable-next-line no-control-regex -- that no such character gets through is the point
        expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
        expect(line?.length).toBeLessThan(500);
      }
    }
  });

  test('says all that is wrong at once, and where each value came from', () => {
    expect(
      problemsOf(
        { ...REQUIRED, vni: 'x', min_packet_size: '9000', regoin: 'x' },
        { MIRROR_GATEWAY_ENABLE_XDP: 'yes', MIRROR_GATEWAY_TARGET_PROT: '1' },
      ),
    ).toEqual([
      'regoin = "x": no such key; the nearest one is region',
      'MIRROR_GATEWAY_TARGET_PROT = "1": no such variable; the nearest one is MIRROR_GATEWAY_TARGET_PORT',
      'enable_xdp (from MIRROR_GATEWAY_ENABLE_XDP) = "yes": must be true or false (write true)',
      'vni = "x": must be a whole number from 1 to 16777215',
      'min_packet_size = 9000, max_packet_size = 9000: min_packet_size must be less than max_packet_size, or no datagram is ever taken',
    ]);
  });

  test('names every required key that is missing, and where to set it', () => {
    expect(problemsOf({})).toEqual([
      'aws_ipsec_vm_ip is not set: it must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95; set it in the context of cdktf.json or as MIRROR_GATEWAY_AWS_IPSEC_VM_IP',
      'aws_ipsec_vm_port is not set: it must be a whole number from 1 to 65535; set it in the context of cdktf.json or as MIRROR_GATEWAY_AWS_IPSEC_VM_PORT',
      'region is not set: it must be the code of an AWS region, such as eu-central-1; set it in the context of cdktf.json or as MIRROR_GATEWAY_REGION',
      'vpc_id is not set: it must be a VPC id: vpc- and 8 or 17 hexadecimal digits (0-9, a-f); set it in the context of cdktf.json or as MIRROR_GATEWAY_VPC_ID',
      'private_subnet_ids is not set: it must be 1 to 16 comma-separated subnet ids: subnet- and 8 or 17 hexadecimal digits (0-9, a-f); set it in the context of cdktf.json or as MIRROR_GATEWAY_PRIVATE_SUBNET_IDS',
    ]);
  });

  test('does not judge keys together while one of them is wrong by itself', () => {
    expect(problemsOf({ ...REQUIRED, min_packet_size: '9000', max_packet_size: 'x' })).toHaveLength(1);
  });

  test.each([
    ['xdp_enable', 'enable_xdp'],
    ['ami', 'base_ami'],
    ['env', 'environment'],
    ['vpcid', 'vpc_id'],
    ['alarmEmail', 'alarm_email'],
    ['Target-Port', 'target_port'],
    ['bucket', 'state_bucket'],
    ['mirror_enis', 'mirror_source_eni_ids'],
    ['XDP_TRAFFIC_PRECENT', 'xdp_traffic_percent'],
    ['zzz', 'vni'],
  ])('that calls a key %s hears of %s', (typed, meant) => {
    expect(problemsOf({ ...REQUIRED, [typed]: '1' })).toEqual([
      `${typed} = "1": no such key; the nearest one is ${meant}`,
    ]);
  });

  test.each(['MIRROR_GATEWAY_enable_xdp', 'mirror_gateway_enable_xdp', 'MIRROR_GATEWAY_ENABLEXDP'])(
    'does not overlook a variable called %s',
    (name) => {
      expect(problemsOf(REQUIRED, { [name]: 'false' })).toEqual([
        `${name} = "false": no such variable; the nearest one is MIRROR_GATEWAY_ENABLE_XDP`,
      ]);
    },
  );
});

describe('the description of the keys', () => {
  test('says meaning, type, default and what is allowed for every key', () => {
    const rows = describeKeys();
    expect(rows.map(({ key }) => key)).toEqual(CONFIG_KEYS);
    rows.forEach((row) => expect(Object.values(row).slice(0, 4).every(Boolean)).toBe(true));
    expect(rows.find(({ key }) => key === 'vpc_id')?.byDefault).toBe('required');
    expect(rows.find(({ key }) => key === 'base_ami')?.byDefault).toBe('unset');
    expect(rows.find(({ key }) => key === 'enable_xdp')?.byDefault).toBe('true');
  });
});
