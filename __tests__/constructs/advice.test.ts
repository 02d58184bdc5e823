// SPDX-License-Identifier: Apache-2.0
// What works but is unwise: the warning that a person reads, at the construct that it is about; what was asked for by name
// and has consequences: a note; and silence when all is well.
import { synth, warnings, newStack } from './synthesized';

/** A configuration about which there is nothing to say. */
const WELL = { base_ami: 'ami-0123456789abcdef0', aws_ipsec_vm_ip: '10.0.1.95' };

const UNWISE: readonly (readonly [settings: Record<string, string>, at: string, warning: string])[] = [
  ...['auto', 'direct'].map(
    (engine) =>
      [
        { xdp_engine: engine, max_packet_size: '3448', egress_mtu: '1400' },
        'launch-template',
        'xdp_mode = "auto", max_packet_size = 3448, egress_mtu = 1400: these sizes fit driver mode, which gateways then take where they can: both interfaces have an MTU of 3498, so longer mirrored frames are lost, and on ENA each attach and detach flaps their links; change it by deploying, which replaces the gateways, not in place; set xdp_mode to driver if that is meant, or to generic',
      ] as const,
  ),
  [
    { enable_xdp: 'false', xdp_engine: 'bridge' },
    'launch-template',
    'enable_xdp = false, xdp_engine = "bridge": xdp_engine has no effect while enable_xdp is false; set it back to its default',
  ],
  [
    { enable_xdp: 'false', xdp_mode: 'generic' },
    'launch-template',
    'enable_xdp = false, xdp_mode = "generic": xdp_mode has no effect while enable_xdp is false; set it back to its default',
  ],
  [
    { enable_xdp: 'false', xdp_traffic_percent: '50' },
    'launch-template',
    'enable_xdp = false, xdp_traffic_percent = 50: xdp_traffic_percent has no effect while enable_xdp is false; set it back to its default',
  ],
  [
    { xdp_traffic_percent: '0' },
    'launch-template',
    'enable_xdp = true, xdp_traffic_percent = 0: XDP is attached but takes nothing; for netfilter alone set enable_xdp to false',
  ],
  [
    { egress_mtu: '1300' },
    'launch-template',
    'egress_mtu = 1300, min_packet_size = 1400: datagrams of 1301 to 1400 bytes keep DF and cannot leave; lower min_packet_size to 1300',
  ],
  [
    { egress_mtu: '9000' },
    'launch-template',
    'egress_mtu = 9000, max_packet_size = 9000: no datagram is long enough to be fragmented; lower egress_mtu to what the tunnel carries, or raise max_packet_size',
  ],
  [
    { max_packet_size: '1500', egress_mtu: '1500' },
    'launch-template',
    'egress_mtu = 1500, max_packet_size = 1500: no datagram is long enough to be fragmented; lower egress_mtu to what the tunnel carries, or raise max_packet_size',
  ],
  [
    { aws_ipsec_vm_ip: '192.0.2.95' },
    'launch-template',
    'aws_ipsec_vm_ip = "192.0.2.95": that is an example address (RFC 5737), at which nobody answers; set the address of your IPsec VM',
  ],
  [
    { aws_ipsec_vm_ip: '203.0.113.7' },
    'launch-template',
    'aws_ipsec_vm_ip = "203.0.113.7": that is an example address (RFC 5737), at which nobody answers; set the address of your IPsec VM',
  ],
  [
    { aws_ipsec_vm_ip: '52.1.2.3' },
    'launch-template',
    'aws_ipsec_vm_ip = "52.1.2.3": that is a public address, but datagrams keep their mirrored sources, and a VPC lets no foreign source out; take the IPsec VM\'s private address',
  ],
  [
    { egress_cidrs: '10.0.1.0/24' },
    'launch-template',
    'egress_cidrs = ["10.0.1.0/24"], aws_ipsec_vm_ip = "10.0.1.95": the IPsec VM has a route of its own; egress_cidrs is for further prefixes, so leave this one out if it is not needed',
  ],
  [
    { egress_cidrs: '10.20.0.0/16,10.20.1.0/24' },
    'launch-template',
    'egress_cidrs = ["10.20.0.0/16","10.20.1.0/24"]: 10.20.0.0/16 already covers 10.20.1.0/24; leave that out',
  ],
  [
    { egress_cidrs: '16.0.0.0/4' },
    'launch-template',
    'egress_cidrs = ["16.0.0.0/4"]: 16.0.0.0/4 draws most of what a gateway sends, AWS APIs included, to the second interface; narrow it',
  ],
  [
    { egress_cidrs: '10.20.0.0/16', mirror_source_cidrs: '10.20.3.0/24' },
    'launch-template',
    'egress_cidrs = ["10.20.0.0/16"], mirror_source_cidrs = ["10.20.3.0/24"]: answers to health checks from 10.20.0.0/16 would leave by the second interface and be lost; narrow egress_cidrs',
  ],
  [
    { egress_cidrs: '10.20.3.0/24', mirror_source_cidrs: '10.20.0.0/16' },
    'launch-template',
    'egress_cidrs = ["10.20.3.0/24"], mirror_source_cidrs = ["10.20.0.0/16"]: answers to health checks from 10.20.3.0/24 would leave by the second interface and be lost; narrow egress_cidrs',
  ],
  [
    { aws_ipsec_vm_port: '31765' },
    'mirror',
    'aws_ipsec_vm_port = 31765, target_port = 31765: a redirected datagram looks like one to mirror: if the IPsec VM is a mirror source, each copy makes another, without end; take another aws_ipsec_vm_port',
  ],
  [
    { target_port: '4789' },
    'mirror',
    'target_port = 4789: that is the port of VXLAN: mirrored would be other mirror sessions; take the port of the datagrams themselves',
  ],
  [
    { mirror_filter_cidrs: '10.0.0.0/8,10.1.0.0/16' },
    'mirror',
    'mirror_filter_cidrs = ["10.0.0.0/8","10.1.0.0/16"]: 10.0.0.0/8 already covers 10.1.0.0/16; leave that out',
  ],
  [
    { mirror_filter_cidrs: '10.0.0.0/8,0.0.0.0/0' },
    'mirror',
    'mirror_filter_cidrs = ["10.0.0.0/8","0.0.0.0/0"]: 0.0.0.0/0 already covers 10.0.0.0/8; leave that out',
  ],
  [
    { mirror_source_cidrs: '10.1.0.0/16,10.0.0.0/8' },
    'security',
    'mirror_source_cidrs = ["10.1.0.0/16","10.0.0.0/8"]: 10.0.0.0/8 already covers 10.1.0.0/16; leave that out',
  ],
  [
    { mirror_source_cidrs: '16.0.0.0/4' },
    'security',
    'mirror_source_cidrs = ["16.0.0.0/4"]: 16.0.0.0/4 lets more than 16 million addresses send to port 4789; name the networks of the mirror sources',
  ],
  [
    { management_cidrs: '0.0.0.0/0' },
    'security',
    'management_cidrs = ["0.0.0.0/0"]: 0.0.0.0/0 lets gateways reach most of the internet on ports 80 and 443; name the mirrors and endpoints',
  ],
  [
    { management_cidrs: '10.0.0.0/8,10.9.0.0/16' },
    'security',
    'management_cidrs = ["10.0.0.0/8","10.9.0.0/16"]: 10.0.0.0/8 already covers 10.9.0.0/16; leave that out',
  ],
  [
    { base_ami: '' },
    'security',
    'base_ami = "", management_cidrs = []: Debian\'s image downloads packages when it starts, and gateways reach only the VPC and S3; set management_cidrs to where a package mirror and the AWS APIs are, or base_ami to an image that has the packages',
  ],
  [
    { min_instances: '2', mirroring_instance_count: '4' },
    'fleet',
    'min_instances = 2, private_subnet_ids = ["subnet-0123456789abcdef0"]: all gateways are in one zone and fail with it; give a subnet in another zone',
  ],
  [
    { min_instances: '2', private_subnet_ids: 'subnet-0123456789abcdef0,subnet-0123456789abcdef1' },
    'fleet',
    'min_instances = 2, mirroring_instance_count = 2: the fleet cannot grow; raise mirroring_instance_count to leave room for load and for failures',
  ],
  [
    { pps_scaling_target: '1000000' },
    'scaling',
    'pps_scaling_target = 1000000, pps_alarm_threshold = 1000000: a fleet that grows holds each gateway at the target, where the alarm fires; lower pps_alarm_threshold',
  ],
  [
    { pps_scaling_target: '200000', pps_alarm_threshold: '500000' },
    'scaling',
    'pps_scaling_target = 200000, pps_alarm_threshold = 500000: a fleet that grows holds each gateway at the target, where the alarm fires; lower pps_alarm_threshold',
  ],
  [
    { pps_alarm_threshold: '1000', pps_scaling_target: '3000000' },
    'scaling',
    'pps_scaling_target = 3000000, ec2_instance_type = "c5n.large", min_packet_size = 1400: 25 Gbit/s carry at most 2133105 packets/s of 1465 bytes, the smallest frame that XDP takes: with large datagrams alone the fleet never grows by it; lower pps_scaling_target',
  ],
  [
    { ec2_instance_type: 'm5n.xlarge', pps_alarm_threshold: '2200000', pps_scaling_target: '2300000' },
    'alarms',
    'pps_alarm_threshold = 2200000, ec2_instance_type = "m5n.xlarge", min_packet_size = 1400: 25 Gbit/s carry at most 2133105 packets/s of 1465 bytes, the smallest frame that XDP takes: with large datagrams alone the alarm always fires; lower pps_alarm_threshold',
  ],
];

function told(kind: '@cdktf/warn' | '@cdktf/info', settings: Record<string, string>): { at: string; text: string }[] {
  const stack = newStack({ ...WELL, ...settings });
  return stack.node
    .findAll()
    .flatMap(({ node }) =>
      node.metadata
        .filter(({ type }) => type === kind)
        .map(({ data }) => ({ at: node.path.split('/').slice(1).join('/'), text: String(data) })),
    );
}

test.each([
  ['the XDP engine with everything pinned', {}],
  ['the legacy path', { enable_xdp: 'false' }],
  ['a share for netfilter', { xdp_traffic_percent: '10' }],
  ['neighbouring networks', { mirror_source_cidrs: '10.0.0.0/9,10.128.0.0/9', egress_cidrs: '172.16.0.0/16' }],
  [
    'a fleet over two zones',
    {
      min_instances: '2',
      mirroring_instance_count: '4',
      private_subnet_ids: 'subnet-0123456789abcdef0,subnet-0123456789abcdef1',
    },
  ],
  ['a package mirror in a private network', { management_cidrs: '10.200.0.0/16' }],
  ['a low alarm on a fleet that grows early', { pps_scaling_target: '60000', pps_alarm_threshold: '5000' }],
  ['the direct engine by name', { xdp_engine: 'direct' }],
  ['datagrams one byte too long for driver mode', { max_packet_size: '3449' }],
  ['sizes that fit driver mode, in generic mode', { xdp_mode: 'generic', max_packet_size: '3000' }],
  ['sizes that fit driver mode, on the bridge', { xdp_engine: 'bridge', max_packet_size: '3000' }],
  ['sizes that fit driver mode, without XDP', { enable_xdp: 'false', max_packet_size: '3000' }],
])('%s gives no warning', (_, settings) => {
  expect(warnings({ ...WELL, ...settings })).toEqual([]);
});

test.each(UNWISE)('%j is warned about at %s', (settings, at, warning) => {
  expect(told('@cdktf/warn', settings)).toContainEqual({ at, text: warning });
});

test('fragments one byte too long for driver mode are no reason to warn of it', () => {
  const [first, ...more] = told('@cdktf/warn', { max_packet_size: '3448', egress_mtu: '3499' });
  expect(first?.text).toMatch(/: no datagram is long enough to be fragmented;/);
  expect(more).toEqual([]);
});

test('driver mode by name is no warning, but a note of what comes with it', () => {
  const settings = { xdp_mode: 'driver', max_packet_size: '3448' };
  expect(told('@cdktf/warn', settings)).toEqual([]);
  expect(told('@cdktf/info', settings)).toEqual([
    {
      at: 'launch-template',
      text: 'xdp_mode = "driver": both interfaces have an MTU of 3498, so longer mirrored frames are lost, and on ENA each attach and detach flaps their links; change it by deploying, which replaces the gateways, not in place',
    },
  ]);
  expect(told('@cdktf/info', { ...settings, enable_xdp: 'false' })).toEqual([]);
});

test('every warning begins with its keys and their values', () => {
  const wrong = UNWISE.map(([, , warning]) => warning).filter(
    (text) => !/^(?:[a-z0-9_]+ = .+?, )*[a-z0-9_]+ = .+?: /.test(text),
  );
  expect(wrong).toEqual([]);
});

test('an unwise configuration still synthesizes', () => {
  expect(Object.keys(synth({ ...WELL, aws_ipsec_vm_port: '31765' }).resource)).toContain('aws_autoscaling_group');
});
