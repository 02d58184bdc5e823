// SPDX-License-Identifier: Apache-2.0
// How a gateway is launched: what every instance carries, from which image, and what it never does.
import { loadConfig } from '../../../constructs/config/load';
import { BundleBucket } from '../../../constructs/user-data/bundle-bucket';
import { GatewayLaunchTemplate } from '../../../constructs/fleet/launch-template';
import { describeUserData, unpackUserData } from '../../../constructs/user-data/user-data';
import { all, type Body, newStack, only, parsed, reference, synth } from './synthesized';
import { REQUIRED } from './wrong-values';

const xdp = synth();

describe('the launch template', () => {
  const template = only(xdp, 'aws_launch_template');

  test('requires IMDSv2 and keeps its tokens from anything a hop away', () => {
    expect(template.metadata_options).toEqual({
      http_endpoint: 'enabled',
      http_tokens: 'required',
      http_put_response_hop_limit: 1,
      instance_metadata_tags: 'enabled',
    });
  });

  test('has tags that can be in its metadata: EC2 launches nothing with another key', () => {
    const keys = (template.tag_specifications as { tags: Body }[]).flatMap(({ tags }) => Object.keys(tags));
    keys.forEach((key) => expect(key).toMatch(/^[A-Za-z0-9+\-=.,_:@]+$/));
  });

  test('encrypts the root volume, under the name the image gives it', () => {
    const [ami] = Object.keys(xdp.data?.aws_ami ?? {});
    expect(template.block_device_mappings).toEqual([
      {
        device_name: `\${data.aws_ami.${ami}.root_device_name}`,
        ebs: { encrypted: 'true', volume_type: 'gp3', delete_on_termination: 'true' },
      },
    ]);
  });

  test('carries an instance profile whose role has Session Manager access, writes to one log group, reads the bundle, and nothing else', () => {
    const [profile] = Object.keys(xdp.resource.aws_iam_instance_profile ?? {});
    expect(template.iam_instance_profile).toEqual({ name: `\${aws_iam_instance_profile.${profile}.name}` });
    expect(only(xdp, 'aws_iam_role_policy_attachment').policy_arn).toBe(
      'arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore',
    );
    const role = only(xdp, 'aws_iam_instance_profile').role as string;
    const logs = reference(xdp, 'aws_cloudwatch_log_group', 'arn', { name: '/aws/ec2/xdp-packet-processor' });
    const bucket = only(xdp, 'aws_s3_bucket').bucket as string;
    const policies = all(xdp, 'aws_iam_role_policy').filter((policy) => policy.role === role.replace('.name}', '.id}'));
    expect(policies.map(({ policy }) => parsed(policy))).toEqual([
      {
        Version: '2012-10-17',
        Statement: [
          { Effect: 'Allow', Action: 's3:GetObjectVersion', Resource: `arn:aws:s3:::${bucket}/bundle.tar.gz` },
          { Effect: 'Allow', Action: 's3:ListBucketVersions', Resource: `arn:aws:s3:::${bucket}` },
        ],
      },
      {
        Version: '2012-10-17',
        Statement: [
          {
            Effect: 'Allow',
            Action: ['logs:CreateLogStream', 'logs:DescribeLogStreams', 'logs:PutLogEvents'],
            Resource: [logs, `${logs}:log-stream:*`],
          },
        ],
      },
    ]);
  });

  test('takes the policy from the partition of its region', () => {
    const policyIn = (region: string) => only(synth({ region }), 'aws_iam_role_policy_attachment').policy_arn;
    expect(policyIn('cn-north-1')).toBe('arn:aws-cn:iam::aws:policy/AmazonSSMManagedInstanceCore');
    expect(policyIn('us-gov-west-1')).toBe('arn:aws-us-gov:iam::aws:policy/AmazonSSMManagedInstanceCore');
  });

  test('holds user data that is base64 once, without a token or an interpolation', () => {
    const userData = template.user_data as string;
    expect(userData).toMatch(/^[A-Za-z0-9+/]+=*$/);
    const { env, bundleEnv } = unpackUserData(Buffer.from(userData, 'base64'));
    expect(env).toContain('ENABLE_XDP=true\n');
    expect(env + bundleEnv).not.toContain('${');
  });

  test('says in words what the user data holds', () => {
    expect(template.description).toMatch(
      /^XDP: engine auto, mode auto, 100 percent of flows; UDP 31765, 1401 to 9000 bytes, to 192\.0\.2\.95:8081, whole; version [0-9.]+, settings [0-9a-f]{12}, bundle [0-9a-f]{12}$/,
    );
    expect(only(synth({ enable_xdp: false }), 'aws_launch_template').description).toMatch(
      /^netfilter \(enable_xdp false\); /,
    );
  });

  test.each([
    ['whole where even the longest datagram fits', { egress_mtu: '8486' }, ', whole'],
    ['whole where none is longer', { egress_mtu: '1500', max_packet_size: '1500' }, ', whole'],
    ['in fragments where the longest does not fit', { egress_mtu: '8485' }, ' in fragments of 8485'],
    [
      'in fragments where one byte more is taken',
      { egress_mtu: '1500', max_packet_size: '1501' },
      ' in fragments of 1500',
    ],
  ])('says that datagrams leave %s', (_, settings, words) => {
    const location = { bucketUrl: '', region: '', key: '', sha256: '' };
    const description = describeUserData(loadConfig({ ...REQUIRED, ...settings }, {}), location);
    expect(description).toContain(`, to 192.0.2.95:8081${words}; version `);
  });

  test('describes the longest settings within the 255 characters of a description', () => {
    const longest = {
      aws_ipsec_vm_ip: '203.113.213.213',
      aws_ipsec_vm_port: '65535',
      target_port: '65535',
      min_packet_size: '8485',
      egress_mtu: '8485',
      xdp_engine: 'direct',
      xdp_mode: 'generic',
    };
    expect((only(synth(longest), 'aws_launch_template').description as string).length).toBeLessThanOrEqual(255);
  });

  // The group goes by the template's version (fleet.test.ts), so all gateways are replaced: never in place.
  test.each([
    ['xdp_engine', { xdp_engine: 'direct' }],
    ['xdp_engine', { xdp_engine: 'bridge' }],
    ['xdp_mode', { xdp_mode: 'generic' }],
    ['xdp_mode', { xdp_mode: 'driver', max_packet_size: '3448' }],
    ['max_packet_size, which may mean driver mode', { max_packet_size: '3448' }],
    ['egress_mtu, which may mean fragments', { egress_mtu: '1500' }],
  ])('becomes another version by %s, in bytes and in words: %j', (_, settings) => {
    const { user_data, description } = only(synth(settings), 'aws_launch_template');
    expect(user_data).not.toBe(template.user_data);
    expect(description).not.toBe(template.description);
  });

  test('tags instances and volumes itself, as default tags do not reach them', () => {
    const tags = { Product: 'mirror-gateway', Component: 'xdp-packet-processor', Name: 'mirror-gateway-xdp' };
    expect(template.tag_specifications).toEqual([
      { resource_type: 'instance', tags },
      { resource_type: 'volume', tags },
    ]);
  });

  test('leaves the second interface to the function, which also puts it into another subnet', () => {
    expect(template.network_interfaces).toBeUndefined();
    expect(template.vpc_security_group_ids).toEqual([
      reference(xdp, 'aws_security_group', 'id', { name: 'mirror-gateway-gateway' }),
    ]);
  });
});

describe('the image', () => {
  const debian = (settings: Record<string, unknown>) =>
    Object.values(synth(settings).data?.aws_ssm_parameter ?? {})[0]?.name;

  test('is the current Debian 13 of the architecture of the instance type', () => {
    expect(debian({})).toBe('/aws/service/debian/release/13/latest/amd64');
    expect(debian({ ec2_instance_type: 'c7gn.large' })).toBe('/aws/service/debian/release/13/latest/arm64');
    // `value` is sensitive and would hide the image in every diff.
    expect(only(xdp, 'aws_launch_template').image_id).toMatch(/\.insecure_value\}$/);
  });

  test('is the pinned one where there is one, and nothing is looked up by name', () => {
    const stack = synth({ base_ami: 'ami-0123456789abcdef0' });
    expect(only(stack, 'aws_launch_template').image_id).toBe('ami-0123456789abcdef0');
    expect(Object.keys(stack.data ?? {})).not.toContain('aws_ssm_parameter');
  });

  test('must be of the architecture of the instance type, or the plan fails and names both', () => {
    const [ami] = Object.values(synth({ ec2_instance_type: 'c7gn.large' }).data?.aws_ami ?? {});
    expect(ami?.lifecycle).toEqual({
      postcondition: [
        {
          condition: '${self.architecture == "arm64"}',
          error_message: 'base_ami must be an arm64 image, because ec2_instance_type = "c7gn.large" is arm64.',
        },
      ],
    });
  });
});

describe('the launch template in somebody else’s stack', () => {
  test('throws for a type without ENA, as no configuration has judged it there', () => {
    const config = loadConfig(REQUIRED, {});
    const create = () =>
      new GatewayLaunchTemplate(newStack(), 'own', {
        baseName: 'own',
        config,
        bundle: new BundleBucket(newStack(), 'own', {
          baseName: 'own',
          region: 'eu-central-1',
          vpcId: 'vpc-01234567',
        }),
        instanceType: 't2.micro',
        instanceProfileName: 'own',
        securityGroupIds: [],
        tags: {},
      });
    expect(create).toThrow(
      'ec2_instance_type = "t2.micro": t2 has no ENA interface; take one with ENA, such as c5n.large',
    );
  });
});
