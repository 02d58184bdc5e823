// SPDX-License-Identifier: Apache-2.0
// Limits that others set and several of our settings meet: EC2, VPC traffic mirroring and the ENA driver. Sizes in bytes.

/** UDP port of VXLAN (RFC 7348), and so of VPC traffic mirroring. */
export const VXLAN_PORT = 4789;

const ETHERNET = 14;
const IPV4 = 20;
const UDP = 8;
const VXLAN = 8;

/** What a mirror session to a load balancer copies of a packet at most, from its Ethernet header on (CreateTrafficMirrorSession). */
export const MIRROR_PACKET_LENGTH = 8500;

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

/**
 * Largest MTU of an ENA interface with XDP in its driver (Linux, drivers/net/ethernet/amazon/ena/ena_xdp.h, 4 KiB pages), and
 * so the one that both interfaces of a gateway have in driver mode.
 */
export const DRIVER_MODE_MTU = 3498;

/** IP total length of the largest mirrored datagram that arrives in one frame of such an interface. */
export const LARGEST_IN_DRIVER_MODE = DRIVER_MODE_MTU - IPV4 - UDP - VXLAN - ETHERNET;

/** What a mirrored datagram is on the wire, given its IP total length. */
export function mirroredFrame(totalLength: number): number {
  return ETHERNET + IPV4 + UDP + VXLAN + ETHERNET + totalLength;
}

/** IP total length of the smallest UDP datagram. */
export const SMALLEST_DATAGRAM = IPV4 + UDP;

/**
 * IP fragments/s that EC2 lets out of a network interface of any instance type; it drops the rest and counts them as
 * pps_allowance_exceeded. EC2 user guide, "Nitro system considerations for performance tuning"
 * (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ena-nitro-perf.html); github.com/amzn/amzn-drivers,
 * kernel/linux/ena/ENA_Linux_Best_Practices.rst. The fragment bypass of ENA's driver lifts it, where the driver has one and it
 * is on.
 */
export const EC2_FRAGMENTS_PER_SECOND = 1024;

/** Rules a mirror filter can have (VPC traffic mirroring, quotas); each network needs one for either direction. */
export const FILTER_CIDRS = 10 / 2;

/** Packets/s that a bandwidth carries at most, given the size of the frames. */
export function packetsPerSecond(gbps: number, frame: number): number {
  return Math.floor((gbps * 1e9) / (8 * frame));
}
