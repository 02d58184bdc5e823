// SPDX-License-Identifier: Apache-2.0
// What a mirror may carry beside the datagrams a gateway forwards: other protocols of the same network, complete and with
// right checksums, so that a host which listened to them would react.
import { deterministicBytes, ethernet, ETHERTYPE, FOREIGN_MACS, internetChecksum, ipv4Bytes, macBytes } from './packet';
import { type Macs, Packet, PROTOCOL, transportChecksum } from './packet';

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const ALL_NODES = '33:33:00:00:00:01';

interface Between {
  readonly from: string;
  readonly to: string;
}

/** A TCP SYN to any port: an open one answers, a closed one resets. */
export function tcpSyn({ from, to }: Between, toPort: number, length = 40): Packet {
  const segment = Buffer.concat([Buffer.alloc(20), deterministicBytes(length - 40, toPort)]);
  segment.writeUInt16BE(40000, 0);
  segment.writeUInt16BE(toPort, 2);
  segment.writeUInt8(0x50, 12);
  segment.writeUInt8(0x02, 13);
  segment.writeUInt16BE(0xffff, 14);
  segment.writeUInt16BE(transportChecksum(from, to, segment, PROTOCOL.tcp), 16);
  return Packet.ip({ from, to, protocol: PROTOCOL.tcp, transport: segment });
}

/** An ICMP message, its checksum right: echo request (default), redirect and so on. */
export function icmp({ from, to }: Between, type = 8, code = 0, body: Buffer = Buffer.alloc(32)): Packet {
  const message = Buffer.concat([Buffer.from([type, code, 0, 0]), body]);
  message.writeUInt16BE(internetChecksum(message), 2);
  return Packet.ip({ from, to, protocol: PROTOCOL.icmp, transport: message });
}

/** An ICMP redirect: "for that destination use this router". */
export function icmpRedirect(between: Between, router: string, destination: string): Packet {
  const quoted = Packet.udp({ from: `${between.to}:8079`, to: `${destination}:9` })
    .ipPacket()
    .subarray(0, 28);
  return icmp(between, 5, 1, Buffer.concat([ipv4Bytes(router), quoted]));
}

/** An IGMP general query, which asks every listener to answer. */
export function igmpQuery(from: string): Packet {
  const message = Buffer.from([0x11, 1, 0, 0, 0, 0, 0, 0]);
  message.writeUInt16BE(internetChecksum(message), 2);
  const to = '224.0.0.1';
  return Packet.ip({ from, to, protocol: PROTOCOL.igmp, transport: message })
    .ttl(1)
    .macs(FOREIGN_MACS.source, '01:00:5e:00:00:01');
}

/** An ARP request (default) or reply that claims an address for a MAC. */
export function arp({ from, to }: Between, { mac = FOREIGN_MACS.source, reply = false } = {}): Buffer {
  const payload = Buffer.concat([
    Buffer.from([0, 1, 8, 0, 6, 4, 0, reply ? 2 : 1]),
    macBytes(mac),
    ipv4Bytes(from),
    macBytes(reply ? BROADCAST : '00:00:00:00:00:00'),
    ipv4Bytes(to),
  ]);
  return ethernet({ source: mac, destination: BROADCAST, type: ETHERTYPE.arp, payload });
}

/** A DHCP offer of an address, to everybody or (unicast) to one MAC. */
export function dhcpOffer(server: string, offered: string, destination = BROADCAST): Buffer {
  const message = Buffer.alloc(240);
  message.set([2, 1, 6, 0, 0x12, 0x34, 0x56, 0x78]);
  ipv4Bytes(offered).copy(message, 16);
  ipv4Bytes(server).copy(message, 20);
  macBytes(FOREIGN_MACS.destination).copy(message, 28);
  message.set([0x63, 0x82, 0x53, 0x63], 236);
  const options = Buffer.from([53, 1, 2, 1, 4, 255, 255, 255, 0, 3, 4, ...ipv4Bytes(server), 255]);
  const datagram = Packet.udp({ from: `${server}:67`, to: '255.255.255.255:68' }).payload(
    Buffer.concat([message, options]),
  );
  return datagram.macs(FOREIGN_MACS.source, destination).build();
}

/** An IPv6 UDP datagram to a port. */
export function ipv6Udp(from: string, to: string, toPort: number, length = 1400): Buffer {
  const datagram = Buffer.concat([Buffer.alloc(8), deterministicBytes(length, toPort)]);
  datagram.writeUInt16BE(40000, 0);
  datagram.writeUInt16BE(toPort, 2);
  datagram.writeUInt16BE(datagram.length, 4);
  datagram.writeUInt16BE(ipv6Checksum(from, to, PROTOCOL.udp, datagram) || 0xffff, 6);
  return ipv6(FOREIGN_MACS, from, to, PROTOCOL.udp, datagram);
}

/** A router advertisement with a prefix for autoconfiguration, an MTU and a long lifetime. */
export function routerAdvertisement(router: string, prefix: string): Buffer {
  const lifetime = Buffer.from([0, 1, 0x51, 0x80]);
  const message = Buffer.concat([
    Buffer.from([134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0]),
    Buffer.from([1, 1, ...macBytes(FOREIGN_MACS.source)]),
    Buffer.from([5, 1, 0, 0, 0, 0, 5, 0]),
    Buffer.concat([Buffer.from([3, 4, 64, 0xc0]), lifetime, lifetime, Buffer.alloc(4), ipv6Bytes(prefix)]),
  ]);
  message.writeUInt16BE(ipv6Checksum(router, 'ff02::1', PROTOCOL.icmpv6, message), 2);
  return ipv6({ source: FOREIGN_MACS.source, destination: ALL_NODES }, router, 'ff02::1', PROTOCOL.icmpv6, message);
}

/** A neighbour solicitation for an address. */
export function neighbourSolicitation(from: string, target: string): Buffer {
  const message = Buffer.concat([
    Buffer.from([135, 0, 0, 0, 0, 0, 0, 0]),
    ipv6Bytes(target),
    Buffer.from([1, 1, ...macBytes(FOREIGN_MACS.source)]),
  ]);
  message.writeUInt16BE(ipv6Checksum(from, 'ff02::1', PROTOCOL.icmpv6, message), 2);
  return ipv6({ source: FOREIGN_MACS.source, destination: ALL_NODES }, from, 'ff02::1', PROTOCOL.icmpv6, message);
}

function ipv6(macs: Macs, from: string, to: string, nextHeader: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(payload.length, 4);
  header.writeUInt8(nextHeader, 6);
  header.writeUInt8(255, 7);
  const packet = Buffer.concat([header, ipv6Bytes(from), ipv6Bytes(to), payload]);
  return ethernet({ ...macs, type: ETHERTYPE.ipv6, payload: packet });
}

function ipv6Checksum(from: string, to: string, nextHeader: number, payload: Buffer): number {
  const end = Buffer.alloc(8);
  end.writeUInt32BE(payload.length, 0);
  end.writeUInt8(nextHeader, 7);
  return internetChecksum(Buffer.concat([ipv6Bytes(from), ipv6Bytes(to), end, payload]));
}

function ipv6Bytes(address: string): Buffer {
  const [head = '', tail] = address.split('::');
  const words = (text: string): number[] => (text === '' ? [] : text.split(':').map((word) => parseInt(word, 16)));
  const [left, right] = [words(head), words(tail ?? '')];
  const all = [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
  return Buffer.from(all.flatMap((word) => [word >> 8, word & 0xff]));
}
