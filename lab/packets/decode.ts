// SPDX-License-Identifier: Apache-2.0
// What a capture shows, said by tshark and not by our own code: per packet its headers and whether its checksums are
// right, and per datagram, reassembled, which fragments it came in and what it carried.
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must } from '../support/host';
import { pcap } from './packet';

/** `none`: the sender gave no checksum (UDP). `unverified`: the packet does not hold all the bytes that it covers. */
export type Checksum = 'good' | 'bad' | 'none' | 'unverified';

export interface IpFacts {
  readonly from: string;
  readonly to: string;
  readonly id: number;
  readonly df: boolean;
  readonly mf: boolean;
  /** Of this fragment, in bytes. */
  readonly offset: number;
  readonly headerLength: number;
  readonly totalLength: number;
  readonly tos: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly checksum: Checksum;
}

export interface UdpFacts {
  readonly fromPort: number;
  readonly toPort: number;
  readonly length: number;
  readonly checksum: Checksum;
  readonly payloadHash: string;
}

/** One frame, seen from outside: what a tunnel inside carries is not looked into. */
export interface PacketFacts {
  /** Place in the capture, from 1. */
  readonly frame: number;
  readonly bytes: number;
  readonly sourceMac: string;
  readonly destinationMac: string;
  readonly vlans: readonly number[];
  /** tshark's names, outermost first: `eth:ethertype:ip:udp`. */
  readonly protocols: string;
  readonly ip?: IpFacts;
  /** In the frame that holds, or completes, the datagram. */
  readonly udp?: UdpFacts;
  /** Frames of the fragments that this one completed to a datagram; none when it came in one piece. */
  readonly completes: readonly number[];
}

/** A UDP datagram as its receiver gets it; `fragments` in the order captured, one alone when it was not cut. */
export interface Datagram {
  readonly from: string;
  readonly to: string;
  readonly id: number;
  readonly udp: UdpFacts;
  readonly fragments: readonly IpFacts[];
}

const FIELDS = [
  ...['frame.number', 'frame.len', 'frame.protocols', 'eth.src', 'eth.dst', 'ieee8021ad.id', 'vlan.id'],
  ...[
    'ip.src',
    'ip.dst',
    'ip.id',
    'ip.flags.df',
    'ip.flags.mf',
    'ip.frag_offset',
    'ip.hdr_len',
    'ip.len',
    'ip.dsfield',
  ],
  ...['ip.ttl', 'ip.proto', 'ip.checksum.status', 'ip.fragment'],
  ...['udp.srcport', 'udp.dstport', 'udp.length', 'udp.checksum.status', 'udp.payload'],
] as const;
type Field = (typeof FIELDS)[number];
type Row = Readonly<Record<Field, string>>;

const PREFERENCES = ['ip.check_checksum:TRUE', 'udp.check_checksum:TRUE', 'ip.defragment:TRUE'];
const CHECKSUMS: readonly Checksum[] = ['bad', 'good', 'unverified', 'none'];

/** A short name of a payload: equal exactly when the bytes are. */
export function payloadHash(payload: Buffer): string {
  return createHash('sha256').update(payload).digest('hex').slice(0, 16);
}

/**
 * Asks tshark about each frame, in order.
 *
 * @throws Error when tshark cannot read them, or says less or more than one line a frame
 */
export async function decode(frames: readonly Buffer[]): Promise<PacketFacts[]> {
  if (frames.length === 0) return [];
  const directory = await mkdtemp(join(tmpdir(), 'decode-'));
  try {
    const file = join(directory, 'frames.pcap');
    await writeFile(file, pcap(frames));
    const rows = (await dissect(file)).map(parseRow);
    if (rows.length === frames.length) return rows.map(packetFacts);
    throw new Error(`tshark: ${rows.length} lines about ${frames.length} frames`);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The UDP datagrams that are whole. */
export function datagrams(facts: readonly PacketFacts[]): Datagram[] {
  const byFrame = new Map(facts.map((packet) => [packet.frame, packet]));
  return facts.flatMap((packet) => {
    const { ip, udp, completes } = packet;
    if (!ip || !udp) return [];
    const parts = completes.length ? completes.map((part) => byFrame.get(part)) : [packet];
    const fragments = parts.flatMap((part) => part?.ip ?? []);
    return [{ from: `${ip.from}:${udp.fromPort}`, to: `${ip.to}:${udp.toPort}`, id: ip.id, udp, fragments }];
  });
}

/** One line for a message about a frame that should not be there. */
export function describeFacts({ bytes, protocols, ip, udp, sourceMac, destinationMac }: PacketFacts): string {
  if (!ip) return `${protocols}, ${bytes} bytes, ${sourceMac} > ${destinationMac}`;
  const ports = udp ? `, ports ${udp.fromPort} > ${udp.toPort}` : '';
  const flags = `${ip.df ? ', DF' : ''}${ip.mf ? ', MF' : ''}, offset ${ip.offset}`;
  return `${protocols}, ${ip.from} > ${ip.to}${ports}, id ${ip.id}, ${ip.totalLength} bytes${flags}, TTL ${ip.ttl}`;
}

async function dissect(file: string): Promise<string[]> {
  const preferences = PREFERENCES.flatMap((preference) => ['-o', preference]);
  const fields = FIELDS.flatMap((field) => ['-e', field]);
  // Of a field that occurs twice (an ICMP error quotes a header) the first is the packet's own.
  const shape = ['-T', 'fields', '-E', 'separator=/t', '-E', 'occurrence=a', '-E', 'aggregator=,'];
  const quiet = ['-n', '--disable-protocol', 'vxlan'];
  const output = await must('tshark', ['-r', file, ...quiet, ...preferences, ...shape, ...fields]);
  return output.split('\n').slice(0, -1);
}

function parseRow(line: string): Row {
  const values = line.split('\t');
  return Object.fromEntries(FIELDS.map((field, index) => [field, values[index] ?? ''])) as Row;
}

function packetFacts(row: Row): PacketFacts {
  return {
    frame: number(row, 'frame.number'),
    bytes: number(row, 'frame.len'),
    sourceMac: first(row, 'eth.src'),
    destinationMac: first(row, 'eth.dst'),
    vlans: [...all(row, 'ieee8021ad.id'), ...all(row, 'vlan.id')],
    protocols: row['frame.protocols'],
    ip: row['ip.src'] === '' ? undefined : ipFacts(row),
    udp: udpFacts(row),
    completes: all(row, 'ip.fragment'),
  };
}

function ipFacts(row: Row): IpFacts {
  return {
    from: first(row, 'ip.src'),
    to: first(row, 'ip.dst'),
    id: number(row, 'ip.id'),
    df: flag(row, 'ip.flags.df'),
    mf: flag(row, 'ip.flags.mf'),
    offset: number(row, 'ip.frag_offset') * 8,
    headerLength: number(row, 'ip.hdr_len'),
    totalLength: number(row, 'ip.len'),
    tos: number(row, 'ip.dsfield'),
    ttl: number(row, 'ip.ttl'),
    protocol: number(row, 'ip.proto'),
    checksum: checksum(row, 'ip.checksum.status'),
  };
}

function udpFacts(row: Row): UdpFacts | undefined {
  // The UDP header inside an ICMP error is somebody else's.
  if (row['udp.srcport'] === '' || first(row, 'ip.proto') !== '17') return undefined;
  return {
    fromPort: number(row, 'udp.srcport'),
    toPort: number(row, 'udp.dstport'),
    length: number(row, 'udp.length'),
    checksum: checksum(row, 'udp.checksum.status'),
    payloadHash: payloadHash(Buffer.from(first(row, 'udp.payload').replaceAll(':', ''), 'hex')),
  };
}

function first(row: Row, field: Field): string {
  return row[field].split(',')[0] ?? '';
}

function all(row: Row, field: Field): number[] {
  return row[field] === '' ? [] : row[field].split(',').map(Number);
}

function number(row: Row, field: Field): number {
  return Number(first(row, field));
}

/** tshark 4.0 prints 1, later ones True. */
function flag(row: Row, field: Field): boolean {
  return ['1', 'True'].includes(first(row, field));
}

function checksum(row: Row, field: Field): Checksum {
  return CHECKSUMS[number(row, field)] ?? 'unverified';
}
