// SPDX-License-Identifier: Apache-2.0
// What is unwise about settings that break no rule: a warning at the construct that it concerns. What is asked for by name, but
// has consequences to know, is a note. Every message begins with the keys and values it is about.
import { bandwidthOf } from './instance-types';
import type { GatewayConfig } from './keys';
import * as limits from './limits';
import { ASSUMED_GBPS, scalingTarget, smallestTakenFrame } from './rates';
import { inDriver, isDirect, maxInstances, type Rule, withValues } from './rules';
import { contains, overlap } from './values';

/** Constructs of the stack that a warning can stand at. */
export type ConstructId = 'fleet' | 'launch-template' | 'security' | 'mirror' | 'alarms' | 'scaling';

interface WarningRule extends Rule {
  readonly at: ConstructId;
  /** Not unwise, and asked for by name, but with consequences to know. */
  readonly isNote?: true;
}

/** Packets/s of the smallest datagrams that are taken which the type's baseline carries; undefined for unknown types. */
function lastingRate(c: GatewayConfig): number | undefined {
  const gbps = bandwidthOf(c.ec2_instance_type)?.baselineGbps;
  return gbps && limits.packetsPerSecond(gbps, smallestTakenFrame(c));
}

/** Why a rate does not last, in the words that both rates share; undefined where it does or nobody knows. */
function unreachable(packets: number, c: GatewayConfig): string | undefined {
  const most = lastingRate(c);
  if (most === undefined || packets <= most) return undefined;
  return (
    `${bandwidthOf(c.ec2_instance_type)?.baselineGbps} Gbit/s, the baseline of ${c.ec2_instance_type}, carry at most ${most} ` +
    `packets/s of ${smallestTakenFrame(c)} bytes, the smallest frame that is taken`
  );
}

/** Fragments that the longest datagram leaves in. */
function mostFragments(c: GatewayConfig): number {
  return limits.fragmentsOf(limits.longestDatagram(c.max_packet_size), c.egress_mtu);
}

/** Whether XDP begins in the driver unless an interface cannot: what an instance finds out, no synth can know. */
const perhapsInDriver = (c: GatewayConfig): boolean =>
  isDirect(c) && c.xdp_mode === 'auto' && c.max_packet_size <= limits.LARGEST_IN_DRIVER_MODE;

const IN_DRIVER_MODE =
  `both interfaces have an MTU of ${limits.DRIVER_MODE_MTU}, so longer mirrored frames are lost, and on ENA each attach and ` +
  'detach flaps their links; change it by deploying, which replaces the gateways, not in place';

// Blocks for documentation (RFC 5737): the examples of cdktf.json, which nobody answers at.
const DOCUMENTATION = ['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24'];
// What a VPC can use without a way to the internet (RFC 1918, RFC 6598).
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10'];
const WIDEST_PREFIX = 8;

const inside = (address: string, blocks: readonly string[]): boolean =>
  blocks.some((block) => contains(block, `${address}/32`));

function nested(cidrs: readonly string[]): string | undefined {
  for (const [index, inner] of cidrs.entries()) {
    const outer = cidrs.find((other, at) => at !== index && contains(other, inner));
    if (outer !== undefined) return `${outer} already covers ${inner}; leave that out`;
  }
  return undefined;
}

function wide(cidrs: readonly string[]): string | undefined {
  return cidrs.find((cidr) => Number(cidr.split('/')[1]) < WIDEST_PREFIX);
}

const noEffect = (key: string): string => `${key} has no effect while enable_xdp is false; set it back to its default`;

const WARNINGS: readonly WarningRule[] = [
  {
    at: 'launch-template',
    isNote: true,
    keys: ['xdp_mode'],
    problem: (c) => inDriver(c) && IN_DRIVER_MODE,
  },
  {
    at: 'launch-template',
    keys: ['xdp_mode', 'max_packet_size'],
    problem: (c) =>
      perhapsInDriver(c) &&
      `such datagrams fit driver mode, which gateways then take where they can: ${IN_DRIVER_MODE}; set xdp_mode to driver if ` +
        'that is meant, or to generic',
  },
  {
    at: 'launch-template',
    keys: ['enable_xdp', 'xdp_engine'],
    problem: (c) => !c.enable_xdp && c.xdp_engine !== 'auto' && noEffect('xdp_engine'),
  },
  {
    at: 'launch-template',
    keys: ['enable_xdp', 'xdp_mode'],
    problem: (c) => !c.enable_xdp && c.xdp_mode !== 'auto' && noEffect('xdp_mode'),
  },
  {
    at: 'launch-template',
    keys: ['enable_xdp', 'xdp_traffic_percent'],
    problem: (c) => !c.enable_xdp && c.xdp_traffic_percent !== 100 && noEffect('xdp_traffic_percent'),
  },
  {
    at: 'launch-template',
    keys: ['enable_xdp', 'xdp_traffic_percent'],
    problem: (c) =>
      c.enable_xdp &&
      c.xdp_traffic_percent === 0 &&
      'XDP is attached but takes nothing; for netfilter alone set enable_xdp to false',
  },
  {
    at: 'launch-template',
    keys: ['egress_mtu', 'min_packet_size'],
    problem: (c) =>
      c.egress_mtu < c.min_packet_size &&
      `datagrams of ${c.egress_mtu + 1} to ${c.min_packet_size} bytes keep DF and cannot leave; lower min_packet_size to ` +
        String(c.egress_mtu),
  },
  {
    at: 'launch-template',
    keys: ['egress_mtu', 'max_packet_size'],
    problem: (c) => {
      const longest = limits.longestDatagram(c.max_packet_size);
      const fragments = mostFragments(c);
      const cap = limits.EC2_FRAGMENTS_PER_SECOND;
      return (
        fragments > 1 &&
        `a datagram of ${longest} bytes leaves in ${fragments} fragments, of which EC2 lets ${cap} a second out of a network ` +
          `interface and drops the rest: ${Math.floor(cap / fragments)} such datagrams a second for each gateway, whatever its ` +
          `type; set egress_mtu to at least ${longest} if the way to the IPsec VM carries that, and fragment there ` +
          '(docs/ipsec-vm.md)'
      );
    },
  },
  {
    at: 'launch-template',
    isNote: true,
    keys: ['egress_mtu', 'max_packet_size'],
    problem: (c) =>
      mostFragments(c) === 1 &&
      `datagrams of up to ${limits.longestDatagram(c.max_packet_size)} bytes leave whole, without DF: the IPsec VM must accept ` +
        'that size and fragment before it encrypts, not after, or EC2 drops its fragments above ' +
        `${limits.EC2_FRAGMENTS_PER_SECOND} a second (docs/ipsec-vm.md)`,
  },
  {
    at: 'launch-template',
    keys: ['aws_ipsec_vm_ip'],
    problem: (c) =>
      inside(c.aws_ipsec_vm_ip, DOCUMENTATION) &&
      'that is an example address (RFC 5737), at which nobody answers; set the address of your IPsec VM',
  },
  {
    at: 'launch-template',
    keys: ['aws_ipsec_vm_ip'],
    problem: (c) =>
      !inside(c.aws_ipsec_vm_ip, [...DOCUMENTATION, ...PRIVATE]) &&
      'that is a public address, but datagrams keep their mirrored sources, and a VPC lets no foreign source out; take the ' +
        "IPsec VM's private address",
  },
  {
    at: 'launch-template',
    keys: ['egress_cidrs', 'aws_ipsec_vm_ip'],
    problem: (c) =>
      inside(c.aws_ipsec_vm_ip, c.egress_cidrs) &&
      'the IPsec VM has a route of its own; egress_cidrs is for further prefixes, so leave this one out if it is not needed',
  },
  { at: 'launch-template', keys: ['egress_cidrs'], problem: (c) => nested(c.egress_cidrs) },
  {
    at: 'launch-template',
    keys: ['egress_cidrs'],
    problem: (c) => {
      const cidr = wide(c.egress_cidrs);
      return (
        cidr && `${cidr} draws most of what a gateway sends, AWS APIs included, to the second interface; narrow it`
      );
    },
  },
  {
    at: 'launch-template',
    keys: ['egress_cidrs', 'mirror_source_cidrs'],
    problem: (c) => {
      const both = c.egress_cidrs.find((route) => c.mirror_source_cidrs.some((cidr) => overlap(route, cidr)));
      return (
        both &&
        `answers to health checks from ${both} would leave by the second interface and be lost; narrow egress_cidrs`
      );
    },
  },
  {
    at: 'mirror',
    keys: ['aws_ipsec_vm_port', 'target_port'],
    problem: (c) =>
      c.aws_ipsec_vm_port === c.target_port &&
      'a redirected datagram looks like one to mirror: if the IPsec VM is a mirror source, each copy makes another, without ' +
        'end; take another aws_ipsec_vm_port',
  },
  {
    at: 'mirror',
    keys: ['target_port'],
    problem: (c) =>
      c.target_port === limits.VXLAN_PORT &&
      'that is the port of VXLAN: mirrored would be other mirror sessions; take the port of the datagrams themselves',
  },
  { at: 'mirror', keys: ['mirror_filter_cidrs'], problem: (c) => nested(c.mirror_filter_cidrs) },
  { at: 'security', keys: ['mirror_source_cidrs'], problem: (c) => nested(c.mirror_source_cidrs) },
  { at: 'security', keys: ['management_cidrs'], problem: (c) => nested(c.management_cidrs) },
  {
    at: 'security',
    keys: ['mirror_source_cidrs'],
    problem: (c) => {
      const cidr = wide(c.mirror_source_cidrs);
      return (
        cidr && `${cidr} lets more than 16 million addresses send to port 4789; name the networks of the mirror sources`
      );
    },
  },
  {
    at: 'security',
    keys: ['management_cidrs'],
    problem: (c) => {
      const cidr = wide(c.management_cidrs);
      return (
        cidr && `${cidr} lets gateways reach most of the internet on ports 80 and 443; name the mirrors and endpoints`
      );
    },
  },
  {
    at: 'security',
    keys: ['base_ami', 'management_cidrs'],
    problem: (c) =>
      !c.base_ami &&
      c.management_cidrs.length === 0 &&
      "Debian's image downloads packages when it starts, and gateways reach only the VPC and S3; set management_cidrs to " +
        'where a package mirror and the AWS APIs are, or base_ami to an image that has the packages',
  },
  {
    at: 'fleet',
    keys: ['min_instances', 'private_subnet_ids'],
    problem: (c) =>
      c.min_instances > 1 &&
      c.private_subnet_ids.length === 1 &&
      'all gateways are in one zone and fail with it; give a subnet in another zone',
  },
  {
    at: 'fleet',
    keys: ['min_instances', 'mirroring_instance_count'],
    problem: (c) =>
      c.min_instances === maxInstances(c) &&
      'the fleet cannot grow; raise mirroring_instance_count to leave room for load and for failures',
  },
  {
    at: 'alarms',
    keys: ['pps_alarm_threshold', 'ec2_instance_type', 'min_packet_size'],
    problem: (c) => {
      const why = c.enable_xdp && unreachable(c.pps_alarm_threshold, c);
      if (!why) return undefined;
      const target = scalingTarget(c);
      const reachable = lastingRate(c) ?? Infinity;
      const remedy = target <= reachable ? `below ${target}, the scaling target` : `to at most ${reachable}`;
      return `${why}: with large datagrams alone the alarm always fires; lower pps_alarm_threshold ${remedy}`;
    },
  },
  {
    at: 'scaling',
    keys: ['pps_scaling_target', 'pps_alarm_threshold'],
    problem: (c) =>
      c.enable_xdp &&
      scalingTarget(c) <= c.pps_alarm_threshold &&
      // Said already at the alarm, with the same remedy.
      !unreachable(c.pps_alarm_threshold, c) &&
      `a fleet that grows holds each gateway at the target of ${scalingTarget(c)}, where the alarm fires; lower ` +
        'pps_alarm_threshold below that',
  },
  {
    at: 'scaling',
    keys: ['pps_scaling_target', 'ec2_instance_type', 'min_packet_size'],
    problem: (c) => {
      const why = unreachable(scalingTarget(c), c);
      const byDefault = scalingTarget({ ...c, pps_scaling_target: undefined });
      return (
        why &&
        `${why}: with large datagrams alone no gateway stays above it, and the fleet does not grow by it; lower ` +
          `pps_scaling_target, or leave it unset for ${byDefault}`
      );
    },
  },
  {
    at: 'scaling',
    keys: ['pps_scaling_target', 'ec2_instance_type'],
    problem: (c) =>
      c.pps_scaling_target === undefined &&
      bandwidthOf(c.ec2_instance_type) === undefined &&
      `constructs/config/instances.json lacks the baseline bandwidth of that type, so the target is ${scalingTarget(c)}, as for ` +
        `${ASSUMED_GBPS} Gbit/s; set pps_scaling_target to what such a gateway should carry`,
  },
];

/** What to tell about a configuration, and where in the stack it matters: a warning of what is unwise, or a note. */
export interface Warning {
  readonly at: ConstructId;
  readonly text: string;
  readonly isNote: boolean;
}

/** Returns what to tell about a configuration that breaks no rule. */
export function warningsFor(config: GatewayConfig): readonly Warning[] {
  return WARNINGS.flatMap(({ at, keys, problem, isNote = false }) => {
    const text = problem(config);
    return text ? [{ at, text: withValues(config, keys, text), isNote }] : [];
  });
}
