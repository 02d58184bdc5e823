// SPDX-License-Identifier: Apache-2.0
// The synthesized stack, asserted narrowly: each promise of the constructs, and each AWS fact that a naive stack misses.
import { Testing } from 'cdktf';
import { loadConfig } from '../../constructs/config';
import { GatewayLaunchTemplate } from '../../constructs/gateway-launch-template';
import { GatewayStack } from '../../constructs/gateway-stack';
import { unpackUserData } from '../../constructs/user-data';
import { all, BUNDLE, only, type Body, newStack, synth, type Synthesized, warnings } from './synthesized';
import { REQUIRED } from './wrong-values';

const xdp = synth();

describe('the launch template', () => {
  const template = only(xdp, 'aws_launch_template');

  test('requires IMDSv2 and keeps its tokens from anything a hop away', () => {
    expect(template.metadata_options).toEqual({
      http_endpoint: 'enabled',
      http_tokens: 'required',
      http_put_response_hop_limit: 1,
    });
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

  test('carries an instance profile whose role has Session Manager access and nothing else', () => {
    const [profile] = Object.keys(xdp.resource.aws_iam_instance_profile ?? {});
    expect(template.iam_instance_profile).toEqual({ name: `\${aws_iam_instance_profile.${profile}.name}` });
    expect(only(xdp, 'aws_iam_role_policy_attachment').policy_arn).toBe(
      'arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore',
    );
    expect(
      Object.keys(xdp.resource)
        .filter((type) => type.startsWith('aws_iam'))
        .sort(),
    ).toEqual(['aws_iam_instance_profile', 'aws_iam_role', 'aws_iam_role_policy_attachment']);
  });

  test('takes the policy from the partition of its region', () => {
    const policyIn = (region: string) => only(synth({ region }), 'aws_iam_role_policy_attachment').policy_arn;
    expect(policyIn('cn-north-1')).toBe('arn:aws-cn:iam::aws:policy/AmazonSSMManagedInstanceCore');
    expect(policyIn('us-gov-west-1')).toBe('arn:aws-us-gov:iam::aws:policy/AmazonSSMManagedInstanceCore');
  });

  test('holds user data that is base64 once, without a token or an interpolation', () => {
    const userData = template.user_data as string;
    expect(userData).toMatch(/^[A-Za-z0-9+/]+=*$/);
    const { env } = unpackUserData(Buffer.from(userData, 'base64'));
    expect(env).toContain('ENABLE_XDP=true\n');
  });

  test('says in words what the user data holds', () => {
    expect(template.description).toMatch(
      /^XDP: engine auto, mode auto, 100 percent of flows; UDP 31765, 1401 to 9000 bytes, to 192\.0\.2\.95:8081 in fragments of 1400; settings [0-9a-f]{12}, bundle [0-9a-f]{12}$/,
    );
    expect(only(synth({ enable_xdp: false }), 'aws_launch_template').description).toMatch(
      /^netfilter \(enable_xdp false\); /,
    );
  });

  test('describes the longest settings within the 255 characters of a description', () => {
    const longest = {
      aws_ipsec_vm_ip: '203.113.213.213',
      aws_ipsec_vm_port: '65535',
      target_port: '65535',
      min_packet_size: '8485',
      egress_mtu: '9001',
      xdp_engine: 'direct',
      xdp_mode: 'generic',
    };
    expect((only(synth(longest), 'aws_launch_template').description as string).length).toBeLessThanOrEqual(255);
  });

  test('tags instances and volumes itself, as default tags do not reach them', () => {
    const tags = { Product: 'mirror-gateway', Component: 'xdp-packet-processor', Name: 'mirror-gateway-xdp' };
    expect(template.tag_specifications).toEqual([
      { resource_type: 'instance', tags },
      { resource_type: 'volume', tags },
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

describe('the fleet', () => {
  const group = only(xdp, 'aws_autoscaling_group');

  test('starts with its minimum and keeps the size it is given later', () => {
    expect(group).toMatchObject({ name: 'mirror-gateway-xdp-asg', min_size: 1, desired_capacity: 1, max_size: 2 });
    expect(group.lifecycle).toEqual({ ignore_changes: ['desired_capacity'] });
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

  test('names the version of the template by number, since $Latest never starts a refresh', () => {
    const [template] = Object.keys(xdp.resource.aws_launch_template ?? {});
    expect(group.launch_template).toEqual({
      id: `\${aws_launch_template.${template}.id}`,
      version: `\${aws_launch_template.${template}.latest_version}`,
    });
  });

  test('launches a replacement before it stops a gateway', () => {
    expect(group.instance_maintenance_policy).toEqual({ min_healthy_percentage: 100, max_healthy_percentage: 200 });
    expect(group.instance_refresh).toMatchObject({
      strategy: 'Rolling',
      preferences: { min_healthy_percentage: 100, max_healthy_percentage: 200 },
    });
  });

  test('believes the health check of the load balancer, after time enough to build', () => {
    const [targets] = Object.keys(xdp.resource.aws_lb_target_group ?? {});
    expect(group).toMatchObject({
      health_check_type: 'EC2',
      health_check_grace_period: 1200,
      target_group_arns: [`\${aws_lb_target_group.${targets}.arn}`],
    });
  });

  test('tags what it launches', () => {
    expect(group.tag).toContainEqual({ key: 'Component', value: 'xdp-packet-processor', propagate_at_launch: true });
  });
});

describe('the load balancer', () => {
  test('is an internal NLB with a security group from the start, as it could never gain one', () => {
    expect(only(xdp, 'aws_lb')).toMatchObject({
      name: 'mirror-gateway-nlb',
      internal: true,
      load_balancer_type: 'network',
      enable_cross_zone_load_balancing: true,
    });
    expect(only(xdp, 'aws_lb').security_groups).toHaveLength(1);
  });

  test('forwards UDP 4789 to instances', () => {
    const [targets] = Object.keys(xdp.resource.aws_lb_target_group ?? {});
    expect(only(xdp, 'aws_lb_listener')).toMatchObject({
      protocol: 'UDP',
      port: 4789,
      default_action: [{ type: 'forward', target_group_arn: `\${aws_lb_target_group.${targets}.arn}` }],
    });
    expect(only(xdp, 'aws_lb_target_group')).toMatchObject({ target_type: 'instance', protocol: 'UDP', port: 4789 });
  });

  test('asks /healthz by HTTP on the health port, since UDP cannot be checked', () => {
    const check = only(synth({ health_port: '9001' }), 'aws_lb_target_group').health_check;
    expect(check).toMatchObject({ protocol: 'HTTP', path: '/healthz', port: '9001', matcher: '200' });
  });
});

describe('the security groups', () => {
  const ingress = (settings: Record<string, unknown>) => all(synth(settings), 'aws_vpc_security_group_ingress_rule');

  test('admit nothing from an address but VXLAN, from the VPC unless sources are named', () => {
    const fromAddresses = (settings: Record<string, unknown>) =>
      ingress(settings)
        .filter((rule) => rule.cidr_ipv4 !== undefined)
        .map((rule) => [rule.cidr_ipv4, rule.ip_protocol, rule.from_port, rule.to_port]);
    const [vpc] = Object.keys(xdp.data?.aws_vpc ?? {});
    expect(fromAddresses({})).toEqual([[`\${data.aws_vpc.${vpc}.cidr_block}`, 'udp', 4789, 4789]]);
    expect(fromAddresses({ mirror_source_cidrs: '10.1.0.0/16,10.2.0.0/16' })).toEqual([
      ['10.1.0.0/16', 'udp', 4789, 4789],
      ['10.2.0.0/16', 'udp', 4789, 4789],
    ]);
  });

  test('admit to a gateway only what comes through the load balancer: VXLAN and health checks', () => {
    const groups = Object.keys(xdp.resource.aws_security_group ?? {});
    const balancer = groups.find((name) => name.includes('load-balancer'));
    const gateway = groups.find((name) => name !== balancer);
    const rules = ingress({}).filter((rule) => rule.security_group_id === `\${aws_security_group.${gateway}.id}`);
    expect(rules.map((rule) => [rule.ip_protocol, rule.from_port, rule.to_port]).sort()).toEqual([
      ['tcp', 8079, 8079],
      ['udp', 4789, 4789],
    ]);
    rules.forEach((rule) => {
      expect(rule.referenced_security_group_id).toBe(`\${aws_security_group.${balancer}.id}`);
    });
  });

  test('let a gateway reach package mirrors and AWS APIs, and the load balancer reach only gateways', () => {
    const out = all(xdp, 'aws_vpc_security_group_egress_rule');
    const ports = (rules: readonly Body[]) =>
      rules.map((rule) => `${String(rule.ip_protocol)} ${String(rule.to_port)}`);
    expect(ports(out.filter((rule) => rule.cidr_ipv4 === '0.0.0.0/0')).sort()).toEqual(['tcp 443', 'tcp 80']);
    const toGateway = out.filter((rule) => rule.referenced_security_group_id);
    expect(ports(toGateway).sort()).toEqual(['tcp 8079', 'udp 4789']);
    expect(out).toHaveLength(4);
  });

  test('describe every rule', () => {
    const rules = [...ingress({}), ...all(xdp, 'aws_vpc_security_group_egress_rule')];
    expect(rules.filter((rule) => !rule.description)).toEqual([]);
  });
});

describe('names and tags', () => {
  const named = synth({ name_prefix: 'edge', environment: 'staging', product: 'Tunnel', component: 'Mirror' });

  test('derive from name_prefix and environment', () => {
    expect(only(named, 'aws_autoscaling_group').name).toBe('edge-staging-xdp-asg');
    expect(only(named, 'aws_lb').name).toBe('edge-staging-nlb');
    expect(only(named, 'aws_launch_template').name).toBe('edge-staging-xdp');
  });

  test('share no fixed name between two gateways of one account', () => {
    const fixed = (stack: Synthesized) =>
      Object.values(stack.resource).flatMap((type) => Object.values(type).flatMap(({ name }) => (name ? [name] : [])));
    expect(fixed(named).filter((name) => fixed(xdp).includes(name))).toEqual([]);
  });

  test('reach every resource through the provider', () => {
    expect(named.provider.aws).toEqual([
      {
        region: 'eu-central-1',
        default_tags: [{ tags: { Product: 'Tunnel', Component: 'Mirror', Environment: 'staging' } }],
      },
    ]);
  });

  test('fit AWS at the longest that the configuration accepts', () => {
    const stack = synth({ name_prefix: 'a'.repeat(28) });
    expect((only(stack, 'aws_lb').name as string).length).toBeLessThanOrEqual(32);
    expect((only(stack, 'aws_lb_target_group').name as string).length).toBeLessThanOrEqual(32);
    expect((only(stack, 'aws_iam_role').name_prefix as string).length).toBeLessThanOrEqual(38);
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
  const pinned = { base_ami: 'ami-0123456789abcdef0' };

  test('is not reported when all is well', () => {
    expect(warnings(pinned)).toEqual([]);
    expect(warnings({ ...pinned, ec2_instance_type: 'm5n.xlarge' })).toEqual([]);
  });

  test('is an image that is not pinned', () => {
    expect(warnings({})).toEqual([
      '@cdktf/warn: base_ami is not set: the image is whatever /aws/service/debian/release/13/latest/amd64 names at the time of each plan, and a republished image replaces the fleet; pin base_ami in production',
    ]);
  });

  test('is a type the gateway was not sized for', () => {
    expect(warnings({ ...pinned, ec2_instance_type: 't3.small' })).toEqual([
      '@cdktf/warn: ec2_instance_type = "t3.small" is neither c5n nor m5n, the types the gateway was sized for: measure its packet rate before relying on it',
    ]);
  });

  test('is an MTU that datagrams left alone cannot pass', () => {
    expect(warnings({ ...pinned, egress_mtu: '1300' })).toEqual([
      '@cdktf/warn: egress_mtu = 1300 is less than min_packet_size = 1400: datagrams of 1301 to 1400 bytes keep DF and cannot leave; lower min_packet_size to 1300',
    ]);
  });
});

describe('the launch template in somebody else’s stack', () => {
  test('throws for a type without ENA, as no configuration has judged it there', () => {
    const config = loadConfig(REQUIRED, {});
    const create = () =>
      new GatewayLaunchTemplate(newStack(), 'own', {
        baseName: 'own',
        config,
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

describe('flipping enable_xdp', () => {
  const legacy = synth({ enable_xdp: 'false' });

  /** The dotted paths at which two JSON values differ. */
  function differences(a: unknown, b: unknown, at = ''): string[] {
    if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b ? [] : [at];
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return keys.flatMap((key) => differences((a as Body)[key], (b as Body)[key], at ? `${at}.${key}` : key));
  }

  test('changes the description and the user data of the launch template, and nothing else', () => {
    const [template] = Object.keys(xdp.resource.aws_launch_template ?? {});
    const at = `resource.aws_launch_template.${template}`;
    expect(differences(xdp, legacy).sort()).toEqual([`${at}.description`, `${at}.user_data`]);
  });

  test('changes one line of the settings and no file', () => {
    const read = (stack: Synthesized) =>
      unpackUserData(Buffer.from(only(stack, 'aws_launch_template').user_data as string, 'base64'));
    const [on, off] = [read(xdp), read(legacy)];
    expect(off.env).toBe(on.env.replace('ENABLE_XDP=true', 'ENABLE_XDP=false'));
    expect(off.files).toEqual(on.files);
  });
});

describe('the synthesized stack', () => {
  test('is the same when synthesized again', () => {
    expect(Testing.synth(newStack())).toBe(Testing.synth(newStack()));
  });

  test('names no place on this machine', () => {
    expect(JSON.stringify(xdp)).not.toContain(process.cwd());
  });

  test('tells the operator what comes next', () => {
    expect(Object.keys(xdp.output).sort()).toEqual([
      'autoscaling_group_name',
      'load_balancer_arn',
      'load_balancer_dns_name',
    ]);
  });

  test('refers only to what exists', () => {
    const referred = [...JSON.stringify(xdp).matchAll(/\$\{(data\.)?(aws_\w+)\.([\w-]+)\./g)];
    const missing = referred.filter(([, data, type = '', name = '']) => {
      const of = data ? xdp.data : xdp.resource;
      return of?.[type]?.[name] === undefined;
    });
    expect(referred.length).toBeGreaterThan(20);
    expect(missing.map(([reference]) => reference)).toEqual([]);
  });

  test('can stand beside another one in the same app', () => {
    const app = Testing.app();
    const other = loadConfig({ ...REQUIRED, environment: 'other' }, {});
    const first = new GatewayStack(app, 'first', { config: loadConfig(REQUIRED, {}), eniBundlePath: BUNDLE });
    const second = new GatewayStack(app, 'second', { config: other, eniBundlePath: BUNDLE });
    expect(() => [Testing.synth(first, true), Testing.synth(second, true)]).not.toThrow();
  });
});
