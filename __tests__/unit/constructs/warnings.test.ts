// SPDX-License-Identifier: Apache-2.0
// What works but is unwise: the warning that a person reads, at the construct that it is about; what was asked for by name
// and has consequences: a note; and silence when all is well.
import { loadConfig } from '../../../constructs/config/load';
import { warningsFor } from '../../../constructs/config/warnings';
import { checkedInContext } from '../../../constructs/config/context';
import { newStack, synth } from './synthesized';
import { REQUIRED } from './wrong-values';

/** A configuration about which there is nothing to warn of. */
const WELL = { base_ami: 'ami-0123456789abcdef0', aws_ipsec_vm_ip: '10.0.1.95', pps_alarm_threshold: '100000' };

const inFragments = (mtu: number, largest: number, bytes: number, fragments: number, datagrams: number) =>
  `egress_mtu = ${mtu}, max_packet_size = ${largest}: a datagram of ${bytes} bytes leaves in ${fragments} fragments, of which EC2 lets 1024 a second out of a network interface and drops the rest: ${datagrams} such datagrams a second for each gateway, whatever its type; set egress_mtu to at least ${bytes} if the way to the IPsec VM carries that, and fragment there (docs/ipsec-vm.md)`;

const whole = (mtu: number, largest: number, bytes: number) =>
  `egress_mtu = ${mtu}, max_packet_size = ${largest}: datagrams of up to ${bytes} bytes leave whole, without DF: the IPsec VM must accept that size and fragment before it encrypts, not after, or EC2 drops its fragments above 1024 a second (docs/ipsec-vm.md)`;

const UNWISE: readonly (readonly [settings: Record<string, string>, at: string, warning: string])[] = [
  ...['auto', 'direct'].map(
    (engine) =>
      [
        { xdp_engine: engine, max_packet_size: '3448' },
        'launch-template',
        'xdp_mode = "auto", max_packet_size = 3448: such datagrams fit driver mode, which gateways then take where they can: both interfaces have an MTU of 3498, so longer mirrored frames are lost, and on ENA each attach and detach flaps their links; change it by deploying, which replaces the gateways, not in place; set xdp_mode to driver if that is meant, or to generic',
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
  [{ egress_mtu: '1400' }, 'launch-template', inFragments(1400, 9000, 8486, 7, 146)],
  [{ egress_mtu: '576' }, 'launch-template', inFragments(576, 9000, 8486, 16, 64)],
  [{ egress_mtu: '8485' }, 'launch-template', inFragments(8485, 9000, 8486, 2, 512)],
  [{ egress_mtu: '1400', max_packet_size: '9001' }, 'launch-template', inFragments(1400, 9001, 8486, 7, 146)],
  // What the first fragment of 1400 carries is rounded down to 1376 bytes: 2776 is the longest in two, 2777 the shortest in three.
  [{ egress_mtu: '1400', max_packet_size: '2776' }, 'launch-template', inFragments(1400, 2776, 2776, 2, 512)],
  [{ egress_mtu: '1400', max_packet_size: '2777' }, 'launch-template', inFragments(1400, 2777, 2777, 3, 341)],
  [{ egress_mtu: '1400', max_packet_size: '1401' }, 'launch-template', inFragments(1400, 1401, 1401, 2, 512)],
  [{ egress_mtu: '1400', enable_xdp: 'false' }, 'launch-template', inFragments(1400, 9000, 8486, 7, 146)],
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
    { pps_scaling_target: '100000' },
    'scaling',
    'pps_scaling_target = 100000, pps_alarm_threshold = 100000: a fleet that grows holds each gateway at the target of 100000, where the alarm fires; lower pps_alarm_threshold below that',
  ],
  [
    { pps_scaling_target: '60000', pps_alarm_threshold: '200000' },
    'scaling',
    'pps_scaling_target = 60000, pps_alarm_threshold = 200000: a fleet that grows holds each gateway at the target of 60000, where the alarm fires; lower pps_alarm_threshold below that',
  ],
  [
    { pps_alarm_threshold: '179180' },
    'scaling',
    'pps_scaling_target = "", pps_alarm_threshold = 179180: a fleet that grows holds each gateway at the target of 179180, where the alarm fires; lower pps_alarm_threshold below that',
  ],
  [
    { pps_scaling_target: '255973' },
    'scaling',
    'pps_scaling_target = 255973, ec2_instance_type = "c5n.large", min_packet_size = 1400: 3 Gbit/s, the baseline of c5n.large, carry at most 255972 packets/s of 1465 bytes, the smallest frame that is taken: with large datagrams alone no gateway stays above it, and the fleet does not grow by it; lower pps_scaling_target, or leave it unset for 179180',
  ],
  [
    { pps_scaling_target: '3000000', enable_xdp: 'false' },
    'scaling',
    'pps_scaling_target = 3000000, ec2_instance_type = "c5n.large", min_packet_size = 1400: 3 Gbit/s, the baseline of c5n.large, carry at most 255972 packets/s of 1465 bytes, the smallest frame that is taken: with large datagrams alone no gateway stays above it, and the fleet does not grow by it; lower pps_scaling_target, or leave it unset for 179180',
  ],
  [
    { ec2_instance_type: 'c7i.large' },
    'scaling',
    'pps_scaling_target = "", ec2_instance_type = "c7i.large": constructs/config/instances.json lacks the baseline bandwidth of that type, so the target is 44795, as for 0.75 Gbit/s; set pps_scaling_target to what such a gateway should carry',
  ],
  [
    { pps_alarm_threshold: '255973' },
    'alarms',
    'pps_alarm_threshold = 255973, ec2_instance_type = "c5n.large", min_packet_size = 1400: 3 Gbit/s, the baseline of c5n.large, carry at most 255972 packets/s of 1465 bytes, the smallest frame that is taken: with large datagrams alone the alarm always fires; lower pps_alarm_threshold below 179180, the scaling target',
  ],
  [
    { pps_alarm_threshold: '1000000' },
    'alarms',
    'pps_alarm_threshold = 1000000, ec2_instance_type = "c5n.large", min_packet_size = 1400: 3 Gbit/s, the baseline of c5n.large, carry at most 255972 packets/s of 1465 bytes, the smallest frame that is taken: with large datagrams alone the alarm always fires; lower pps_alarm_threshold below 179180, the scaling target',
  ],
  [
    { ec2_instance_type: 'm5n.xlarge', pps_alarm_threshold: '400000', pps_scaling_target: '500000' },
    'alarms',
    'pps_alarm_threshold = 400000, ec2_instance_type = "m5n.xlarge", min_packet_size = 1400: 4.1 Gbit/s, the baseline of m5n.xlarge, carry at most 349829 packets/s of 1465 bytes, the smallest frame that is taken: with large datagrams alone the alarm always fires; lower pps_alarm_threshold to at most 349829',
  ],
];

type Kind = 'warning' | 'note';

/** What the settings alone give reason to say. */
function told(kind: Kind, settings: Record<string, string>): { at: string; text: string }[] {
  return warningsFor(loadConfig({ ...REQUIRED, ...WELL, ...settings }, {}))
    .filter(({ isNote }) => isNote === (kind === 'note'))
    .map(({ at, text }) => ({ at, text }));
}

/** What a synthesized stack says, the constructs' own warnings included. */
function annotated(kind: Kind, settings: Record<string, string>): { at: string; text: string }[] {
  const stack = newStack({ ...WELL, ...settings });
  const type = kind === 'note' ? '@cdktf/info' : '@cdktf/warn';
  return stack.node
    .findAll()
    .flatMap(({ node }) =>
      node.metadata
        .filter((entry) => entry.type === type)
        .map(({ data }) => ({ at: node.path.split('/').slice(1).join('/'), text: String(data) })),
    );
}

const warned = (settings: Record<string, string>) => told('warning', settings).map(({ text }) => text);
const noted = (settings: Record<string, string>) => told('note', settings);

test.each([
  ['the XDP engine with everything pinned', {}],
  ['the NFQUEUE daemon', { enable_xdp: 'false' }],
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
  expect(warned(settings)).toEqual([]);
});

test.each(UNWISE)('%j is warned about at %s', (settings, at, warning) => {
  expect(told('warning', settings)).toContainEqual({ at, text: warning });
});

test.each([
  ['by default', {}, whole(9001, 9000, 8486)],
  ['with the largest sizes that EC2 has', { max_packet_size: '9001' }, whole(9001, 9001, 8486)],
  ['over a transit gateway, which carries all that is mirrored', { egress_mtu: '8500' }, whole(8500, 9000, 8486)],
  ['where the longest just fits', { egress_mtu: '8486' }, whole(8486, 9000, 8486)],
  [
    'where max_packet_size keeps them short',
    { max_packet_size: '1500', egress_mtu: '1500', xdp_mode: 'generic' },
    whole(1500, 1500, 1500),
  ],
  ['of netfilter alone', { enable_xdp: 'false' }, whole(9001, 9000, 8486)],
])('datagrams that leave whole, %s, are no warning, but a note of what the IPsec VM must do', (_, settings, note) => {
  expect(warned(settings)).toEqual([]);
  expect(noted(settings)).toEqual([{ at: 'launch-template', text: note }]);
});

test('datagrams that leave in fragments are warned about once, and then there is no note', () => {
  expect(warned({ egress_mtu: '1400' })).toEqual([inFragments(1400, 9000, 8486, 7, 146)]);
  expect(noted({ egress_mtu: '1400' })).toEqual([]);
});

test('an MTU that takes nothing away from driver mode hides no warning of it', () => {
  const [first, ...more] = warned({ max_packet_size: '3448', egress_mtu: '9001' });
  expect(first).toMatch(/: such datagrams fit driver mode,/);
  expect(more).toEqual([]);
});

test('a threshold out of reach has one warning, not a second for the scaling target', () => {
  expect(warned({ pps_alarm_threshold: '1000000' })).toHaveLength(1);
  expect(warned({ pps_alarm_threshold: '1000000', enable_xdp: 'false' })).toEqual([]);
});

test.each([
  ['the highest threshold below the target', { pps_alarm_threshold: '179179' }],
  ['the highest target that lasts', { pps_scaling_target: '255972' }],
  ['the highest threshold that lasts', { pps_alarm_threshold: '255971', pps_scaling_target: '255972' }],
  [
    'the threshold of the report on a type that reaches it',
    {
      ec2_instance_type: 'm5n.8xlarge',
      pps_alarm_threshold: '1000000',
    },
  ],
  [
    'a target for a type whose bandwidth nobody looked up',
    {
      ec2_instance_type: 'c7i.large',
      pps_scaling_target: '200000',
    },
  ],
])('%s has no warning about rates', (_, settings) => {
  expect(warned(settings).filter((text) => text.startsWith('pps_'))).toEqual([]);
});

test('a fresh clone hears five things, each of them once', () => {
  const fresh = Object.entries(checkedInContext()).map(([key, value]) => [key, String(value)]);
  const settings = Object.fromEntries(fresh) as Record<string, string>;
  const keys = (kind: Kind) =>
    annotated(kind, settings).map(({ at, text }) => `${at}: ${text.split(/ = | is not set/)[0]}`);
  expect(keys('warning').sort()).toEqual([
    'alarms: pps_alarm_threshold',
    'launch-template/image: base_ami',
    'launch-template: aws_ipsec_vm_ip',
    'security: base_ami',
  ]);
  expect(keys('note')).toEqual(['launch-template: egress_mtu']);
});

test('all that is told stands at its construct in the stack, warnings as warnings and notes as notes', () => {
  const settings = {
    aws_ipsec_vm_port: '31765',
    mirror_source_cidrs: '16.0.0.0/4',
    min_instances: '2',
    xdp_mode: 'driver',
    max_packet_size: '3448',
    egress_mtu: '1300',
    pps_scaling_target: '300000',
    pps_alarm_threshold: '1000000',
  };
  const warnings = told('warning', settings);
  const places = ['launch-template', 'launch-template', 'mirror', 'security', 'fleet', 'fleet', 'alarms', 'scaling'];
  expect(warnings.map(({ at }) => at)).toEqual(places);
  const byText = (one: { text: string }, other: { text: string }) => (one.text < other.text ? -1 : 1);
  expect(annotated('warning', settings).sort(byText)).toEqual(warnings.sort(byText));
  expect(annotated('note', settings)).toEqual(noted(settings));
});

test('driver mode by name is no warning, but a note of what comes with it', () => {
  const settings = { xdp_mode: 'driver', max_packet_size: '3448' };
  const wholeNote = { at: 'launch-template', text: whole(9001, 3448, 3448) };
  expect(warned(settings)).toEqual([]);
  expect(noted(settings)).toEqual([
    {
      at: 'launch-template',
      text: 'xdp_mode = "driver": both interfaces have an MTU of 3498, so longer mirrored frames are lost, and on ENA each attach and detach flaps their links; change it by deploying, which replaces the gateways, not in place',
    },
    wholeNote,
  ]);
  expect(noted({ ...settings, enable_xdp: 'false' })).toEqual([wholeNote]);
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
