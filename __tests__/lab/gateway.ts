// SPDX-License-Identifier: Apache-2.0
// What the lab's tests share: the lab with one engine, exchanges with it, its counters, and what may be seen at the sink.
import { readFileSync, writeFileSync } from 'node:fs';
import { exchange, type ExchangeOptions, onto, type Outcome, type Path } from '../../lab/packets/exchange';
import { inNamespace, must, type Progress } from '../../lab/support/host';
import { Agent, type Monitoring } from '../../lab/namespaces/monitoring';
import { Stream } from '../../lab/packets/traffic-stream';
import { type Datagram, describeFacts, type PacketFacts, payloadHash } from '../../lab/packets/decode';
import { fragmentsOf } from '../../constructs/config/limits';
import { DEFAULT_EGRESS_MTU, type Engine, givesId, isXdp } from '../../lab/namespaces/engines';
import {
  deploy,
  LAB,
  labDown,
  type LabOptions,
  labUp,
  setNeighbour,
  SETTINGS_FILE,
} from '../../lab/namespaces/namespaces';
import {
  ETHERNET_HEADER,
  internetChecksum,
  ipv4Bytes,
  type MirrorOptions,
  type Packet,
  transportChecksum,
} from '../../lab/packets/packet';
import { Receiver } from '../../lab/packets/traffic';

export const PATH: Path = {
  source: LAB.source,
  sink: LAB.sink,
  outer: {
    from: LAB.source.address,
    to: LAB.primary.address,
    macs: { source: LAB.source.mac, destination: LAB.primary.mac },
  },
};
export const SINK = `${LAB.sink.address}:${LAB.sink.port}`;
/** Of `egress_mtu`: the default, under which every datagram leaves whole, and one under which large ones are fragmented. */
export const EGRESS_MTUS = { whole: DEFAULT_EGRESS_MTU, fragmented: 1400 } as const;

/** The status JSON, as far as it counts. */
export interface Status {
  readonly engine: string;
  readonly attached: boolean;
  readonly packets_seen: number;
  readonly packets_matched: number;
  readonly packets_modified: number;
  readonly bytes_processed: number;
  readonly packets_left_to_netfilter: number;
  readonly packets_malformed: number;
  readonly fragments_seen: number;
  readonly frames_unmatched: number;
  readonly standby_packets: number;
  readonly nfqueue_packets: number;
  readonly nfqueue_dropped: number;
  readonly fragments_sent: number;
  readonly kernel_fragments: number;
}

/** What hears of a gateway under traffic. A test starts stream and monitoring; after it both end. */
export interface Monitored {
  agent: Agent;
  stream?: Stream;
  monitoring?: Monitoring;
}

/** A lab from the first test to the last, with a socket in the place of the CloudWatch agent. */
export function useMonitoring(progress: Progress): Monitored {
  const lab = {} as Monitored;
  beforeAll(async () => {
    await labUp('direct/generic');
    await Stream.build();
    lab.agent = await Agent.start(progress);
  });
  afterEach(async () => {
    await lab.monitoring?.stop();
    lab.stream?.abort();
  });
  afterAll(async () => {
    await lab.agent.stop();
    await labDown();
  });
  return lab;
}

/** A lab from the first test of the enclosing `describe` to its last, with a UDP socket at the sink. */
export function useLab(engine: Engine, options: LabOptions = {}): LabSession {
  const session = new LabSession(engine);
  beforeAll(async () => {
    await labUp(engine, options);
    await session.open();
  });
  afterAll(async () => {
    await session.close();
    await labDown();
  });
  return session;
}

export class LabSession {
  private socket?: Receiver;

  constructor(private readonly engine: Engine) {}

  async open(): Promise<void> {
    this.socket = await Receiver.start(LAB.sink, LAB.sink.address, LAB.sink.port);
  }

  async close(): Promise<void> {
    await this.socket?.stop();
  }

  get receiver(): Receiver {
    if (this.socket) return this.socket;
    throw new Error('the lab is not up: its beforeAll failed');
  }

  /** Changes the egress MTU as an operator would; an XDP program learns it when it is attached. */
  async setEgressMtu(mtu: number): Promise<void> {
    const text = readFileSync(SETTINGS_FILE, 'utf8');
    writeFileSync(SETTINGS_FILE, text.replace(/^EGRESS_MTU=.*$/m, `EGRESS_MTU=${mtu}`));
    await deploy('network-up'); // which forgets who the IPsec VM is
    await setNeighbour(LAB.primary.namespace, 'br0', LAB.sink);
    if (isXdp(this.engine)) await deploy('attach');
  }

  /** Outer frames in, everything that came of them out. */
  send(frames: readonly Buffer[], options: ExchangeOptions = {}): Promise<Outcome> {
    return exchange(PATH, this.receiver, frames, options);
  }
}

export function mirror(inner: Packet | Buffer, options: MirrorOptions = {}): Buffer {
  return onto(PATH, Buffer.isBuffer(inner) ? inner : inner.build(), options);
}

export async function status(): Promise<Status> {
  return JSON.parse(await deploy('status', '--json')) as Status;
}

/** By how much each counter grew while something was done. */
export async function countersOf(work: () => Promise<unknown>): Promise<Record<keyof Status, number>> {
  const before = await status();
  await work();
  const after = await status();
  const names = Object.keys(before) as (keyof Status)[];
  return Object.fromEntries(names.map((name) => [name, Number(after[name]) - Number(before[name])])) as Record<
    keyof Status,
    number
  >;
}

/** Everything that mirrored packets must not be able to change, as one text. */
export async function gatewayState(): Promise<string> {
  const commands = [
    ...['ip -j address', 'ip -j route show table all', 'ip -j rule', 'ip -j neighbour', 'ip -j link show type bridge'],
    ...['bridge -j fdb show', 'bridge -j mdb show', 'nft -s list ruleset'],
    ...['sysctl -n net.netfilter.nf_conntrack_count', 'nstat -asz IpReasmReqds'],
  ];
  const answers = commands.map(async (command) => `# ${command}\n${await inGateway(command)}`);
  return (await Promise.all(answers)).join('\n');
}

async function inGateway(command: string): Promise<string> {
  return must(...inNamespace(LAB.primary.namespace, 'sh', '-c', `${command} 2>&1 || true`));
}

/** Frames at the sink that are no (fragment of a) translated datagram; empty is what silence looks like. */
export function untranslated(packets: readonly PacketFacts[], egressMtu: number = EGRESS_MTUS.whole): string[] {
  return packets.filter((packet) => !isTranslated(packet, egressMtu)).map(describeFacts);
}

function isTranslated({ ip, udp, vlans, sourceMac, destinationMac }: PacketFacts, egressMtu: number): boolean {
  if (!ip || vlans.length > 0) return false;
  const addressed = sourceMac === LAB.secondary.mac && destinationMac === LAB.sink.mac && ip.to === LAB.sink.address;
  const isUdp = ip.protocol === 17 && (udp === undefined || udp.toPort === LAB.sink.port);
  return addressed && isUdp && ip.checksum === 'good' && ip.totalLength <= egressMtu;
}

/** What must have come of a datagram that the gateway forwards. Its payload and its source tell it from others. */
export interface Expected {
  readonly packet: Packet;
  readonly from: string;
  readonly length: number;
  /** Of what leaves: with DF the identification stays, without it the gateway gives another. */
  readonly df?: boolean;
  readonly checksum?: 'good' | 'none';
  readonly tos?: number;
  readonly headerLength?: number;
}

/** The gateway's egress MTU, and, where no datagram can have gone another way, the engine that gave the identification. */
export interface Forwarding {
  readonly egressMtu?: number;
  readonly engine?: Engine;
}

/** Arrived once, from its source, in as many fragments as the egress MTU asks for, every checksum right. */
export function expectDelivered(
  outcome: Outcome,
  { packet, from, length, df = false, checksum = 'good', tos = 0, headerLength = 20 }: Expected,
  { egressMtu = EGRESS_MTUS.whole, engine }: Forwarding = {},
): Datagram {
  const hash = payloadHash(packet.data());
  const found = datagramsOf(outcome, hash, from);
  expect(found).toHaveLength(1);
  const [datagram] = found as [Datagram];
  const { id } = datagram;
  if (df) expect(id).toBe(idOf(packet));
  else if (engine) expect({ id, isGiven: givesId(engine, id) }).toEqual({ id, isGiven: true });
  expect(datagram).toMatchObject({ to: SINK, udp: { checksum } });
  for (const fragment of datagram.fragments) {
    const facts = { from: from.split(':')[0], id, df, checksum: 'good', ttl: 63, tos };
    expect(fragment).toMatchObject(facts);
    expect(fragment.totalLength).toBeLessThanOrEqual(egressMtu);
  }
  const carried = datagram.fragments.map((fragment) => fragment.totalLength - fragment.headerLength);
  expect(carried.reduce((sum, bytes) => sum + bytes)).toBe(length - headerLength);
  expect(datagram.fragments).toHaveLength(fragmentsOf(length, egressMtu, headerLength));
  if (datagram.fragments.length === 1)
    expect(wholeBytesOf(outcome, hash, from)).toBe(comparable(translated(packet, id, df)));
  const received = outcome.received.filter(({ payloadHash: got }) => got === hash);
  expect(received).toEqual([{ from, length: packet.data().length, payloadHash: hash }]);
  return datagram;
}

/** Those with a payload, of a source. */
export function datagramsOf(outcome: Outcome, hash: string, from: string): Datagram[] {
  return outcome.datagrams.filter((datagram) => datagram.from === from && datagram.udp.payloadHash === hash);
}

/** Sources and identifications under which several datagrams left without DF: fragments of them could be mixed up. */
export function sharedIds(datagrams: readonly Datagram[]): string[] {
  const given = datagrams.filter(({ fragments }) => !fragments[0]?.df);
  const keys = given.map(({ from, id }) => `${from.split(':')[0]} id ${id}`);
  return keys.filter((key, at) => keys.indexOf(key) !== at);
}

function idOf(packet: Packet): number {
  return packet.ipPacket().readUInt16BE(4);
}

/** The IP packet that must come of one that leaves whole: DF, identification, TTL, addressee and checksums differ. */
function translated(packet: Packet, id: number, df: boolean): Buffer {
  const bytes = Buffer.from(packet.ipPacket());
  const udp = (bytes.readUInt8(0) & 15) * 4;
  bytes.writeUInt16BE(id, 4);
  if (!df) bytes.writeUInt16BE(bytes.readUInt16BE(6) & ~0x4000, 6);
  bytes.writeUInt8(bytes.readUInt8(8) - 1, 8);
  ipv4Bytes(LAB.sink.address).copy(bytes, 16);
  bytes.writeUInt16BE(0, 10);
  bytes.writeUInt16BE(internetChecksum(bytes.subarray(0, udp)), 10);
  bytes.writeUInt16BE(LAB.sink.port, udp + 2);
  if (bytes.readUInt16BE(udp + 6) === 0) return bytes;
  bytes.writeUInt16BE(0, udp + 6);
  const source = bytes.subarray(12, 16).join('.');
  bytes.writeUInt16BE(transportChecksum(source, LAB.sink.address, bytes.subarray(udp)), udp + 6);
  return bytes;
}

function wholeBytesOf({ atSink, bytesAtSink }: Outcome, hash: string, from: string): string | undefined {
  const facts = atSink.find(({ ip, udp }) => udp?.payloadHash === hash && `${ip?.from}:${udp.fromPort}` === from);
  const bytes = facts && bytesAtSink[facts.frame - 1];
  return bytes && comparable(bytes.subarray(ETHERNET_HEADER));
}

/** An IP checksum of 0 may be written as 0xffff as well. */
function comparable(packet: Buffer): string {
  const checksum = packet.readUInt16BE(10) || 0xffff;
  return `${packet.subarray(0, 10).toString('hex')} ${checksum.toString(16)} ${packet.subarray(12).toString('hex')}`;
}
