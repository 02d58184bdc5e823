// SPDX-License-Identifier: Apache-2.0
// Rules between settings that are each right by themselves. What breaks one stops the synth; what is merely unwise is in
// warnings.ts. Every message begins with the keys and values it is about.
import type { ConfigKey, GatewayConfig } from './keys';
import { contains, show } from './values';
import { partitionOf } from '../iam';
import { bandwidthOf } from './instance-types';
import * as limits from './limits';
import { baseName, LONGEST_NAME } from './names';

export interface Rule {
  readonly keys: readonly ConfigKey[];
  /** What is wrong with these values together. */
  readonly problem: (config: GatewayConfig) => string | undefined | false;
}

/** Largest size of the fleet: room for a replacement beside a single gateway. */
export function maxInstances(config: Pick<GatewayConfig, 'mirroring_instance_count'>): number {
  return Math.max(2, config.mirroring_instance_count);
}

/** The line that a person reads. */
export function withValues(config: Partial<GatewayConfig>, keys: readonly ConfigKey[], problem: string): string {
  return `${keys.map((key) => `${key} = ${show(config[key] ?? '')}`).join(', ')}: ${problem}`;
}

/** Why a rate is out of reach even in a burst of the smallest datagrams. */
function impossibleRate(packets: number, instanceType: string, what: string): string | undefined {
  const gbps = bandwidthOf(instanceType)?.burstGbps;
  if (gbps === undefined) return undefined;
  const frame = limits.mirroredFrame(limits.SMALLEST_DATAGRAM);
  const most = limits.packetsPerSecond(gbps, frame);
  if (packets <= most) return undefined;
  return (
    `${gbps} Gbit/s, all that ${instanceType} ever has, carry at most ${most} packets/s of ${frame} bytes, the smallest frame ` +
    `of a mirrored datagram, so ${what} is out of reach; take a lower one or a larger type`
  );
}

/** Whether the direct engine may run, and its modes matter. Nothing about them may stand in the way of enable_xdp=false. */
export const isDirect = (c: GatewayConfig): boolean => c.enable_xdp && c.xdp_engine !== 'bridge';

/** Whether XDP is asked to run in the driver. */
export const inDriver = (c: GatewayConfig): boolean => isDirect(c) && c.xdp_mode === 'driver';

export const RULES: readonly Rule[] = [
  {
    keys: ['min_packet_size', 'max_packet_size'],
    problem: (c) =>
      c.min_packet_size >= c.max_packet_size &&
      'min_packet_size must be less than max_packet_size, or no datagram is ever taken',
  },
  {
    keys: ['min_packet_size', 'max_packet_size'],
    problem: (c) =>
      c.min_packet_size < c.max_packet_size &&
      c.min_packet_size >= limits.LARGEST_MIRRORED &&
      `a mirror session to a load balancer copies ${limits.MIRROR_PACKET_LENGTH} bytes of a packet, which is a datagram of ` +
        `${limits.LARGEST_MIRRORED}: longer ones arrive cut and none is ever taken; set it below ${limits.LARGEST_MIRRORED}`,
  },
  {
    keys: ['min_instances', 'mirroring_instance_count'],
    problem: (c) =>
      c.min_instances > maxInstances(c) &&
      `min_instances must be at most ${maxInstances(c)}, the larger of 2 and mirroring_instance_count`,
  },
  {
    keys: ['xdp_engine', 'xdp_mode'],
    problem: (c) =>
      c.enable_xdp &&
      c.xdp_engine === 'bridge' &&
      c.xdp_mode === 'driver' &&
      'a bridge refuses driver mode; take xdp_engine auto or direct, or xdp_mode auto or generic',
  },
  {
    keys: ['xdp_mode', 'max_packet_size'],
    problem: (c) =>
      inDriver(c) &&
      c.max_packet_size > limits.LARGEST_IN_DRIVER_MODE &&
      `driver mode on ENA takes an MTU of at most ${limits.DRIVER_MODE_MTU}, in which a mirrored datagram of ` +
        `${limits.LARGEST_IN_DRIVER_MODE} bytes fits; set max_packet_size to at most that, or xdp_mode to auto or generic`,
  },
  {
    keys: ['pps_alarm_threshold', 'ec2_instance_type'],
    problem: (c) => c.enable_xdp && impossibleRate(c.pps_alarm_threshold, c.ec2_instance_type, 'that threshold'),
  },
  {
    keys: ['pps_scaling_target', 'ec2_instance_type'],
    problem: (c) =>
      c.pps_scaling_target !== undefined && impossibleRate(c.pps_scaling_target, c.ec2_instance_type, 'that target'),
  },
  {
    keys: ['secondary_subnet_ids', 'private_subnet_ids'],
    problem: (c) => {
      const [second, first] = [c.secondary_subnet_ids.length, c.private_subnet_ids.length];
      if (second === 0 || second === first) return undefined;
      return `each zone with gateways needs one subnet for second interfaces: give ${first}, or none for the gateways' own`;
    },
  },
  {
    keys: ['egress_cidrs', 'management_cidrs'],
    problem: (c) => {
      const cut = c.management_cidrs.find((cidr) => c.egress_cidrs.some((route) => contains(route, cidr)));
      return (
        cut &&
        `what gateways send to ${cut} would leave by the second interface, which lets out datagrams to the IPsec VM only; ` +
          'take it out of one of them'
      );
    },
  },
  {
    keys: ['name_prefix', 'environment'],
    problem: (c) =>
      baseName(c).length > LONGEST_NAME &&
      `"${baseName(c)}" has ${baseName(c).length} characters, and a load balancer's name leaves room for ${LONGEST_NAME}`,
  },
  {
    keys: ['state_key', 'state_bucket'],
    problem: (c) =>
      c.state_key && !c.state_bucket && 'state_key has no effect without state_bucket; set both or neither',
  },
  {
    keys: ['state_region', 'state_bucket'],
    problem: (c) =>
      c.state_region && !c.state_bucket && 'state_region has no effect without state_bucket; set both or neither',
  },
  {
    keys: ['state_region', 'region'],
    problem: (c) =>
      c.state_region &&
      partitionOf(c.state_region) !== partitionOf(c.region) &&
      `they belong to different partitions, ${partitionOf(c.state_region)} and ${partitionOf(c.region)}, and no ` +
        'credentials are good for both; keep the state in the partition of region',
  },
  {
    keys: ['alarm_topic_arn', 'region'],
    problem: (c) =>
      c.alarm_topic_arn &&
      c.alarm_topic_arn.split(':')[3] !== c.region &&
      'an alarm can only notify a topic of its own region',
  },
  {
    keys: ['alarm_topic_arn', 'region'],
    problem: (c) =>
      c.alarm_topic_arn?.split(':')[3] === c.region &&
      c.alarm_topic_arn.split(':')[1] !== partitionOf(c.region) &&
      `a topic of that region is in the partition ${partitionOf(c.region)}; begin with arn:${partitionOf(c.region)}:`,
  },
];
