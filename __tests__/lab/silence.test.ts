// SPDX-License-Identifier: Apache-2.0
// A mirror gateway is silent: whatever else the mirror carries, nothing leaves but translated datagrams, nobody is
// answered, and nothing about the gateway changes. Then 10 000 frames that no host would send, half of them with a lower
// egress MTU, and it still works.
import { randomInt } from 'node:crypto';
import { type Outcome } from '../../lab/packets/exchange';
import {
  arp,
  dhcpOffer,
  icmp,
  icmpRedirect,
  igmpQuery,
  ipv6Udp,
  neighbourSolicitation,
  routerAdvertisement,
  tcpSyn,
} from '../../lab/packets/unmatched';
import { describeFacts, decode, payloadHash } from '../../lab/packets/decode';
import { ENGINES, isDirect, isXdp, longestDatagram, maxPacketSize } from '../../lab/namespaces/engines';
import { deploy, LAB } from '../../lab/namespaces/namespaces';
import {
  deterministicBytes,
  ethernet,
  ETHERTYPE,
  FOREIGN_MACS,
  type MirrorOptions,
  Packet,
} from '../../lab/packets/packet';
import { Capture, send } from '../../lab/packets/traffic';
import { Random } from '../support/random';
import { countersOf, EGRESS_MTUS, expectDelivered, gatewayState, mirror, untranslated, useLab } from './gateway';

const FROM = '198.51.100.7:40000';
const TO = '203.0.113.9:31765';
const BETWEEN = { from: '198.51.100.7', to: '203.0.113.9' };
const GATEWAY = LAB.secondary.address;
const MULTICAST_MAC = '01:00:5e:01:02:03';
const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';
const ROUTER = 'fe80::1';

/** Which counter tells of a frame; none for what the kernel's VXLAN device does not even take. */
type Counter = 'frames_unmatched' | 'fragments_seen' | 'packets_seen' | 'none';

interface Case {
  readonly name: string;
  readonly inner: Packet | Buffer;
  readonly counter: Counter;
  readonly outer?: MirrorOptions;
}

const large = Packet.udp({ from: FROM, to: TO }).totalLength(1428).df();
const to = (endpoint: string): Packet => Packet.udp({ from: FROM, to: endpoint }).totalLength(1428).df();
/** Sources that the gateway could answer without its router: on both of its networks, known and unknown there. */
const NEAR = [LAB.source.address, '10.77.0.66', LAB.sink.address, '10.88.0.66'];
const toGateway = { from: BETWEEN.from, to: GATEWAY };

function yields(counter: Counter, cases: Record<string, Packet | Buffer>, outer?: MirrorOptions): Case[] {
  return Object.entries(cases).map(([name, inner]) => ({ name, inner, counter, outer }));
}

const OTHER_PORTS = [0, 1, 4789, 8079, 8081, 31764, 31766, 0x157c];
const YIELD_NOTHING: readonly Case[] = [
  ...OTHER_PORTS.map((port) => ({
    name: `UDP to port ${port}`,
    inner: to(`203.0.113.9:${port}`),
    counter: 'frames_unmatched' as const,
  })),
  ...yields('frames_unmatched', {
    'a datagram from the target port to another': Packet.udp({ from: '198.51.100.7:31765', to: '203.0.113.9:40000' }),
    'UDP to a port of the gateway': to(`${GATEWAY}:8079`),
    'a mirror packet inside the mirror': mirror(large),
    'a TCP connection to the target port': tcpSyn(BETWEEN, 31765),
    'a large TCP segment with DF': tcpSyn(BETWEEN, 31765, 1500).df(),
    'a TCP connection to the gateway': tcpSyn(toGateway, 22),
    'an ICMP echo request': icmp(BETWEEN),
    'an ICMP echo request to the gateway': icmp(toGateway),
    'an ICMP redirect for the sink': icmpRedirect(toGateway, '10.88.0.66', LAB.sink.address),
    'an ICMP fragmentation-needed message to the gateway': icmp(toGateway, 3, 4, Buffer.alloc(36)),
    'an ICMP address mask request to the gateway': icmp(toGateway, 17),
    'UDP-Lite to the target port': large.protocol(136),
    'SCTP to the target port': large.protocol(132),
    GRE: large.protocol(47),
    'IPv4 in IPv4': large.protocol(4),
    'IPv6 UDP to the target port': ipv6Udp('2001:db8::7', '2001:db8::9', 31765),
    'a router advertisement': routerAdvertisement(ROUTER, '2001:db8:5::'),
    'an IPv6 neighbour solicitation': neighbourSolicitation(ROUTER, 'fe80::9'),
    'an ARP request for the gateway': arp({ from: '10.88.0.66', to: GATEWAY }),
    "an ARP request for the gateway's primary address": arp({ from: '10.77.0.66', to: LAB.primary.address }),
    "an ARP reply that claims the sink's address": arp({ from: LAB.sink.address, to: GATEWAY }, { reply: true }),
    "a gratuitous ARP for the gateway's own address": arp({ from: GATEWAY, to: GATEWAY }),
    'a DHCP offer to everybody': dhcpOffer('10.88.0.1', '10.88.0.99'),
    'a DHCP offer to the gateway': dhcpOffer('10.88.0.1', '10.88.0.99', LAB.secondary.mac),
    'an IGMP query': igmpQuery(BETWEEN.from),
    'a datagram to an IP multicast group': to('239.1.2.3:31765').macs(FOREIGN_MACS.source, MULTICAST_MAC),
    'a datagram to an IP multicast group, unicast MAC': to('239.1.2.3:31765'),
    'a datagram to a multicast MAC, unicast IP': large.macs(FOREIGN_MACS.source, MULTICAST_MAC),
    'a datagram to the broadcast MAC, unicast IP': large.macs(FOREIGN_MACS.source, BROADCAST_MAC),
    'a datagram to everybody': to('255.255.255.255:31765').macs(FOREIGN_MACS.source, BROADCAST_MAC),
    'a datagram to everybody, unicast MAC': to('255.255.255.255:31765'),
    'a datagram to the loopback address': to('127.0.0.1:31765'),
    'a datagram to no address': to('0.0.0.0:31765'),
    'an 802.1Q-tagged datagram': large.vlan(5),
    'an 802.1Q-tagged datagram of the default VLAN': large.vlan(1),
    'a priority-tagged datagram (VLAN 0)': large.vlan(0xe000),
    'a small priority-tagged datagram (VLAN 0)': large.totalLength(100).vlan(0),
    'an 802.1ad-tagged datagram': large.vlan(5, ETHERTYPE.qinq),
    'an 802.1ad priority tag': large.vlan(0, ETHERTYPE.qinq),
    'a doubly tagged datagram': large.vlan(7, ETHERTYPE.qinq).vlan(5),
    'a doubly priority-tagged datagram': large.vlan(0, ETHERTYPE.qinq).vlan(0),
    'an old-style QinQ tag': large.vlan(5, 0x9100),
    'a tagged router advertisement': tagged(routerAdvertisement(ROUTER, '2001:db8:6::')),
    'a spanning tree frame': ethernet({ destination: '01:80:c2:00:00:00', type: 38, payload: Buffer.alloc(46, 0x42) }),
    'an EtherType nobody knows': large.etherType(0x88b6),
  }),
  ...yields('fragments_seen', {
    'a first fragment': large.mf().df(false),
    'a first fragment with DF': large.mf(),
    'a small first fragment': large.totalLength(60).mf(),
    'a middle fragment whose payload looks like the port': large.mf().fragmentOffset(172),
    'a last fragment whose payload looks like the port': large.fragmentOffset(344),
    'a last fragment of one unit': large.totalLength(60).df(false).fragmentOffset(1),
    'a fragment at the highest offset': large.totalLength(36).fragmentOffset(0x1fff),
  }),
  ...yields('packets_seen', {
    'TTL 1, DF': large.ttl(1),
    'TTL 0, DF': large.ttl(0),
    'TTL 1, small': large.totalLength(100).ttl(1),
    'TTL 0, small': large.totalLength(100).ttl(0),
    'TTL 1, jumbo without DF': large.totalLength(8900).df(false).ttl(1),
    'TTL 1 to the gateway': to(`${GATEWAY}:31765`).ttl(1),
    ...Object.fromEntries(
      NEAR.map((address) => [`TTL 1 from ${address}`, Packet.udp({ from: `${address}:9`, to: TO }).ttl(1)]),
    ),
  }),
  // Of IEEE 802's link-local addresses a bridge keeps all but this one's neighbour, spanning tree, from its rules.
  ...yields('none', {
    'an LLDP frame': ethernet({ destination: '01:80:c2:00:00:0e', type: 0x88cc, payload: Buffer.alloc(46) }),
    'a pause frame': ethernet({ destination: '01:80:c2:00:00:01', type: 0x8808, payload: Buffer.alloc(46, 1) }),
  }),
  ...yields('none', { 'another VNI': large }, { vni: 2 }),
  ...yields('none', { 'VNI 0': large }, { vni: 0 }),
  ...yields('none', { 'a VNI that is 1 in another byte order': large }, { vni: 0x010000 }),
  ...yields('none', { 'VXLAN without its I flag': large }, { vxlanFlags: 0 }),
  ...yields('none', { 'VXLAN with every flag but I': large }, { vxlanFlags: 0xf7 }),
];

function tagged(frame: Buffer): Buffer {
  return Buffer.concat([frame.subarray(0, 12), Buffer.from([0x81, 0, 0, 0]), frame.subarray(12)]);
}

/** Datagrams to the target port that the gateway may forward or not, but has nothing to say about. */
const MAY_PASS: Record<string, Packet> = {
  'record route': large.options(Buffer.from([7, 7, 4, 0, 0, 0, 0])),
  'record route, full': large.options(Buffer.from([7, 7, 8, 1, 2, 3, 4])),
  'record route, overflowing': large.options(Buffer.from([7, 6, 4, 0, 0, 0])),
  'loose source route': large.options(Buffer.from([0x83, 7, 4, 10, 88, 0, 95])),
  'loose source route through the gateway': to(`${GATEWAY}:31765`).options(Buffer.from([0x83, 7, 4, 10, 88, 0, 95])),
  'strict source route': large.options(Buffer.from([0x89, 7, 4, 10, 88, 0, 95])),
  'two source routes': large.options(Buffer.from([0x83, 3, 4, 0x89, 3, 4])),
  timestamps: large.options(Buffer.from([0x44, 12, 5, 1, ...Array<number>(8).fill(0)])),
  'timestamps, full': large.options(Buffer.from([0x44, 4, 5, 0xf0])),
  'timestamps, pointer inside the header': large.options(Buffer.from([0x44, 8, 1, 0, 0, 0, 0, 0])),
  'router alert': large.options(Buffer.from([0x94, 4, 0, 0])),
  'commercial security': large.options(Buffer.from([0x86, 6, 0, 0, 0, 1])),
  'an option of length 0': large.options(Buffer.from([0x88, 0, 0, 0])),
  'an option of length 1': large.options(Buffer.from([0x88, 1, 0, 0])),
  'an option longer than the header': large.options(Buffer.from([0x88, 40, 0, 0])),
  'an option without its length byte': large.options(Buffer.from([1, 1, 1, 0x88])),
  'a source in the loopback network': Packet.udp({ from: '127.0.0.1:9', to: TO }).totalLength(1428).df(),
  'a source of zeros': Packet.udp({ from: '0.0.0.0:9', to: TO }).totalLength(1428).df(),
  'a broadcast source': Packet.udp({ from: '255.255.255.255:9', to: TO }).totalLength(1428).df(),
  'a multicast source': Packet.udp({ from: '224.0.0.1:9', to: TO }).totalLength(1428).df(),
  "the gateway's own address as source": Packet.udp({ from: `${GATEWAY}:9`, to: TO })
    .totalLength(1428)
    .df(),
  "the gateway's primary address as source": Packet.udp({ from: `${LAB.primary.address}:9`, to: TO }).totalLength(1428),
  "the mirror source's address as source": Packet.udp({ from: `${LAB.source.address}:9`, to: TO }).totalLength(1428),
  "the sink's address as source": Packet.udp({ from: `${LAB.sink.address}:9`, to: TO })
    .totalLength(1428)
    .df(),
  'to the gateway itself': to(`${GATEWAY}:31765`),
  "to the gateway's primary address": to(`${LAB.primary.address}:31765`),
  'from port 0': Packet.udp({ from: '198.51.100.7:0', to: TO }).totalLength(1428).df(),
  "from the gateway's MAC": large.macs(LAB.secondary.mac, FOREIGN_MACS.destination),
  "to the gateway's MAC": large.macs(FOREIGN_MACS.source, LAB.secondary.mac),
  'an echo reply by UDP': Packet.udp({ from: '198.51.100.7:7', to: TO }).totalLength(8900).df(),
};

const MALFORMED: Record<string, Packet> = {
  'UDP length 7': large.udpLength(7),
  'UDP length 0': large.udpLength(0),
  'UDP length beyond the IP packet': large.udpLength(1409),
  'UDP length short of the IP packet': large.udpLength(100),
  'IP checksum wrong': large.ipChecksum(0x1234),
  'IP checksum 0xffff': large.ipChecksum(0xffff),
};

// --- frames that no host sends --------------------------------------------------------------------------------------

const SEED = Number(process.env.LAB_SEED ?? randomInt(2 ** 31));
/** With each egress MTU. */
const MALFORMED_COUNT = 5_000;

/** Always at least an Ethernet header: the VXLAN device discards less than that unseen. */
function malformedFrame(dice: Random): Buffer {
  const valid = large.id(dice.below(0x10000));
  const kinds = [
    () => valid.truncate(14 + dice.below(1428)).build(),
    () => deterministicBytes(14 + dice.below(1400), dice.below(2 ** 31)),
    () => ethernet({ type: ETHERTYPE.ipv4, payload: deterministicBytes(dice.below(200), dice.below(2 ** 31)) }),
    () => valid.ihl(dice.below(5)).build(),
    () => valid.version(dice.pick([0, 1, 2, 3, 5, 6, 7, 15])).build(),
    () => valid.claimTotalLength(1429 + dice.below(64_000)).build(),
    () => valid.claimTotalLength(dice.below(28)).build(),
    () =>
      valid
        .ipChecksum(dice.below(0x10000) | 1)
        .udpLength(dice.below(0x10000))
        .build(),
    () =>
      valid
        .ihl(6 + dice.below(10))
        .ipChecksum(dice.below(0x10000))
        .build(),
    () => flipBits(valid.build(), dice),
  ] as const;
  return dice.pick(kinds)();
}

/** Between the Ethernet type and the end of the UDP header; the IP checksum does not follow. */
function flipBits(frame: Buffer, dice: Random): Buffer {
  for (let flips = 1 + dice.below(4); flips > 0; flips--) {
    const at = 12 + dice.below(30);
    frame.writeUInt8(frame.readUInt8(at) ^ (1 << dice.below(8)), at);
  }
  return frame;
}

/** The bridge refuses a multicast source address before any rule, and any counter, meets the frame. */
function hasMulticastSource(frame: Buffer): boolean {
  return (frame.readUInt8(6) & 1) === 1;
}

describe.each(ENGINES)('engine %s', (engine) => {
  const lab = useLab(engine);
  const yieldNothing = YIELD_NOTHING.filter(({ inner }) => lengthOf(inner) <= longestDatagram(engine));

  function expectSilence(outcome: Outcome, egressMtu?: number): void {
    expect(untranslated(outcome.atSink, egressMtu)).toEqual([]);
    expect(outcome.strayAtSource.map(describeFacts)).toEqual([]);
  }

  describe.each(Object.entries(EGRESS_MTUS))('%s, with an egress MTU of %i', (_, egressMtu) => {
    beforeAll(async () => {
      if (egressMtu !== EGRESS_MTUS.whole) await lab.setEgressMtu(egressMtu);
    });

    describe('yields nothing at all', () => {
      let outcome: Outcome;
      let delta: Awaited<ReturnType<typeof countersOf>>;
      let states: string[];
      beforeAll(async () => {
        const frames = yieldNothing.map(({ inner, outer }, n) => mirror(identified(inner, n), outer));
        const before = await gatewayState();
        delta = await countersOf(async () => {
          outcome = await lab.send(frames);
        });
        states = [before, await gatewayState()];
      });

      // What carries no IP id, or was given another and no payload that is known, cannot be told apart at the sink: any of it
      // fails "nothing but silence" below.
      it.each(yieldNothing)('for $name', ({ name }) => {
        const at = yieldNothing.findIndex((each) => each.name === name);
        const marks = marksOf(yieldNothing[at]?.inner, at);
        const cameOut = outcome.atSink.filter(({ ip, udp }) => marks.has(ip?.id) || marks.has(udp?.payloadHash));
        expect(cameOut.map(describeFacts)).toEqual([]);
      });

      it('and nothing but silence is on either wire', () => {
        expect(outcome.atSink.map(describeFacts)).toEqual([]);
        expect(outcome.received).toEqual([]);
        expectSilence(outcome, egressMtu);
      });

      it('and every frame is counted as what it is', () => {
        const expected = (counter: Counter): number => yieldNothing.filter((each) => each.counter === counter).length;
        // The direct engine sees all that comes in its VXLAN, not only what the bridge steers up.
        const ours = yieldNothing.filter(({ outer }) => outer === undefined).length;
        expect(delta).toMatchObject({
          frames_unmatched: expected('frames_unmatched'),
          fragments_seen: expected('fragments_seen'),
          packets_seen: (isDirect(engine) ? ours : expected('packets_seen')) + 1,
          packets_malformed: 0,
        });
      });

      it('and the gateway is as it was', () => {
        expect(states[1]).toBe(states[0]);
      });
    });

    it('sends nothing but translated datagrams, whatever the headers of those to the target port', async () => {
      const before = await gatewayState();
      const packets = [...Object.values(MAY_PASS), ...Object.values(MALFORMED)];
      const fitting = packets.filter((packet) => lengthOf(packet) <= longestDatagram(engine));
      const small = packets.map((packet) => packet.totalLength(200));
      const outcome = await lab.send([...fitting, ...small].map((packet, n) => mirror(packet.id(n + 1))));
      expectSilence(outcome, egressMtu);
      expect(await gatewayState()).toBe(before);
    });

    it(`survives ${MALFORMED_COUNT} truncated, random and malformed frames unchanged (LAB_SEED=${SEED})`, async () => {
      const dice = new Random(SEED + egressMtu);
      const inner = Array.from({ length: MALFORMED_COUNT }, () => malformedFrame(dice));
      const countable = inner.filter((frame) => !hasMulticastSource(frame)).length + 1;
      const before = await gatewayState();
      let outcome: Outcome | undefined;
      const delta = await countersOf(async () => {
        outcome = await lab.send(
          inner.map((frame) => mirror(frame)),
          { packetsPerSecond: 4000 },
        );
      });
      if (outcome) expectSilence(outcome, egressMtu);
      const {
        frames_unmatched: unmatched,
        packets_malformed: malformed,
        fragments_seen: fragments,
        packets_seen: seen,
      } = delta;
      // What XDP sees and finds malformed is counted twice: it was steered to XDP first.
      const counted = unmatched + malformed + fragments + seen;
      if (isXdp(engine)) expect(counted).toBeGreaterThanOrEqual(countable);
      else expect(counted).toBe(countable);
      expect(malformed).toBeGreaterThan(MALFORMED_COUNT / 3);
      expect(await gatewayState()).toBe(before);
    });
  });

  // The egress MTU is still the lower one: with the other, all of them would leave.
  it('says nothing about datagrams that keep their DF and do not fit', async () => {
    await deploy('config', 'set', 'max_packet_size=2000');
    const before = await gatewayState();
    const tooLarge = [2001, 2776, longestDatagram(engine)].map((length) => large.totalLength(length));
    const variants = tooLarge.flatMap((packet) => [
      packet,
      packet.udpChecksum('zero'),
      packet.options(Buffer.alloc(4, 1)),
    ]);
    variants.push(
      ...NEAR.map((address) =>
        Packet.udp({ from: `${address}:9`, to: TO })
          .totalLength(2776)
          .df(),
      ),
    );
    const outcome = await lab.send(variants.map((packet, n) => mirror(packet.id(n + 1))));
    expect(outcome.atSink.map(describeFacts)).toEqual([]);
    expectSilence(outcome, EGRESS_MTUS.fragmented);
    expect(await gatewayState()).toBe(before);
    await deploy('config', 'set', `max_packet_size=${maxPacketSize(engine)}`);
  });

  it("answers nothing from the IPsec VM's side but the question for its address", async () => {
    const macs = { source: LAB.sink.mac, destination: LAB.secondary.mac };
    const addressed = (packet: Packet): Buffer => packet.macs(macs.source, macs.destination).build();
    const fromSink = { from: LAB.sink.address, to: GATEWAY };
    const datagram = Packet.udp({ from: `${LAB.sink.address}:9`, to: `${GATEWAY}:31765` })
      .totalLength(1428)
      .df();
    const frames = [
      ...[icmp(fromSink), tcpSyn(fromSink, 22), tcpSyn(fromSink, 8079), datagram, datagram.ttl(1)].map(addressed),
      ...[31765, 4789, 9].map((port) =>
        addressed(
          Packet.udp({ from: `${LAB.sink.address}:9`, to: `198.51.100.7:${port}` })
            .totalLength(1400)
            .df(),
        ),
      ),
      routerAdvertisement(ROUTER, '2001:db8:7::'),
      addressed(igmpQuery(LAB.sink.address)),
    ];
    const before = await gatewayState();
    const captures = await Promise.all([Capture.start(LAB.source), Capture.start(LAB.sink)]);
    await send(LAB.sink, [...frames, arp(fromSink, { mac: LAB.sink.mac })]);
    const isReply = (frame: Buffer): boolean => frame.readUInt16BE(12) === ETHERTYPE.arp && frame.readUInt8(21) === 2;
    await captures[1]?.see('an ARP reply', isReply);
    const [atSource = [], atSink = []] = await Promise.all(captures.map((capture) => capture.stop()));
    expect((await decode(atSource)).map(describeFacts)).toEqual([]);
    expect(atSink).toHaveLength(frames.length + 2);
    expect(await gatewayState()).toBe(before);
  });

  it('survives every truncation of a mirror packet', async () => {
    const before = await gatewayState();
    const whole = mirror(large.totalLength(100));
    const inner = Array.from({ length: 114 }, (_, length) => mirror(large.totalLength(100).truncate(length)));
    const outer = Array.from({ length: 50 }, (_, length) => whole.subarray(0, 14 + length));
    const outcome = await lab.send([...inner, ...outer]);
    expectSilence(outcome, EGRESS_MTUS.fragmented);
    expect(outcome.atSink).toEqual([]);
    expect(await gatewayState()).toBe(before);
  });

  it('still forwards the next good datagram', async () => {
    const packet = large.id(7).totalLength(2852);
    const outcome = await lab.send([mirror(packet)]);
    expectDelivered(outcome, { packet, from: FROM, length: 2852 }, { egressMtu: EGRESS_MTUS.fragmented, engine });
  });
});

describe('a gateway whose network is down, where nobody listens on the VXLAN port', () => {
  useLab('standby');

  it('does not tell the mirror source so', async () => {
    await deploy('network-down');
    const capture = await Capture.start(LAB.source);
    await send(
      LAB.source,
      [1, 2, 3].map((id) => mirror(large.id(id))),
    );
    const frames = await capture.stop();
    expect(frames).toHaveLength(3);
    expect((await decode(frames)).filter(({ sourceMac }) => sourceMac === LAB.primary.mac)).toEqual([]);
  });
});

/** Identification and hash of the payload, by which a packet is known if it comes out after all. */
function marksOf(inner: Packet | Buffer | undefined, index: number): Set<unknown> {
  if (inner === undefined || Buffer.isBuffer(inner)) return new Set();
  return new Set([index + 1, payloadHash(inner.id(index + 1).data())]);
}

function identified(inner: Packet | Buffer, index: number): Packet | Buffer {
  return Buffer.isBuffer(inner) ? inner : inner.id(index + 1);
}

/** Of what follows the Ethernet header, in bytes. */
function lengthOf(inner: Packet | Buffer): number {
  return (Buffer.isBuffer(inner) ? inner : inner.build()).length - 14;
}
