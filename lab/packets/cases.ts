// SPDX-License-Identifier: Apache-2.0
// The mirrored packets that the demo and the VM tests send, each with what must come of it, and the verdict over what did.
// Every case has a source address of its own, and all have one IP identification, as Linux gives it to many a datagram with
// DF: whatever is seen at the sink tells by its source which case it belongs to, and by its identification who gave that.
import { type Outcome, type Path, exchange, onto } from './exchange';
import { arp, icmp, ipv6Udp, routerAdvertisement, tcpSyn } from './unmatched';
import { fragmentsOf } from '../../constructs/config/limits';
import { DEFAULT_EGRESS_MTU, type Engine, givesId, isDirect } from '../namespaces/engines';
import { sleep } from '../support/host';
import { type Datagram, describeFacts, type PacketFacts, payloadHash } from './decode';
import { deterministicBytes, type MirrorOptions, Packet } from './packet';
import { type Receiver, send } from './traffic';
import { type Computer, LIMIT } from '../vm/computer';
import { VM_LAB } from '../vm/surroundings';

const VM_PATH: Path = {
  source: VM_LAB.source,
  sink: VM_LAB.sink,
  outer: {
    from: VM_LAB.source.address,
    to: VM_LAB.primary.address,
    macs: { source: VM_LAB.source.mac, destination: VM_LAB.primary.mac },
  },
};

/** Of every mirrored datagram. */
const ID = 0;
const TARGET = '203.0.113.9';
const TARGET_PORT = 31765;
const TTL = 64;

type Fate = 'DF cleared' | 'delivered' | 'nothing';

export interface Case {
  readonly what: string;
  /** IP total length; of a frame that is not IPv4, the frame's. */
  readonly bytes: number;
  /** Undefined: not IPv4. */
  readonly df?: boolean;
  readonly fate: Fate;
  /** Source address of the mirrored packet. */
  readonly from: string;
  readonly frame: Buffer;
  /** Of the payload that must arrive. */
  readonly payloadHash?: string;
  readonly udpChecksum: 'good' | 'none';
}

export interface Verdict {
  readonly case: Case;
  readonly datagram?: Datagram;
  /** None: the case is right. */
  readonly problems: readonly string[];
}

// --- what goes in ---------------------------------------------------------------------------------------------------

type Build = (packet: Packet) => Packet;

function hasDf(packet: Packet): boolean {
  return (packet.ipPacket().readUInt16BE(6) & 0x4000) !== 0;
}

class Cases {
  readonly list: Case[] = [];

  private next(): string {
    return `198.51.100.${10 + this.list.length}`;
  }

  datagram(
    fate: Fate,
    bytes: number,
    what: string,
    build: Build = (packet) => packet.df(),
    options: MirrorOptions = {},
  ): this {
    const from = this.next();
    const plain = Packet.udp({ from: `${from}:40000`, to: `${TARGET}:${TARGET_PORT}` });
    const packet = build(plain.totalLength(bytes).id(ID)).seed(this.list.length);
    const inner = packet.ipPacket();
    const udpChecksum = inner.readUInt16BE((inner.readUInt8(0) & 15) * 4 + 6) === 0 ? 'none' : 'good';
    const frame = onto(VM_PATH, packet.build(), options);
    const sent = { frame, payloadHash: payloadHash(packet.data()), udpChecksum } as const;
    this.list.push({ what, bytes, df: hasDf(packet), fate, from, ...sent });
    return this;
  }

  nothing(what: string, make: (from: string) => Packet | Buffer): this {
    const from = this.next();
    const inner = make(from);
    const frame = Buffer.isBuffer(inner) ? inner : inner.build();
    const bytes = Buffer.isBuffer(inner) ? inner.length : inner.ipPacket().length;
    const df = Buffer.isBuffer(inner) ? undefined : hasDf(inner);
    this.list.push({ what, bytes, df, fate: 'nothing', from, frame: onto(VM_PATH, frame), udpChecksum: 'none' });
    return this;
  }
}

/**
 * Sizes at each bound and beyond, as IP total lengths; then what a mirror carries beside them.
 *
 * @param longest what reaches the gateway: longer ones are left out
 */
export function cases(longest: number): readonly Case[] {
  return allCases(longest).filter(({ bytes }) => bytes <= longest);
}

function allCases(longest: number): readonly Case[] {
  const to = TARGET;
  const options = Buffer.alloc(40, 1);
  return new Cases()
    .datagram('DF cleared', 1401, 'one byte more than min_packet_size')
    .datagram('DF cleared', 1428, 'a 1400-byte payload')
    .datagram('DF cleared', 1500, 'a full Ethernet frame')
    .datagram('DF cleared', 2776, 'just two full fragments of 1400 bytes')
    .datagram('DF cleared', 2852, 'three fragments of at most 1400 bytes')
    .datagram('DF cleared', 4500, 'four of them')
    .datagram('DF cleared', longest, 'the longest that reaches the gateway')
    .datagram('DF cleared', 2852, 'without a UDP checksum', (p) => p.df().udpChecksum('zero'))
    .datagram('DF cleared', 2852, 'IP options, IHL 15', (p) => p.options(options).df())
    .datagram('delivered', 2852, 'DF not set', (p) => p)
    .datagram('delivered', 1400, 'min_packet_size itself: DF stays')
    .datagram('delivered', 1399, 'small: DF stays')
    .datagram('delivered', 60, 'tiny: DF stays')
    .datagram('nothing', 1428, 'another VNI', undefined, { vni: 2 })
    .datagram('nothing', 1428, 'TTL 1', (p) => p.df().ttl(1))
    .datagram('nothing', 1428, '802.1Q tag', (p) => p.df().vlan(7))
    .datagram('nothing', 1428, 'first fragment', (p) => p.mf())
    .datagram('nothing', 1428, 'later fragment', (p) => p.fragmentOffset(185))
    .datagram('nothing', 1428, 'multicast frame', (p) => p.df().macs('0e:aa:00:00:00:01', '01:00:5e:00:00:fb'))
    .datagram('nothing', 1428, 'cut off after 300 bytes', (p) => p.df().truncate(300))
    .nothing('another port', (from) =>
      Packet.udp({ from: `${from}:40000`, to: `${to}:31766` })
        .totalLength(1428)
        .df(),
    )
    .nothing('TCP to the target port', (from) => tcpSyn({ from, to }, TARGET_PORT, 1428).df())
    .nothing('ICMP echo request', (from) => icmp({ from, to }).df())
    .nothing('ARP request', (from) => arp({ from, to: VM_LAB.secondary.address }))
    .nothing('IPv6 datagram', () => ipv6Udp('2001:db8::7', '2001:db8::9', TARGET_PORT))
    .nothing('IPv6 router advertisement', () => routerAdvertisement('fe80::1', '2001:db8:bad::'))
    .nothing('random bytes', () => deterministicBytes(600, 4711)).list;
}

// --- what came out --------------------------------------------------------------------------------------------------

/**
 * Sends all cases through the machine and checks each. `strays`: frames on either wire that belong to none.
 *
 * @param engine what carries the machine's traffic, and so gives identifications
 * @param longest what reaches the gateway
 * @param egressMtu the machine's
 */
export async function play(
  receiver: Receiver,
  engine: Engine,
  longest: number,
  egressMtu: number = DEFAULT_EGRESS_MTU,
): Promise<{ verdicts: Verdict[]; strays: string[] }> {
  const all = cases(longest);
  // The emulated machine may be busy with its boot: no faster than it can take them even then.
  const outcome = await exchange(
    VM_PATH,
    receiver,
    all.map(({ frame }) => frame),
    { packetsPerSecond: 50 },
  );
  const verdicts = all.map((each) => verdictOn(each, outcome, engine, egressMtu));
  return { verdicts, strays: strays(all, outcome) };
}

function verdictOn(each: Case, outcome: Outcome, engine: Engine, egressMtu: number): Verdict {
  const seen = outcome.atSink.filter(({ ip }) => ip?.from === each.from);
  const found = outcome.datagrams.filter(({ from }) => from.startsWith(`${each.from}:`));
  if (each.fate === 'nothing')
    return { case: each, problems: seen.map((facts) => `came out: ${describeFacts(facts)}`) };
  const [datagram] = found;
  if (datagram === undefined)
    return { case: each, problems: [`not delivered (${seen.length} of its packets came out)`] };
  return { case: each, datagram, problems: problemsOf(each, datagram, found.length, outcome, engine, egressMtu) };
}

function problemsOf(
  each: Case,
  datagram: Datagram,
  copies: number,
  outcome: Outcome,
  engine: Engine,
  egressMtu: number,
): string[] {
  const { fragments, udp } = datagram;
  const df = each.fate === 'delivered' && each.df === true;
  const pieces = fragmentsOf(each.bytes, egressMtu, fragments[0]?.headerLength);
  const received = outcome.received.filter((got) => got.payloadHash === each.payloadHash && got.from === datagram.from);
  const checks: [boolean, string][] = [
    [copies === 1, `delivered ${copies} times`],
    [datagram.from === `${each.from}:40000`, `its source became ${datagram.from}`],
    [datagram.to === `${VM_LAB.sink.address}:${VM_LAB.sink.port}`, `it went to ${datagram.to}`],
    [udp.payloadHash === each.payloadHash, 'its payload changed'],
    [udp.checksum === each.udpChecksum, `its UDP checksum is ${udp.checksum}`],
    [fragments.every((part) => part.checksum === 'good'), 'a wrong IP checksum'],
    [fragments.every((part) => part.df === df), df ? 'DF was cleared' : 'DF is set'],
    [fragments.every((part) => part.ttl === TTL - 1), 'a TTL other than one less'],
    [fragments.every((part) => part.totalLength <= egressMtu), `a fragment beyond ${egressMtu} bytes`],
    [fragments.length === pieces, `${fragments.length} packets instead of ${pieces}`],
    // What the direct engine passes up, for want of a neighbour say, has a number of the kernel's half.
    [df ? datagram.id === ID : isDirect(engine) || givesId(engine, datagram.id), `identification ${datagram.id}`],
    [df || !sharesId(datagram, outcome, engine), 'an identification that another datagram has as well'],
    [received.length === 1, `the UDP socket got it ${received.length} times`],
  ];
  return checks.filter(([right]) => !right).map(([, problem]) => problem);
}

/** Every case has a source of its own: where all sources share one counter, no two have the same, and else not many. */
function sharesId({ id }: Datagram, { datagrams }: Outcome, engine: Engine): boolean {
  const same = datagrams.filter((other) => other.id === id && !other.fragments[0]?.df).length;
  return same > (isDirect(engine) ? 2 : 1);
}

/**
 * The machine may resolve addresses on its two subnets, announce itself to IPv6 on its primary interface and talk to the
 * metadata service. All else that no case accounts for is a leak.
 */
function strays(all: readonly Case[], { atSink, strayAtSource }: Outcome): string[] {
  const expected = new Set(all.filter(({ fate }) => fate !== 'nothing').map(({ from }) => from));
  const ours: readonly string[] = [VM_LAB.secondary.mac, VM_LAB.sink.mac];
  const fromSink = atSink.filter(({ ip, protocols, sourceMac }) =>
    ip ? !expected.has(ip.from) : !(protocols.endsWith(':arp') && ours.includes(sourceMac)),
  );
  const local: readonly string[] = [VM_LAB.source.address, VM_LAB.primary.address, '169.254.169.254'];
  const isLocal = ({ ip, protocols, sourceMac }: PacketFacts): boolean => {
    if (ip) return ip.protocol !== 1 && local.includes(ip.from) && local.includes(ip.to);
    return protocols.endsWith(':arp') || (protocols.includes(':ipv6') && sourceMac === VM_LAB.primary.mac);
  };
  const atSource = strayAtSource.filter((facts) => !isLocal(facts));
  return [
    ...fromSink.map((facts) => `at the sink: ${describeFacts(facts)}`),
    ...atSource.map((facts) => `at the source: ${describeFacts(facts)}`),
  ];
}

/** Knocks every second from power-on; resolves with the seconds until the first datagram was delivered. */
export async function firstDatagram(vm: Computer, receiver: Receiver): Promise<number> {
  const from = '192.0.2.77';
  const knock = Packet.udp({ from: `${from}:40000`, to: `${TARGET}:${TARGET_PORT}` })
    .totalLength(1428)
    .df();
  const arrived = (): boolean => receiver.datagrams.some((datagram) => datagram.from === `${from}:40000`);
  for (let id = 1; !arrived(); id++) {
    if (Date.now() - vm.bootedAt > LIMIT.cloudInit * 1000)
      throw new Error(`no datagram delivered within ${LIMIT.cloudInit} s`);
    await send(VM_PATH.source, [onto(VM_PATH, knock.id(id & 0xffff).build())]);
    await sleep(950);
  }
  return (Date.now() - vm.bootedAt) / 1000;
}
