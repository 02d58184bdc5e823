// SPDX-License-Identifier: Apache-2.0
// Packets/s that a gateway's instance type can carry, and the scaling target that follows. Judged by the bandwidth that lasts:
// a burst ends when network I/O credits do (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-network-bandwidth.html).
// The packets/s that AWS allows an instance may be fewer, but are not published.
import { bandwidthOf } from './instance-types';
import { mirroredFrame, packetsPerSecond } from './limits';

/** Share of what the baseline carries at which the fleet grows, unless `pps_scaling_target` says otherwise. */
export const SCALING_SHARE = 0.7;

/** What stands for the baseline of a type that instances.json lacks: that of c5.large, m5.large and other small types. */
export const ASSUMED_GBPS = 0.75;

/** The settings that rates follow from. */
interface RateSettings {
  readonly ec2_instance_type: string;
  readonly min_packet_size: number;
  readonly pps_scaling_target?: number;
}

/** What the smallest mirrored datagram that is taken is on the wire, in bytes. */
export function smallestTakenFrame({ min_packet_size }: Pick<RateSettings, 'min_packet_size'>): number {
  return mirroredFrame(min_packet_size + 1);
}

/** The configured target, in packets/s per gateway, or the one that follows from the instance type. */
export function scalingTarget(config: RateSettings): number {
  if (config.pps_scaling_target !== undefined) return config.pps_scaling_target;
  const gbps = bandwidthOf(config.ec2_instance_type)?.baselineGbps ?? ASSUMED_GBPS;
  return Math.floor(SCALING_SHARE * packetsPerSecond(gbps, smallestTakenFrame(config)));
}

/**
 * Bytes/s of mirrored IP packets at which the fleet grows: the same share of the type's baseline. What is around a datagram on
 * the wire is left out, which the share has room for from 200 bytes up.
 */
export function scalingBytes({ ec2_instance_type }: Pick<RateSettings, 'ec2_instance_type'>): number {
  const gbps = bandwidthOf(ec2_instance_type)?.baselineGbps ?? ASSUMED_GBPS;
  return Math.round((SCALING_SHARE * gbps * 1e9) / 8);
}
