// SPDX-License-Identifier: Apache-2.0
//
// Packets described by name instead of by bytes: an immutable, fluent builder of Ethernet/IPv4/UDP frames, right or wrong in
// exactly the field a test argues about, plus what carries them (VXLAN, the outer frame of a VPC mirror, a pcap file).
// Everything not overridden is valid, checksums included. No dependencies, so fixtures, labs and the demo all share it.

export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd, vlan: 0x8100, qinq: 0x88a8 } as const;
export const PROTOCOL = { icmp: 1, igmp: 2, tcp: 6, udp: 17, icmpv6: 58 } as const;
export const ETHERNET_HEADER = 14;
export const VXLAN_PORT = 4789;
export const VXLAN_HEADER = 8;

/** Addresses of no machine of ours, as mirrored frames carry them. */
export const FOREIGN_MACS: Macs = { source: '0e:aa:00:00:00:01', destination: '0e:bb:00:00:00:02' };

const UDP_HEADER = 8;
const IPV4_MIN_HEADER = 20;
const IPV4_MAX_LENGTH = 65535;
const DF = 0x4000;
const MF = 0x2000;

export interface Macs {
  readonly source: string;
  readonly destination: string;
}

interface Endpoint {
  readonly address: string;
  readonly port: number;
}

interface VlanTag {
  readonly id: number;
  readonly tpid: number;
}

interface Description {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly macs: Macs;
  readonly vlans: readonly VlanTag[];
  readonly etherType: number;
  readonly version: number;
  readonly ihl?: number;
  readonly tos: number;
  readonly id: number;
  readonly df: boolean;
  readonly mf: boolean;
  readonly fragmentOffset: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly options: Buffer;
  readonly ipChecksum: 'valid' | number;
  readonly udpChecksum: 'valid' | 'zero' | number;
  readonly udpLength?: number;
  readonly totalLength?: number;
  readonly claimedTotalLength?: number;
  readonly payload?: Buffer;
  /** Of a payload that only its length is known of (default: the id). */
  readonly seed?: number;
  /** Transport bytes in place of UDP header and payload. */
  readonly transport?: Buffer;
  readonly padTo?: number;
  readonly truncateTo?: number;
}

export class Packet {
  private constructor(private readonly spec: Description) {}

  /** A valid datagram without DF, TTL 64, id 1, 32 bytes of payload. */
  static udp({ from, to }: { from: string; to: string }): Packet {
    return new Packet({
      from: endpoint(from),
      to: endpoint(to),
      macs: FOREIGN_MACS,
      vlans: [],
      etherType: ETHERTYPE.ipv4,
      version: 4,
      tos: 0,
      id: 1,
      df: false,
      mf: false,
      fragmentOffset: 0,
      ttl: 64,
      protocol: PROTOCOL.udp,
      options: Buffer.alloc(0),
      ipChecksum: 'valid',
      udpChecksum: 'valid',
    });
  }

  /** An IPv4 packet of another protocol, its transport header and data given as bytes; addresses without ports. */
  static ip({
    from,
    to,
    protocol,
    transport,
  }: {
    from: string;
    to: string;
    protocol: number;
    transport: Buffer;
  }): Packet {
    return Packet.udp({ from: `${from}:0`, to: `${to}:0` }).with({ protocol, transport });
  }

  /** The real IP total length; the payload is made to fit. */
  totalLength(bytes: number): Packet {
    return this.with({ totalLength: integer('total length', bytes, 0, IPV4_MAX_LENGTH), payload: undefined });
  }
  /** The payload; the total length follows. */
  payload(payload: Buffer): Packet {
    return this.with({ payload: Buffer.from(payload), totalLength: undefined });
  }
  /** Another payload of the same length than the id's. */
  seed(seed: number): Packet {
    return this.with({ seed });
  }
  df(on = true): Packet {
    return this.with({ df: on });
  }
  mf(on = true): Packet {
    return this.with({ mf: on });
  }
  /** In units of 8 bytes. The bytes laid out stay the same: a later fragment's payload then looks like a UDP header. */
  fragmentOffset(units: number): Packet {
    return this.with({ fragmentOffset: integer('fragment offset', units, 0, 0x1fff) });
  }
  ttl(ttl: number): Packet {
    return this.with({ ttl: integer('TTL', ttl, 0, 255) });
  }
  id(id: number): Packet {
    return this.with({ id: integer('IP id', id, 0, 0xffff) });
  }
  tos(tos: number): Packet {
    return this.with({ tos: integer('TOS', tos, 0, 255) });
  }
  /** IP options, zero-padded (end of options) to a multiple of four. */
  options(options: Buffer): Packet {
    if (options.length > 40) throw new RangeError(`IP options of ${options.length} bytes: at most 40 fit a header`);
    return this.with({ options: Buffer.concat([options], Math.ceil(options.length / 4) * 4) });
  }
  /** Another tag, inside those already there. */
  vlan(id: number, tpid: number = ETHERTYPE.vlan): Packet {
    return this.with({ vlans: [...this.spec.vlans, { id: integer('VLAN tag', id, 0, 0xffff), tpid }] });
  }
  macs(source: string, destination: string): Packet {
    return this.with({ macs: { source, destination } });
  }
  protocol(protocol: number): Packet {
    return this.with({ protocol: integer('protocol', protocol, 0, 255) });
  }
  udpChecksum(checksum: 'valid' | 'zero' | number): Packet {
    return this.with({ udpChecksum: checksum });
  }
  ipChecksum(checksum: 'valid' | number): Packet {
    return this.with({ ipChecksum: checksum });
  }

  // What follows overrides one field and leaves the bytes laid out as they were.

  etherType(type: number): Packet {
    return this.with({ etherType: integer('EtherType', type, 0, 0xffff) });
  }
  version(version: number): Packet {
    return this.with({ version: integer('IP version', version, 0, 15) });
  }
  /** The checksum still covers as many bytes as this claims, as its receiver would see it. */
  ihl(words: number): Packet {
    return this.with({ ihl: integer('IHL', words, 0, 15) });
  }
  claimTotalLength(bytes: number): Packet {
    return this.with({ claimedTotalLength: integer('claimed total length', bytes, 0, IPV4_MAX_LENGTH) });
  }
  udpLength(bytes: number): Packet {
    return this.with({ udpLength: integer('UDP length', bytes, 0, 0xffff) });
  }
  /** Cuts the finished frame, after padding. */
  truncate(frameBytes: number): Packet {
    return this.with({ truncateTo: integer('frame size', frameBytes, 0, IPV4_MAX_LENGTH) });
  }
  /** Zeros behind the IP packet, as Ethernet pads frames shorter than 60 bytes. */
  pad(frameBytes: number): Packet {
    return this.with({ padTo: integer('frame size', frameBytes, 0, IPV4_MAX_LENGTH) });
  }

  /** The whole Ethernet frame, without its check sequence. */
  build(): Buffer {
    const { macs, vlans, padTo, truncateTo, etherType } = this.spec;
    const frame = ethernet({ ...macs, vlans, type: etherType, payload: this.ipPacket() });
    const padded = padTo && padTo > frame.length ? Buffer.concat([frame], padTo) : frame;
    return truncateTo === undefined ? padded : padded.subarray(0, truncateTo);
  }

  /** The IP packet alone. */
  ipPacket(): Buffer {
    const transport = this.transportBytes();
    const length = this.headerLength + transport.length;
    if (length > IPV4_MAX_LENGTH)
      throw new RangeError(`IP packet of ${length} bytes: at most ${IPV4_MAX_LENGTH} exist`);
    const packet = Buffer.concat([this.ipHeader(length), transport]);
    packet.writeUInt16BE(this.ipChecksumOf(packet), 10);
    return packet;
  }

  /** The UDP payload as it is sent. */
  data(): Buffer {
    const { payload, totalLength, seed, id } = this.spec;
    if (payload) return payload;
    const headers = this.headerLength + UDP_HEADER;
    const length = totalLength ?? headers + 32;
    if (length < headers) throw new RangeError(`total length ${length}: the headers alone take ${headers} bytes`);
    return deterministicBytes(length - headers, seed ?? id);
  }

  /** One line that a human can argue with: what it is, then everything out of the ordinary. */
  describe(): string {
    const s = this.spec;
    const other = s.transport ? `protocol ${s.protocol} ${s.from.address} > ${s.to.address}` : undefined;
    const name = other ?? `UDP ${s.from.address}:${s.from.port} > ${s.to.address}:${s.to.port}`;
    const length = this.headerLength + this.transportBytes().length;
    return [name, `${length} bytes`, `id ${s.id}`, ...this.peculiarities()].join(', ');
  }

  private with(change: Partial<Description>): Packet {
    return new Packet({ ...this.spec, ...change });
  }

  private get headerLength(): number {
    return IPV4_MIN_HEADER + this.spec.options.length;
  }

  private ipHeader(length: number): Buffer {
    const s = this.spec;
    const header = Buffer.alloc(this.headerLength);
    header.writeUInt8((s.version << 4) | (s.ihl ?? this.headerLength / 4), 0);
    header.writeUInt8(s.tos, 1);
    header.writeUInt16BE(s.claimedTotalLength ?? length, 2);
    header.writeUInt16BE(s.id, 4);
    header.writeUInt16BE((s.df ? DF : 0) | (s.mf ? MF : 0) | s.fragmentOffset, 6);
    header.writeUInt8(s.ttl, 8);
    header.writeUInt8(s.protocol, 9);
    ipv4Bytes(s.from.address).copy(header, 12);
    ipv4Bytes(s.to.address).copy(header, 16);
    s.options.copy(header, IPV4_MIN_HEADER);
    return header;
  }

  private ipChecksumOf(packet: Buffer): number {
    const { ipChecksum, ihl } = this.spec;
    if (ipChecksum !== 'valid') return ipChecksum;
    const claimed = ihl !== undefined && ihl >= 5 ? ihl * 4 : this.headerLength;
    return internetChecksum(packet.subarray(0, claimed));
  }

  private transportBytes(): Buffer {
    const { transport, from, to, udpLength, udpChecksum } = this.spec;
    if (transport) return transport;
    const data = this.data();
    const datagram = Buffer.concat([Buffer.alloc(UDP_HEADER), data]);
    datagram.writeUInt16BE(from.port, 0);
    datagram.writeUInt16BE(to.port, 2);
    datagram.writeUInt16BE((udpLength ?? datagram.length) & 0xffff, 4);
    if (udpChecksum === 'zero') return datagram;
    const checksum = udpChecksum === 'valid' ? transportChecksum(from.address, to.address, datagram) : udpChecksum;
    datagram.writeUInt16BE(checksum, 6);
    return datagram;
  }

  private peculiarities(): string[] {
    const s = this.spec;
    const hex = (n: number): string => `0x${n.toString(16).padStart(4, '0')}`;
    const checksum = (sum: string | number): string => (typeof sum === 'number' ? hex(sum) : sum);
    const notes: [boolean, string][] = [
      [s.df, 'DF'],
      [s.mf, 'MF'],
      [s.fragmentOffset > 0, `fragment offset ${s.fragmentOffset * 8} bytes`],
      [s.ttl !== 64, `TTL ${s.ttl}`],
      [s.tos !== 0, `TOS ${s.tos}`],
      [s.options.length > 0, `IP options ${s.options.toString('hex')}`],
      ...s.vlans.map((tag): [boolean, string] => [true, `VLAN ${tag.id & 0xfff} (${hex(tag.tpid)})`]),
      [s.etherType !== ETHERTYPE.ipv4, `EtherType ${hex(s.etherType)}`],
      [s.version !== 4, `claims IP version ${s.version}`],
      [s.ihl !== undefined, `claims IHL ${s.ihl}`],
      [s.claimedTotalLength !== undefined, `claims total length ${s.claimedTotalLength}`],
      [s.udpLength !== undefined, `claims UDP length ${s.udpLength}`],
      [s.protocol !== PROTOCOL.udp && !s.transport, `claims protocol ${s.protocol}`],
      [s.ipChecksum !== 'valid', `IP checksum ${checksum(s.ipChecksum)}`],
      [s.udpChecksum !== 'valid', `UDP checksum ${checksum(s.udpChecksum)}`],
      [s.padTo !== undefined, `frame padded to ${s.padTo}`],
      [s.truncateTo !== undefined, `frame cut at ${s.truncateTo}`],
    ];
    return notes.filter(([shown]) => shown).map(([, text]) => text);
  }
}

/** An Ethernet frame around any payload. */
export function ethernet({
  source = FOREIGN_MACS.source,
  destination = FOREIGN_MACS.destination,
  vlans = [],
  type,
  payload,
}: Partial<Macs> & { vlans?: readonly VlanTag[]; type: number; payload: Buffer }): Buffer {
  const tags = vlans.map(({ id, tpid }) => [uint16(tpid), uint16(id)]).flat();
  return Buffer.concat([macBytes(destination), macBytes(source), ...tags, uint16(type), payload]);
}

/** VXLAN header and inner frame: the payload of a UDP datagram to port 4789. Flags without 0x08 claim no valid VNI. */
export function vxlan(inner: Buffer, { vni = 1, flags = 0x08 }: { vni?: number; flags?: number } = {}): Buffer {
  const header = Buffer.alloc(VXLAN_HEADER);
  header.writeUInt8(flags, 0);
  header.writeUIntBE(integer('VNI', vni, 0, 0xffffff), 4, 3);
  return Buffer.concat([header, inner]);
}

export interface MirrorOptions {
  readonly from?: string;
  readonly to?: string;
  readonly vni?: number;
  readonly vxlanFlags?: number;
  readonly sourcePort?: number;
  readonly udpChecksum?: 'zero' | 'valid';
  readonly ttl?: number;
  readonly id?: number;
  readonly macs?: Macs;
}

/** The outer frame as a VPC mirror session sends it: source port from the inner flow, no DF, TTL 255, UDP checksum zero. */
export function mirrored(inner: Buffer, options: MirrorOptions = {}): Buffer {
  const { from = '10.77.0.1', to = '10.77.0.2', vni, vxlanFlags, udpChecksum = 'zero', ttl = 255, id = 0 } = options;
  const { macs = FOREIGN_MACS, sourcePort = flowPort(inner) } = options;
  return Packet.udp({ from: `${from}:${sourcePort}`, to: `${to}:${VXLAN_PORT}` })
    .macs(macs.source, macs.destination)
    .ttl(ttl)
    .id(id)
    .udpChecksum(udpChecksum)
    .payload(vxlan(inner, { vni, flags: vxlanFlags }))
    .build();
}

/** A capture file (Ethernet, microseconds) that tcpreplay and tshark read; frames are a microsecond apart. */
export function pcap(frames: readonly Buffer[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262144, 16);
  header.writeUInt32LE(1, 20);
  return Buffer.concat([header, ...frames.flatMap((frame, index) => [pcapRecord(frame, index), frame])]);
}

/** RFC 1071: the one's complement of the one's complement sum; an odd last byte counts as the high one. */
export function internetChecksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at + 1 < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  if (bytes.length % 2) sum += bytes.readUInt8(bytes.length - 1) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

/** Checksum of a UDP datagram or TCP segment whose own checksum field is still zero. Zero means "none" to UDP, so it is sent as 0xffff. */
export function transportChecksum(from: string, to: string, segment: Buffer, protocol: number = PROTOCOL.udp): number {
  const claimed = protocol === PROTOCOL.udp ? segment.readUInt16BE(4) : segment.length;
  const pseudo = Buffer.concat([ipv4Bytes(from), ipv4Bytes(to), uint16(protocol), uint16(claimed)]);
  const checksum = internetChecksum(Buffer.concat([pseudo, segment.subarray(0, claimed)]));
  return checksum === 0 && protocol === PROTOCOL.udp ? 0xffff : checksum;
}

/** The same bytes for the same seed, and hardly any others. */
export function deterministicBytes(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ 0x85ebca6b) >>> 0 || 1;
  for (let at = 0; at < length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state & 0xff;
  }
  return bytes;
}

export function ipv4Bytes(address: string): Buffer {
  const parts = address.split('.').map(Number);
  const valid = parts.length === 4 && parts.every((part) => Number.isInteger(part) && part >= 0 && part <= 255);
  if (!valid) throw new RangeError(`IPv4 address "${address}": four numbers of 0 to 255 are expected`);
  return Buffer.from(parts);
}

export function macBytes(mac: string): Buffer {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac))
    throw new RangeError(`MAC address "${mac}": aa:bb:cc:dd:ee:ff is expected`);
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

function flowPort(inner: Buffer): number {
  const flow = inner.subarray(ETHERNET_HEADER + 12, ETHERNET_HEADER + 24);
  const hash = [...flow].reduce((sum, byte) => (Math.imul(sum, 31) + byte) >>> 0, 7);
  return 0xc000 + (hash % 0x3fff);
}

function pcapRecord(frame: Buffer, index: number): Buffer {
  const record = Buffer.alloc(16);
  record.writeUInt32LE(Math.floor(index / 1e6), 0);
  record.writeUInt32LE(index % 1e6, 4);
  record.writeUInt32LE(frame.length, 8);
  record.writeUInt32LE(frame.length, 12);
  return record;
}

function endpoint(text: string): Endpoint {
  const [address = '', port] = text.split(':');
  ipv4Bytes(address);
  return { address, port: integer(`port of "${text}"`, port === undefined ? NaN : Number(port), 0, 0xffff) };
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value & 0xffff);
  return bytes;
}

function integer(name: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new RangeError(`${name} ${value}: an integer from ${min} to ${max} is expected`);
}
