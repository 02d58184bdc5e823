// SPDX-License-Identifier: Apache-2.0
// Mirrored frames as a seed brings them: most of them datagrams that a gateway forwards, of every size and kind, the others
// wrong or odd in one place. Each has the IP id it is asked for, and a payload that goes with it.
import { ETHERTYPE, internetChecksum, type Macs, Packet, PROTOCOL, vxlan, VXLAN_PORT } from '../../lab/packets/packet';
import { ADDRESSES } from '../../lab/namespaces/minimal-gateway';
import { type Random } from '../support/random';

const ETHERNET = 14;
const IPV4 = 20;
const OUTER = 50;
const TARGET_PORT = 31765;
const OUTER_MACS: Macs = { source: ADDRESSES.source.mac, destination: ADDRESSES.primary.mac };

export interface Generated {
  readonly what: string;
  /** The outer one. */
  readonly frame: Buffer;
}

/** Options that a router passes on, and some that it works on or refuses. */
const OPTIONS: readonly [number[], ...number[][]] = [
  [1],
  [1, 1, 1, 0],
  [0],
  [0, 0, 0, 1],
  [0x88, 4, 0x12, 0x34],
  [0x82, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  [0x1e, 4, 1, 2],
  [0x1e, 4, 1, 2, 0x9e, 6, 1, 2, 3, 4, 1, 0x1e, 2],
  [1, 0x5e, 3, 7, 0x88, 4, 9, 9, 0],
  [0xde, 40, ...Array.from({ length: 38 }, (_, i) => i)],
  [0x5e, 39, ...Array.from({ length: 37 }, (_, i) => 255 - i)],
  Array.from({ length: 40 }, () => 1),
  [0x1e, 1, 0, 0],
  [0x1e, 41, 0, 0],
  [1, 1, 1, 0x88],
  [7, 7, 4, 0, 0, 0, 0, 0],
  [7, 7, 8, 0, 0, 0, 0, 0],
  [68, 8, 9, 0, 0, 0, 0, 0],
  [131, 7, 4, 203, 0, 113, 5, 0],
  [137, 7, 8, 203, 0, 113, 5, 0],
  [148, 4, 0, 0],
  [134, 6, 0, 0, 0, 1],
];

const HOSTS = ['198.51.100.7', '172.16.5.4', '10.88.0.7', '8.8.8.8', '203.0.113.250', '192.0.2.77'] as const;
const ODD_HOSTS = [
  ...['127.0.0.1', '0.0.0.0', '0.1.2.3', '224.0.0.251', '239.255.0.1', '240.0.0.1', '255.255.255.255'],
  ...[ADDRESSES.primary.address, ADDRESSES.secondary.address, ADDRESSES.sink.address, '10.88.0.255', '10.77.0.255'],
] as unknown as readonly [string, ...string[]];

type Inner = (packet: Packet, random: Random) => Packet;

function datagram(random: Random, id: number, longest: number, host: string = random.pick(HOSTS)): Packet {
  const from = `${host}:${random.below(65536)}`;
  const to = `203.0.113.${random.below(256)}:${TARGET_PORT}`;
  const [options] = random.below(6) ? [[]] : [random.pick(OPTIONS)];
  const least = 28 + Math.ceil(options.length / 4) * 4;
  return Packet.udp({ from, to })
    .id(id)
    .options(Buffer.from(options))
    .totalLength(size(random, least, longest))
    .df(random.below(4) > 0)
    .ttl(2 + random.below(254))
    .tos(random.below(3) ? 0 : random.below(256))
    .udpChecksum(random.below(5) ? 'valid' : 'zero');
}

/** Around the bounds, around multiples of fragments, anywhere. */
function size(random: Random, least: number, longest: number): number {
  const around = [1400, 1401, 1500, 576, 1376, 1396, 2752, 2772, 2776, 4128] as const;
  const wanted = random.below(2)
    ? random.pick(around) + random.below(17) - 8
    : least + random.below(longest - least + 1);
  return Math.min(Math.max(wanted, least), longest);
}

const INNER: Readonly<Record<string, Inner>> = {
  'TTL 0 or 1': (packet, random) => packet.ttl(random.below(2)),
  'VLAN tag': (packet, random) =>
    packet.vlan(random.below(4096), random.pick([ETHERTYPE.vlan, ETHERTYPE.qinq] as const)),
  'another port': (packet) => packet.protocol(PROTOCOL.udp).udpLength(0),
  'another protocol': (packet, random) => packet.protocol(random.pick([1, 6, 136, 0, 4] as const)),
  'first fragment': (packet) => packet.mf(),
  'later fragment': (packet, random) => packet.fragmentOffset(1 + random.below(0x1ffe)),
  'wrong IP checksum': (packet, random) => packet.ipChecksum(random.below(65536)),
  'wrong UDP checksum': (packet, random) => packet.udpChecksum(random.below(65536)),
  'UDP length': (packet, random) => packet.udpLength(random.below(1500)),
  'total length': (packet, random) => packet.claimTotalLength(random.below(3000)),
  IHL: (packet, random) => packet.ihl(random.below(16)),
  version: (packet, random) => packet.version(random.below(16)),
  EtherType: (packet, random) => packet.etherType(random.pick([0x86dd, 0x0806, 0x88cc, 46, 0x0008] as const)),
  'cut short': (packet, random) => packet.truncate(random.below(120)),
  'padding behind': (packet, random) => packet.pad(60 + random.below(1400)),
  'group as destination': (packet) => packet.macs('0e:aa:00:00:00:01', '01:00:5e:00:00:01'),
  broadcast: (packet) => packet.macs('0e:aa:00:00:00:01', 'ff:ff:ff:ff:ff:ff'),
  'group as source': (packet) => packet.macs('01:aa:00:00:00:01', '0e:bb:00:00:00:02'),
  'no source': (packet) => packet.macs('00:00:00:00:00:00', '0e:bb:00:00:00:02'),
  'no destination': (packet) => packet.macs('0e:aa:00:00:00:01', '00:00:00:00:00:00'),
};

interface Outer {
  readonly flags?: number;
  readonly vni?: number;
  readonly change?: (packet: Packet, random: Random) => Packet;
  /** Of the whole frame, its IP header's checksum made right again afterwards. */
  readonly bytes?: (frame: Buffer, random: Random) => Buffer;
}

const OUTERS: Readonly<Record<string, Outer>> = {
  'outer: another VNI': { vni: 2 },
  'outer: VNI 256': { vni: 256 },
  'outer: no I flag': { flags: 0 },
  'outer: another flag': { flags: 0x0c },
  'outer: reserved byte of the VNI': { bytes: (frame, random) => set(frame, OUTER - 1, 1 + random.below(255)) },
  'outer: reserved byte of the flags': { bytes: (frame, random) => set(frame, OUTER - 7, 1 + random.below(255)) },
  'outer: UDP checksum valid': { change: (packet) => packet.udpChecksum('valid') },
  'outer: DF': { change: (packet) => packet.df() },
  'outer: congestion': { change: (packet, random) => packet.tos(random.below(256)) },
  'outer: first fragment': { change: (packet) => packet.mf() },
  'outer: later fragment': { change: (packet) => packet.fragmentOffset(8000) },
  'outer: options': { change: (packet) => packet.options(Buffer.from([1, 1, 1, 0])) },
  'outer: wrong IP checksum': { change: (packet, random) => packet.ipChecksum(random.below(65536)) },
  'outer: TTL 1': { change: (packet) => packet.ttl(1) },
  'outer: to another MAC': { change: (packet) => packet.macs(OUTER_MACS.source, '02:00:00:00:00:99') },
  'outer: to all MACs': { change: (packet) => packet.macs(OUTER_MACS.source, 'ff:ff:ff:ff:ff:ff') },
  'outer: VLAN tag': { change: (packet) => packet.vlan(7) },
  'outer: UDP length': { change: (packet, random) => packet.udpLength(random.below(1600)) },
  'outer: total length': { change: (packet, random) => packet.claimTotalLength(random.below(1600)) },
  'outer: protocol': { change: (packet, random) => packet.protocol(random.pick([6, 47, 136] as const)) },
  'outer: trailer': { bytes: (frame, random) => Buffer.concat([frame], frame.length + random.below(40)) },
  'outer: another port': { bytes: (frame) => set(frame, ETHERNET + IPV4 + 3, 0xb6) },
};

/** A frame of a seed, its inner IP packet at most `longest` bytes. */
export function generate(random: Random, id: number, longest: number): Generated {
  const dice = random.below(100);
  if (dice < 62) return { what: 'datagram', frame: outer(datagram(random, id, longest).build(), random) };
  if (dice < 66) return { what: 'reserved flag', frame: outer(reserved(datagram(random, id, longest)), random) };
  if (dice < 70) return oddHost(random, id, longest);
  if (dice < 73) return { what: 'another port', frame: outer(otherPort(random, id).build(), random) };
  if (dice < 86) {
    const what = random.pick(Object.keys(INNER) as [string, ...string[]]);
    const packet = INNER[what]?.(datagram(random, id, longest), random) as Packet;
    return { what, frame: outer(limited(packet.build(), longest), random) };
  }
  if (dice < 96) {
    const what = random.pick(Object.keys(OUTERS) as [string, ...string[]]);
    return { what, frame: outer(datagram(random, id, longest - 40).build(), random, OUTERS[what]) };
  }
  const frame = outer(datagram(random, id, Math.min(longest, 1600)).build(), random);
  for (let flips = 1 + random.below(3); flips > 0; flips--) {
    const at = random.below(Math.min(frame.length, 100));
    frame.writeUInt8(frame.readUInt8(at) ^ (1 << random.below(8)), at);
  }
  return { what: 'flipped bits', frame };
}

function limited(frame: Buffer, longest: number): Buffer {
  return frame.subarray(0, ETHERNET + longest);
}

function reserved(packet: Packet): Buffer {
  const frame = packet.build();
  frame.writeUInt16BE(frame.readUInt16BE(ETHERNET + 6) | 0x8000, ETHERNET + 6);
  return rightChecksum(frame, ETHERNET);
}

function oddHost(random: Random, id: number, longest: number): Generated {
  const host = random.pick(ODD_HOSTS);
  if (random.below(3))
    return { what: `from ${host}`, frame: outer(datagram(random, id, longest, host).build(), random) };
  const packet = Packet.udp({ from: '198.51.100.7:1', to: `${host}:${TARGET_PORT}` })
    .id(id)
    .totalLength(1428)
    .df();
  return { what: `to ${host}`, frame: outer(packet.build(), random) };
}

function otherPort(random: Random, id: number): Packet {
  const port = random.pick([31764, 31766, 0, 8081, 0x157c] as const);
  return Packet.udp({ from: '198.51.100.7:31765', to: `203.0.113.9:${port}` })
    .id(id)
    .totalLength(1428)
    .df();
}

function outer(inner: Buffer, random: Random, { vni, flags, change, bytes }: Outer = {}): Buffer {
  const { source, primary } = ADDRESSES;
  const to = `${primary.address}:${VXLAN_PORT}`;
  const plain = Packet.udp({ from: `${source.address}:${0xc000 + random.below(0x3fff)}`, to })
    .macs(OUTER_MACS.source, OUTER_MACS.destination)
    .ttl(255)
    .id(0)
    .udpChecksum('zero')
    .payload(vxlan(inner, { vni, flags }));
  const frame = (change ? change(plain, random) : plain).build();
  return bytes ? bytes(frame, random) : frame;
}

function set(frame: Buffer, at: number, value: number): Buffer {
  frame.writeUInt8(value, at);
  return frame;
}

function rightChecksum(frame: Buffer, at: number): Buffer {
  frame.writeUInt16BE(0, at + 10);
  const header = (frame.readUInt8(at) & 15) * 4;
  frame.writeUInt16BE(internetChecksum(frame.subarray(at, at + header)), at + 10);
  return frame;
}
