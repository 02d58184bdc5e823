// SPDX-License-Identifier: Apache-2.0
// What is copied to the gateways: by which filter, from which interfaces, under which number, and never from themselves.
import { FILTER_CIDRS } from '../../../constructs/config/limits';
import { TrafficMirror } from '../../../constructs/network/traffic-mirror';
import { address, all, type Body, only, reference, synth, synthOwn } from './synthesized';

const ENIS = ['eni-0123456789abcdef0', 'eni-0123456789abcdef1'];

const xdp = synth();
const sessionsOf = (settings: Body) => all(synth(settings), 'aws_ec2_traffic_mirror_session');
const rulesOf = (settings: Body) => all(synth(settings), 'aws_ec2_traffic_mirror_filter_rule');

describe('the mirror target', () => {
  test('is the load balancer, not an interface that would die with its gateway', () => {
    const target = only(xdp, 'aws_ec2_traffic_mirror_target');
    expect(target.network_load_balancer_arn).toBe(reference(xdp, 'aws_lb', 'arn'));
    expect(target).not.toHaveProperty('network_interface_id');
  });
});

describe('the mirror filter', () => {
  test('accepts UDP to the target port, in both directions, from everybody unless networks are named', () => {
    const rules = rulesOf({ target_port: '4500' });
    expect(rules.map((rule) => rule.traffic_direction)).toEqual(['egress', 'ingress']);
    rules.forEach((rule) =>
      expect(rule).toMatchObject({
        rule_action: 'accept',
        protocol: 17,
        source_cidr_block: '0.0.0.0/0',
        destination_cidr_block: '0.0.0.0/0',
        destination_port_range: { from_port: 4500, to_port: 4500 },
      }),
    );
    rules.forEach((rule) => expect(rule).not.toHaveProperty('source_port_range'));
  });

  test('belongs to every rule', () => {
    const filter = reference(xdp, 'aws_ec2_traffic_mirror_filter', 'id');
    all(xdp, 'aws_ec2_traffic_mirror_filter_rule').forEach((rule) =>
      expect(rule.traffic_mirror_filter_id).toBe(filter),
    );
  });

  test('takes the networks that are named and no other, in both directions', () => {
    const rules = rulesOf({ mirror_filter_cidrs: '10.1.0.0/16,10.2.0.0/16' });
    const taken = rules.map((rule) => `${String(rule.traffic_direction)} ${String(rule.source_cidr_block)}`);
    expect(taken.sort()).toEqual([
      'egress 10.1.0.0/16',
      'egress 10.2.0.0/16',
      'ingress 10.1.0.0/16',
      'ingress 10.2.0.0/16',
    ]);
  });

  test('fits its quota of ten rules with as many networks as the configuration takes, numbered apart', () => {
    const cidrs = Array.from({ length: FILTER_CIDRS }, (_, index) => `10.${index}.0.0/16`);
    const rules = rulesOf({ mirror_filter_cidrs: cidrs.join(',') });
    expect(rules).toHaveLength(10);
    const numbers = rules.map((rule) => `${String(rule.traffic_direction)} ${String(rule.rule_number)}`);
    expect(new Set(numbers).size).toBe(10);
    expect(() => synth({ mirror_filter_cidrs: [...cidrs, '10.99.0.0/16'].join(',') })).toThrow(
      'must be up to 5 IPv4 prefixes such as 10.0.0.0/8, comma-separated (it has 6 entries)',
    );
  });

  test('does not accept the protocols of the VPC’s own services', () => {
    expect(only(xdp, 'aws_ec2_traffic_mirror_filter')).not.toHaveProperty('network_services');
  });
});

describe('the mirror sessions', () => {
  const settings = {
    mirror_source_eni_ids: ENIS.join(','),
    vni: '77',
    mirror_session_number: '3',
  };
  const stack = synth(settings);

  test('are none without sources, and then no interface is looked up', () => {
    expect(xdp.resource).not.toHaveProperty('aws_ec2_traffic_mirror_session');
    expect(xdp.data).not.toHaveProperty('aws_network_interfaces');
  });

  test('are one for each source', () => {
    expect(sessionsOf(settings).map((session) => session.network_interface_id)).toEqual(ENIS);
  });

  test('carry the number that gateways expect, and not one that AWS draws', () => {
    sessionsOf(settings).forEach((session) => expect(session.virtual_network_id).toBe(77));
    sessionsOf({ mirror_source_eni_ids: ENIS.join(',') }).forEach((session) =>
      expect(session.virtual_network_id).toBe(1),
    );
  });

  test('copy as much of a packet as a load balancer takes, and rank as configured', () => {
    sessionsOf(settings).forEach((session) =>
      expect(session).toMatchObject({ packet_length: 8500, session_number: 3 }),
    );
  });

  test('join the filter to the target', () => {
    all(stack, 'aws_ec2_traffic_mirror_session').forEach((session) =>
      expect(session).toMatchObject({
        traffic_mirror_filter_id: reference(stack, 'aws_ec2_traffic_mirror_filter', 'id'),
        traffic_mirror_target_id: reference(stack, 'aws_ec2_traffic_mirror_target', 'id'),
      }),
    );
  });

  test('begin after the listener and the gateways, without which every copy is lost', () => {
    all(stack, 'aws_ec2_traffic_mirror_session').forEach((session) =>
      expect(session.depends_on).toEqual([address(stack, 'aws_lb_listener'), address(stack, 'aws_autoscaling_group')]),
    );
  });

  test('fail the plan where the source is a gateway’s own interface, and name both', () => {
    const [[lookup, interfaces] = []] = Object.entries(stack.data?.aws_network_interfaces ?? {});
    expect(interfaces?.filter).toEqual([
      {
        name: 'group-id',
        values: [
          reference(stack, 'aws_security_group', 'id', { name: 'mirror-gateway-gateway' }),
          reference(stack, 'aws_security_group', 'id', { name: 'mirror-gateway-secondary' }),
        ],
      },
    ]);
    all(stack, 'aws_ec2_traffic_mirror_session').forEach(({ lifecycle }, index) =>
      expect(lifecycle).toEqual({
        precondition: [
          {
            condition: `\${!contains(data.aws_network_interfaces.${lookup}.ids, "${ENIS[index]}")}`,
            error_message: `mirror_source_eni_ids: ${ENIS[index]} is an interface of a gateway of mirror-gateway, which cannot mirror itself; remove it.`,
          },
        ],
      }),
    );
  });
});

test('mirroring in somebody else’s stack needs a load balancer, a port and a number', () => {
  const own = synthOwn((stack) => {
    for (const id of ['one', 'another'])
      new TrafficMirror(stack, id, {
        baseName: id,
        loadBalancerArn: 'arn:aws:elasticloadbalancing:eu-central-1:aws:loadbalancer/net/own/0123456789abcdef',
        targetPort: 31765,
        vni: 1,
        sessionNumber: 1,
        gatewayGroupIds: [],
      });
  });
  expect(Object.keys(own.resource).sort()).toEqual([
    'aws_ec2_traffic_mirror_filter',
    'aws_ec2_traffic_mirror_filter_rule',
    'aws_ec2_traffic_mirror_target',
  ]);
  expect(all(own, 'aws_ec2_traffic_mirror_filter_rule')).toHaveLength(4);
  expect(own).not.toHaveProperty('data');
});

test('a network that leaves the filter moves no rule to another number', () => {
  const numbers = (cidrs: string) => {
    const rules = Object.entries(
      synth({ mirror_filter_cidrs: cidrs }).resource.aws_ec2_traffic_mirror_filter_rule ?? {},
    );
    return new Map(rules.map(([name, { rule_number }]) => [name, rule_number]));
  };
  const before = numbers('10.1.0.0/16,10.2.0.0/16');
  const after = numbers('10.2.0.0/16');
  expect(after.size).toBe(2);
  after.forEach((number, name) => expect(before.get(name)).toBe(number));
});
