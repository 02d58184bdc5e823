// SPDX-License-Identifier: Apache-2.0
// Limits that others set and several of our settings meet: EC2, VPC traffic mirroring and the ENA driver. Sizes in bytes. What an
// instance must know as well is in userdata/settings.json, with its source.
import { limits } from '../../userdata/settings.json';

/** UDP port of VXLAN (RFC 7348), and so of VPC traffic mirroring. */
export const VXLAN_PORT = 4789;

const IPV4 = 20;
const UDP = 8;
const ETHERNET = limits.ethernet_header.value;

/** What a mirror session to a load balancer copies of a packet at most, from its Ethernet header on. */
export const MIRROR_PACKET_LENGTH = limits.mirror_packet_length.value;

/** IP total length of the largest datagram that a session copies whole; a longer one arrives cut. */
export const LARGEST_MIRRORED = MIRROR_PACKET_LENGTH - ETHERNET;

/** IP total length of the longest datagram that leaves a gateway, given `max_packet_size`. */
export function longestDatagram(maxPacketSize: number): number {
  return Math.min(maxPacketSize, LARGEST_MIRRORED);
}

/** Fragments that a datagram leaves in, by its IP total length: all but the last carry a multiple of 8 bytes (RFC 791). */
export function fragmentsOf(totalLength: number, mtu: number, headerLength = IPV4): number {
  const payload = Math.floor((mtu - headerLength) / 8) * 8;
  return 1 + Math.ceil(Math.max(0, totalLength - mtu) / payload);
}

/** MTU of both interfaces of a gateway in driver mode. */
export const DRIVER_MODE_MTU = limits.driver_mode_mtu.value;

/** IP total length of the largest mirrored datagram that arrives in one frame of such an interface. */
export const LARGEST_IN_DRIVER_MODE = DRIVER_MODE_MTU - limits.mirror_headers.value;

/** What a mirrored datagram is on the wire, given its IP total length. */
export function mirroredFrame(totalLength: number): number {
  return ETHERNET + limits.mirror_headers.value + totalLength;
}

/** IP total length of the smallest UDP datagram. */
export const SMALLEST_DATAGRAM = IPV4 + UDP;

/** IP fragments/s that EC2 lets out of a network interface. */
export const EC2_FRAGMENTS_PER_SECOND = limits.ec2_fragments_per_second.value;

/** Rules a mirror filter can have (VPC traffic mirroring, quotas); each network needs one for either direction. */
export const FILTER_CIDRS = 10 / 2;

/** Packets/s that a bandwidth carries at most, given the size of the frames. */
export function packetsPerSecond(gbps: number, frame: number): number {
  return Math.floor((gbps * 1e9) / (8 * frame));
}
