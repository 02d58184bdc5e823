// SPDX-License-Identifier: Apache-2.0
// What the lab's tests share: the lab with one engine, exchanges with it, its counters, and what may be seen at the sink.
import { exchange, type ExchangeOptions, onto, type Outcome, type Path } from '../../lab/exchange';
import { inNamespace, must } from '../../lab/host';
import { type Datagram, describeFacts, type PacketFacts, payloadHash } from '../../lab/judge';
import { type Engine } from '../../lab/engines';
import { deploy, LAB, labDown, labUp } from '../../lab/namespaces';
import { type MirrorOptions, type Packet } from '../../lab/packet';
import { Receiver } from '../../lab/traffic';

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
export const EGRESS_MTU = 1400;

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

/** A lab from the first test of the enclosing `describe` to its last, with a UDP socket at the sink. */
export function useLab(engine: Engine): LabSession {
  const session = new LabSession();
  beforeAll(async () => {
    await labUp(engine);
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
export function untranslated(packets: readonly PacketFacts[]): string[] {
  return packets.filter((packet) => !isTranslated(packet)).map(describeFacts);
}

function isTranslated({ ip, udp, vlans, sourceMac, destinationMac }: PacketFacts): boolean {
  if (!ip || vlans.length > 0) return false;
  const addressed = sourceMac === LAB.secondary.mac && destinationMac === LAB.sink.mac && ip.to === LAB.sink.address;
  const isUdp = ip.protocol === 17 && (udp === undefined || udp.toPort === LAB.sink.port);
  return addressed && isUdp && ip.checksum === 'good' && ip.totalLength <= EGRESS_MTU;
}

/** What must have come of a datagram that the gateway forwards. */
export interface Expected {
  readonly packet: Packet;
  readonly id: number;
  readonly from: string;
  readonly length: number;
  readonly df?: boolean;
  readonly checksum?: 'good' | 'none';
  readonly tos?: number;
  readonly headerLength?: number;
}

/** Whole, from its source, with its id, in as many fragments as the egress MTU asks for, every checksum right. */
export function expectDelivered(outcome: Outcome, expected: Expected): Datagram {
  const { packet, id, from, length, df = false, checksum = 'good', tos = 0, headerLength = 20 } = expected;
  const hash = payloadHash(packet.data());
  const found = outcome.datagrams.filter((datagram) => datagram.id === id && datagram.from === from);
  expect(found).toHaveLength(1);
  const [datagram] = found as [Datagram];
  expect(datagram).toMatchObject({ to: SINK, udp: { checksum, payloadHash: hash } });
  for (const fragment of datagram.fragments) {
    expect(fragment).toMatchObject({ from: from.split(':')[0], id, df, checksum: 'good', ttl: 63, tos });
    expect(fragment.totalLength).toBeLessThanOrEqual(EGRESS_MTU);
  }
  const carried = datagram.fragments.map((fragment) => fragment.totalLength - fragment.headerLength);
  expect(carried.reduce((sum, bytes) => sum + bytes)).toBe(length - headerLength);
  expect(datagram.fragments).toHaveLength(fragmentCount(length, headerLength));
  const received = outcome.received.filter(({ payloadHash: got }) => got === hash);
  expect(received).toEqual([{ from, length: packet.data().length, payloadHash: hash }]);
  return datagram;
}

/** All but the last fragment carry a multiple of 8 bytes. */
function fragmentCount(length: number, headerLength: number): number {
  if (length <= EGRESS_MTU) return 1;
  const room = EGRESS_MTU - headerLength;
  const each = room - (room % 8);
  return 1 + Math.ceil((length - headerLength - room) / each);
}
