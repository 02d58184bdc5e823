// SPDX-License-Identifier: Apache-2.0
// Who may talk to whom: every security group rule, and that nothing else is open.
import { all, type Body, EVERY_OPTION, only, reference, synth, VARIANTS } from './synthesized';

const xdp = synth();

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

  const groupId = (name: string) => reference(xdp, 'aws_security_group', 'id', { name: `mirror-gateway-${name}` });
  const egress = all(xdp, 'aws_vpc_security_group_egress_rule');
  const of = (rules: readonly Body[], group: string) =>
    rules.filter((rule) => rule.security_group_id === groupId(group));
  const vpcCidr = `\${data.aws_vpc.${Object.keys(xdp.data?.aws_vpc ?? {})[0]}.cidr_block}`;
  const s3 = `\${data.aws_prefix_list.${Object.keys(xdp.data?.aws_prefix_list ?? {})[0]}.id}`;

  /** Peer and ports of each rule, one line each. */
  const summary = (rules: readonly Body[]) =>
    rules
      .map(({ ip_protocol, from_port, to_port, ...peer }) => {
        const ports = from_port === to_port ? String(to_port) : `${String(from_port)} to ${String(to_port)}`;
        const who = peer.cidr_ipv4 ?? peer.prefix_list_id ?? peer.referenced_security_group_id;
        return `${String(ip_protocol)} ${ports} ${String(who)}`;
      })
      .sort();

  test('are three: of the load balancer, the gateways and their second interfaces', () => {
    const names = all(xdp, 'aws_security_group').map(({ name }) => name);
    expect(names.sort()).toEqual([
      'mirror-gateway-gateway',
      'mirror-gateway-load-balancer',
      'mirror-gateway-secondary',
    ]);
    all(xdp, 'aws_security_group').forEach((group) => {
      expect(group).not.toHaveProperty('ingress');
      expect(group).not.toHaveProperty('egress');
    });
  });

  test('admit to a gateway only what comes through the load balancer: VXLAN and health checks', () => {
    expect(summary(of(ingress({}), 'gateway'))).toEqual([
      `tcp 8079 ${groupId('load-balancer')}`,
      `udp 4789 ${groupId('load-balancer')}`,
    ]);
  });

  test('let the load balancer reach only gateways, by VXLAN and health checks', () => {
    expect(summary(of(egress, 'load-balancer'))).toEqual([
      `tcp 8079 ${groupId('gateway')}`,
      `udp 4789 ${groupId('gateway')}`,
    ]);
  });

  test('follow the health port on both sides', () => {
    const stack = synth({ health_port: '9001' });
    for (const type of ['aws_vpc_security_group_egress_rule', 'aws_vpc_security_group_ingress_rule'])
      expect(only(stack, type, { description: 'Health checks' })).toMatchObject({ from_port: 9001, to_port: 9001 });
  });

  test('let a gateway reach package mirrors and AWS APIs in the VPC, and S3', () => {
    expect(summary(of(egress, 'gateway'))).toEqual([`tcp 443 ${vpcCidr}`, `tcp 443 ${s3}`, `tcp 80 ${vpcCidr}`].sort());
    const [list] = Object.values(synth({ region: 'eu-west-1' }).data?.aws_prefix_list ?? {});
    expect(list?.name).toBe('com.amazonaws.eu-west-1.s3');
  });

  test('let a gateway reach the management networks where there are some', () => {
    const rules = all(synth({ management_cidrs: '10.200.0.0/16,10.201.0.0/16' }), 'aws_vpc_security_group_egress_rule');
    expect(summary(rules.filter((rule) => String(rule.cidr_ipv4).startsWith('10.')))).toEqual([
      'tcp 443 10.200.0.0/16',
      'tcp 443 10.201.0.0/16',
      'tcp 80 10.200.0.0/16',
      'tcp 80 10.201.0.0/16',
    ]);
  });

  test('let nothing into a second interface, and nothing out but datagrams to the IPsec VM', () => {
    const settings = { aws_ipsec_vm_ip: '10.0.1.95', aws_ipsec_vm_port: '4500', management_cidrs: '10.200.0.0/16' };
    const rules = all(synth(settings), 'aws_vpc_security_group_egress_rule');
    expect(summary(of(rules, 'secondary'))).toEqual(['udp 4500 10.0.1.95/32']);
    expect(of(ingress(settings), 'secondary')).toEqual([]);
  });

  test.each(VARIANTS)('are open to everybody nowhere: %s', (_, settings) => {
    const stack = synth(settings);
    const rules = ['ingress', 'egress'].flatMap((way) => all(stack, `aws_vpc_security_group_${way}_rule`));
    expect(rules.length).toBeGreaterThan(8);
    expect(rules.filter((rule) => rule.cidr_ipv4 === '0.0.0.0/0' || 'cidr_ipv6' in rule)).toEqual([]);
    expect(rules.filter((rule) => rule.ip_protocol === '-1')).toEqual([]);
    expect(Object.keys(stack.resource)).not.toContain('aws_security_group_rule');
  });

  test('describe every rule', () => {
    const rules = [...ingress(EVERY_OPTION), ...all(synth(EVERY_OPTION), 'aws_vpc_security_group_egress_rule')];
    expect(rules.filter((rule) => !rule.description)).toEqual([]);
  });
});
