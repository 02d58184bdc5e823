// SPDX-License-Identifier: Apache-2.0
// The direct engine beside the bridge engine: whatever comes in, in both modes the same frames leave as without it.
// GENERATED sets how many frames each engine gets, SEED brings back a run that failed.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { exchange, type ExchangeOptions, onto, type Outcome } from '../../lab/packets/exchange';
import { must, REPOSITORY } from '../../lab/support/host';
import { givesId } from '../../lab/namespaces/engines';
import { type Datagram, payloadHash } from '../../lab/packets/decode';
import {
  ETHERNET_HEADER,
  ETHERTYPE,
  internetChecksum,
  macBytes,
  Packet,
  transportChecksum,
} from '../../lab/packets/packet';
import {
  ADDRESSES,
  MinimalGateway,
  type MinimalEngine,
  type MinimalGatewayOptions,
} from '../../lab/namespaces/minimal-gateway';
import { Capture, Receiver, send } from '../../lab/packets/traffic';
import { Random } from '../support/random';
import { sharedIds } from './gateway';
import { type Generated, generate } from './mirror-generator';

const SEED = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const GENERATED = Number(process.env.GENERATED ?? 4_000);
/** At least two, for the default egress MTU and a smaller one. */
const BATCH = Math.min(10_000, Math.ceil(GENERATED / 2));
const EGRESS_MTU = 9001;
/** So few identifications that each host uses them again and again: what keeps its own is mixed up with others. */
const IDS = 500;
const PACKETS_PER_SECOND = 6_000;
/** Of IP packets inside a mirror: what fits the MTU of a driver with XDP, and a jumbo frame. */
const LONGEST = { driver: 3434, other: 8900 };

const gateway = new MinimalGateway(`mgd${process.pid}`);
beforeAll(() => gateway.up());
afterAll(() => gateway.down());

const ID = 18;
const FLAGS = 20;
const DF = 0x4000;

/**
 * What the gateway sends: a line a datagram, the frames that it came in beside each other; sorted. Order has its own test.
 * Identifications that the gateway gave are no part of it, so that engines can be compared, but what they hold together is.
 */
async function through(
  engine: MinimalEngine,
  options: MinimalGatewayOptions,
  frames: readonly Buffer[],
): Promise<string[]> {
  await gateway.use(engine, options);
  const capture = await Capture.start(gateway.path.sink);
  await send(gateway.path.source, frames, PACKETS_PER_SECOND).catch(async (error: Error) => {
    await capture.abort();
    throw error;
  });
  await new Promise((done) => setTimeout(done, 300));
  const sink = macBytes(ADDRESSES.sink.mac);
  const sent = (await capture.stop()).filter((frame) => !frame.subarray(6, 12).equals(sink));
  const datagrams = new Map<string, string[]>();
  sent.forEach((frame, at) => {
    const given = isGiven(frame);
    // Source and identification, as whoever reassembles goes by them.
    const key = given ? `${frame.toString('hex', 26, 30)} ${frame.readUInt16BE(ID)}` : `frame ${at}`;
    datagrams.set(key, [...(datagrams.get(key) ?? []), (given ? withoutId(frame) : frame).toString('hex')]);
  });
  return [...datagrams.values()].map((each) => each.sort().join(' ')).sort();
}

/** Of what has no DF any more, the identification is the gateway's. */
function isGiven(frame: Buffer): boolean {
  return frame.readUInt16BE(12) === ETHERTYPE.ipv4 && (frame.readUInt16BE(FLAGS) & DF) === 0;
}

/** Zero in its place; in place of the IP checksum what is wrong with it, zero if nothing is. */
function withoutId(frame: Buffer): Buffer {
  const copy = Buffer.from(frame);
  const header = frame.subarray(ETHERNET_HEADER, ETHERNET_HEADER + (frame.readUInt8(ETHERNET_HEADER) & 15) * 4);
  copy.writeUInt16BE(internetChecksum(header), ETHERNET_HEADER + 10);
  copy.writeUInt16BE(0, ID);
  return copy;
}

/** Lines that only one of two sorted lists has. */
function only(these: readonly string[], those: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of those) counts.set(line, (counts.get(line) ?? 0) + 1);
  return these.filter((line) => {
    const left = counts.get(line) ?? 0;
    counts.set(line, left - 1);
    return left <= 0;
  });
}

function explain(frames: readonly Generated[], lines: readonly string[]): string[] {
  return lines.slice(0, 5).map((line) => {
    const [first = ''] = line.split(' ');
    const sent = Buffer.from(first, 'hex');
    const [source, data] = [sent.subarray(26, 30), sent.subarray(ETHERNET_HEADER + 28)];
    const from = frames.find(({ frame }) => frame.includes(source) && frame.includes(data));
    return `${line.slice(0, 160)} (${first.length / 2} bytes first), ${from?.what}: ${from?.frame.toString('hex').slice(0, 300)}`;
  });
}

/** Every other time the default, under which nothing is fragmented. */
function randomOptions(random: Random, round: number): MinimalGatewayOptions {
  const smaller = random.pick([1400, 1400, 1400, 576, 577, 583, 1001, 1279, 1399, 1401, 1500] as const);
  const egressMtu = round % 2 ? smaller : EGRESS_MTU;
  const minPacketSize = random.pick([1400, 1400, 28, 575, 1500] as const);
  const maxPacketSize = random.pick([9000, 9000, 9000, 2000, 3000] as const);
  return { egressMtu, minPacketSize, maxPacketSize };
}

describe.each<[MinimalEngine, number]>([
  ['driver', LONGEST.driver],
  ['generic', LONGEST.driver],
  ['generic', LONGEST.other],
])('direct, %s, up to %i bytes', (engine, longest) => {
  test(`sends what the bridge engine sends, ${GENERATED} frames, seed ${SEED}`, async () => {
    const random = new Random(SEED);
    process.stderr.write(`direct ${engine}: ${GENERATED} frames, SEED=${SEED}\n`);
    for (let [done, round] = [0, 0]; done < GENERATED; round++) {
      const options = randomOptions(random, round);
      const count = Math.min(BATCH, GENERATED - done);
      const frames = Array.from({ length: count }, (_, at) => generate(random, at % IDS, longest));
      const bytes = frames.map(({ frame }) => frame);
      const expected = await through('bridge', options, bytes);
      const got = await through(engine, options, bytes);
      const missing = explain(frames, only(expected, got));
      const surplus = explain(frames, only(got, expected));
      expect({ options, missing, surplus }).toEqual({ options, missing: [], surplus: [] });
      expect(got.length).toBeGreaterThan(count / 5); // of the narrowest sizes that may be drawn
      process.stderr.write(
        `direct ${engine}: ${count} datagrams agree, ${got.length} of them sent, ${JSON.stringify(options)} ${JSON.stringify(await gateway.status())}\n`,
      );
      done += count;
    }
  });
});

const FROM = '198.51.100.7:40000';
const datagram = (length: number, id: number, from = FROM): Packet =>
  Packet.udp({ from, to: '203.0.113.9:31765' }).totalLength(length).id(id).df();

/** Two payload bytes are chosen so that the checksum over these addresses comes to nothing. */
function withZeroSum(packet: Packet): Packet {
  const { address, port } = ADDRESSES.sink;
  const payload = Buffer.from(packet.data());
  payload.writeUInt16BE(0, 0);
  const seen = Packet.udp({ from: FROM, to: `${address}:${port}` })
    .udpChecksum('zero')
    .payload(payload)
    .ipPacket();
  payload.writeUInt16BE(transportChecksum(FROM.split(':')[0] ?? '', address, Buffer.from(seen.subarray(20))), 0);
  return packet.payload(payload);
}

const COPIED = Buffer.from([0x88, 4, 0x12, 0x34]);
const NOT_COPIED = Buffer.from([0x1e, 4, 0x56, 0x78]);
const DELIVERED: readonly [string, Packet][] = [
  ...[28, 29, 60, 575, 576, 1399, 1400, 1401, 1428, 1500, 2772, 2773, 2776, 2777, 2852, 3433, 3434].map(
    (length): [string, Packet] => [`${length} bytes`, datagram(length, length)],
  ),
  ['without DF', datagram(2852, 1).df(false)],
  ['small, without DF', datagram(100, 2).df(false)],
  ['no UDP checksum', datagram(2852, 3).udpChecksum('zero')],
  ['small, no UDP checksum', datagram(100, 4).udpChecksum('zero')],
  ['a UDP checksum that translation would bring to zero', withZeroSum(datagram(2852, 5))],
  ['small, a UDP checksum that translation would bring to zero', withZeroSum(datagram(200, 6))],
  ['an option that is copied', datagram(2852, 7).options(COPIED).totalLength(2852)],
  ['an option that is not copied', datagram(2852, 8).options(NOT_COPIED).totalLength(2852)],
  [
    'both kinds and an end',
    datagram(2852, 9)
      .options(Buffer.concat([NOT_COPIED, COPIED, NOT_COPIED, Buffer.alloc(4)]))
      .totalLength(2852),
  ],
  [
    'a full header of options',
    datagram(3000, 10)
      .options(Buffer.concat(Array.from({ length: 5 }, () => [COPIED, NOT_COPIED]).flat()))
      .totalLength(3000),
  ],
  ['small, with options', datagram(120, 11).options(NOT_COPIED).totalLength(120)],
  ['TTL 2', datagram(1428, 12).ttl(2)],
  ['id 0', datagram(1428, 0)],
];

const MODES = ['driver', 'generic'] as const;

function idOf(packet: Packet): number {
  return packet.ipPacket().readUInt16BE(4);
}

/** What engines have in common. */
function apartFromId({ id, fragments, ...rest }: Datagram): object {
  return { ...rest, ...(fragments[0]?.df && { id }), fragments: fragments.map((each) => ({ ...each, id: undefined })) };
}

describe.each(MODES)('direct, %s', (mode) => {
  let receiver: Receiver;
  beforeAll(async () => {
    receiver = await Receiver.start(gateway.path.sink, ADDRESSES.sink.address, ADDRESSES.sink.port);
  });
  afterAll(() => receiver.stop());

  const exchanged = (packets: readonly Packet[], options: ExchangeOptions = {}): Promise<Outcome> =>
    exchange(
      gateway.path,
      receiver,
      packets.map((packet) => onto(gateway.path, packet.build())),
      options,
    );
  const hashes = (packets: readonly Packet[]): string[] => packets.map((packet) => payloadHash(packet.data()));
  /** Of the counters that grew. */
  async function countersOf(work: () => Promise<unknown>): Promise<Record<string, number>> {
    const before = await gateway.status();
    await work();
    const after = await gateway.status();
    return Object.fromEntries(
      Object.entries(after).flatMap(([name, value]) => {
        const grown = value - (before[name] ?? 0);
        return typeof value === 'number' && grown ? [[name, grown]] : [];
      }),
    );
  }

  describe.each([EGRESS_MTU, 1400])(
    'forwards with an egress MTU of %i, decoded by tshark and a socket',
    (egressMtu) => {
      let expected: Outcome;
      let got: Outcome;
      beforeAll(async () => {
        const packets = DELIVERED.map(([, packet]) => packet);
        await gateway.use('bridge', { egressMtu });
        expected = await exchanged(packets);
        await gateway.use(mode, { egressMtu });
        got = await exchanged(packets);
      });

      test.each(DELIVERED)('%s', (_name, packet) => {
        const hash = payloadHash(packet.data());
        const [whole, byBridge] = [got, expected].map(({ datagrams }) =>
          datagrams.filter(({ udp }) => udp.payloadHash === hash),
        );
        expect(whole).toHaveLength(1);
        expect(whole?.map(apartFromId)).toEqual(byBridge?.map(apartFromId));
        const [{ id, udp, fragments }] = whole as [Datagram];
        expect(udp.checksum).toMatch(/good|none/);
        expect(fragments.every((each) => each.checksum === 'good' && each.totalLength <= egressMtu)).toBe(true);
        expect(fragments.every((each) => each.id === id)).toBe(true);
        expect({ id, isRight: fragments[0]?.df ? id === idOf(packet) : givesId('direct/generic', id) }).toEqual({
          id,
          isRight: true,
        });
        expect(got.received.filter((each) => each.payloadHash === hash)).toHaveLength(1);
      });

      test('nothing else, no two under one identification, and says nothing to the source', () => {
        expect(got.received).toHaveLength(DELIVERED.length);
        expect(got.atSink).toHaveLength(expected.atSink.length);
        expect(sharedIds(got.datagrams)).toEqual([]);
        expect(sharedIds(expected.datagrams)).toEqual([]);
        expect(got.strayAtSource).toEqual([]);
      });
    },
  );

  /** Fragments of what must have come of a packet. */
  function fragmentsOf({ datagrams }: Outcome, packet: Packet): Datagram['fragments'] {
    const hash = payloadHash(packet.data());
    return datagrams.find(({ udp }) => udp.payloadHash === hash)?.fragments ?? [];
  }

  test('cuts into every number of fragments that it has room for, and leaves more to the kernel', async () => {
    const egressMtu = 400;
    const lengths = [400, 401, 773, 1149, 1525, 1901, 2277, 2653, 3029, 3408, 3409, 3434];
    await gateway.use(mode, { egressMtu, minPacketSize: 28 });
    const packets = lengths.map((length) => datagram(length, length));
    const counters = await countersOf(async () => {
      const outcome = await exchanged(packets);
      expect(outcome.received.map((each) => each.payloadHash).sort()).toEqual(hashes(packets).sort());
      const fragments = packets.map((packet) => fragmentsOf(outcome, packet));
      expect(fragments.map(({ length }) => length)).toEqual([1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10]);
      // What driver mode has no copies for, the kernel translates; what generic mode hands over is translated.
      const byKernel = mode === 'driver' ? 2 : 0;
      expect(fragments.filter(([first]) => first && !givesId('direct/generic', first.id))).toHaveLength(byKernel);
    });
    if (mode === 'driver') expect(counters).toMatchObject({ passed_too_long: 2, fragments_sent: 46 + 4, sent_cut: 10 });
    else expect(counters).toMatchObject({ handed_over: 4, fragments_sent: 29 + 4, sent_cut: 8 });
  });

  test('keeps the order within a flow', async () => {
    await gateway.use(mode);
    const lengths = [1428, 60, 2852, 1400, 3434, 100, 1401];
    const flow = Array.from({ length: 700 }, (_, n) => datagram(lengths[n % lengths.length] ?? 60, n));
    const { received, atSink, datagrams } = await exchanged(flow, { packetsPerSecond: 20_000 });
    expect(received.map((each) => each.payloadHash)).toEqual(hashes(flow));
    expect(datagrams.map(({ udp }) => udp.payloadHash)).toEqual(hashes(flow));
    expect(sharedIds(datagrams)).toEqual([]);
    atSink.forEach(({ ip }, n) => {
      const before = atSink[n - 1]?.ip;
      if (ip?.offset) expect([before?.id, (before?.offset ?? ip.offset) < ip.offset]).toEqual([ip.id, true]);
    });
  });

  test('follows the MTU of the bridge as it changes', async () => {
    await gateway.use(mode);
    await gateway.configure({ egressMtu: 900 });
    const packet = datagram(1428, 7);
    const outcome = await exchanged([packet]);
    expect(outcome.received).toHaveLength(1);
    expect(fragmentsOf(outcome, packet).map(({ totalLength }) => totalLength)).toEqual([900, 548]);
    await gateway.configure();
  });

  test('attached where nothing needs cutting, sends whole; what a lower MTU cuts later, arrives as well', async () => {
    await gateway.use(mode, { egressMtu: EGRESS_MTU });
    const packet = datagram(3434, 7);
    const pieces = async (): Promise<readonly number[]> => {
      const outcome = await exchanged([packet]);
      expect(outcome.received).toHaveLength(1);
      return fragmentsOf(outcome, packet).map(({ totalLength }) => totalLength);
    };
    expect(await pieces()).toEqual([3434]);
    await gateway.configure({ egressMtu: 1400 });
    expect(await pieces()).toEqual([1396, 1396, 682]);
    await gateway.configure();
  });

  test('leaves to the kernel what finds no neighbour, until there is one', async () => {
    await gateway.use(mode);
    await gateway.forgetSink();
    const packets = Array.from({ length: 50 }, (_, id) => datagram(1428, id));
    const counters = await countersOf(async () => {
      const { received } = await exchanged(packets, { packetsPerSecond: 100 });
      expect(received.map((each) => each.payloadHash)).toEqual(hashes(packets));
    });
    expect(counters.passed_no_neighbour).toBeGreaterThan(0);
    expect((counters.sent_cut ?? 0) + (counters.handed_over ?? 0)).toBeGreaterThan(40);
    await gateway.learnSink();
  });

  test.each([0, 50])('takes %i % of the flows, and leaves the others as they are', async (trafficPercent) => {
    await gateway.use(mode, { trafficPercent });
    const packets = Array.from({ length: 200 }, (_, id) =>
      datagram(id % 2 ? 1428 : 200, id, `198.51.100.7:${1000 + id}`),
    );
    let byKernel = 0;
    const counters = await countersOf(async () => {
      const { received, datagrams } = await exchanged(packets);
      expect(received.map((each) => each.payloadHash).sort()).toEqual(hashes(packets).sort());
      expect(sharedIds(datagrams)).toEqual([]);
      const given = datagrams.filter(({ fragments }) => !fragments[0]?.df);
      byKernel = given.filter(({ id }) => !givesId('direct/generic', id)).length;
    });
    const total = packets.length + 1;
    const { sent_whole = 0, sent_cut = 0, handed_over = 0, passed_share = 0 } = counters;
    expect(sent_whole + sent_cut + handed_over + passed_share).toBe(total);
    expect(Math.abs(passed_share / total - 1 + trafficPercent / 100)).toBeLessThan(0.1);
    const { packets_matched, packets_modified = 0, packets_left_to_netfilter = 0 } = counters;
    expect(packets_matched).toBe(101);
    expect(packets_modified + packets_left_to_netfilter).toBe(101);
    // Or one more, the marker.
    expect([byKernel, byKernel + 1]).toContain(packets_left_to_netfilter);
  });

  test('passes up what is larger than the MTU and keeps its DF; the kernel drops it in silence', async () => {
    await gateway.use(mode, { minPacketSize: 2000 });
    const counters = await countersOf(async () => {
      const outcome = await exchanged([datagram(1500, 1), datagram(2852, 2)], { markerLength: 2200 });
      expect(outcome.received).toHaveLength(1);
      expect(outcome.strayAtSource).toEqual([]);
    });
    expect(counters).toMatchObject({ passed_keeps_df: 1, packets_modified: 2 });
  });
});

/** Closed also when a test fails, or its port is taken for those that follow. */
async function withReceiver(work: (receiver: Receiver) => Promise<void>): Promise<void> {
  const receiver = await Receiver.start(gateway.path.sink, ADDRESSES.sink.address, ADDRESSES.sink.port);
  try {
    await work(receiver);
  } finally {
    await receiver.stop();
  }
}

test('engines and modes change under traffic: every datagram comes once and without DF', () =>
  withReceiver(async (receiver) => {
    await gateway.use('bridge');
    // More than half a minute: eight changes on a busy machine take that long.
    const packets = Array.from({ length: 18_000 }, (_, id) =>
      datagram(id % 2 ? 1428 : 2852, id, `198.51.100.7:${1000 + id}`),
    );
    const frames = packets.map((packet) => onto(gateway.path, packet.build()));
    let finished = false;
    const exchanged = exchange(gateway.path, receiver, frames, { packetsPerSecond: 500 }).finally(
      () => (finished = true),
    );
    exchanged.catch(() => undefined); // told below, unless another failure comes first
    for (const engine of ['generic', 'bridge', 'driver', 'generic', 'driver', 'standby', 'driver', 'bridge'] as const) {
      await gateway.use(engine);
      const target = receiver.datagrams.length + 100;
      await receiver.see(`100 datagrams with ${engine}`, () => receiver.datagrams.length >= target, 30_000);
    }
    expect(finished).toBe(false);
    const { received, datagrams: whole } = await exchanged;
    const got = received.map((each) => each.payloadHash).sort();
    // A veth that changes to driver mode or back throws away what is in its ring.
    expect(packets.length - got.length).toBeLessThan(10);
    expect(new Set(got).size).toBe(got.length);
    expect(whole.filter(({ fragments }) => fragments.some(({ df }) => df))).toEqual([]);
  }));

/** Every third datagram lacks the copy for its second fragment. Whether all others arrive, in order, and what is counted. */
async function loseCopies(object?: string): Promise<{ othersArrive: boolean; counters: Record<string, number> }> {
  const receiver = await Receiver.start(gateway.path.sink, ADDRESSES.sink.address, ADDRESSES.sink.port);
  try {
    await gateway.use('driver', { object });
    await gateway.losesCopy('tx_broadcast_3');
    const packets = Array.from({ length: 60 }, (_, id) => datagram(id % 3 ? 1428 : 2852, id));
    const frames = packets.map((packet) => onto(gateway.path, packet.build()));
    const capture = await Capture.start(gateway.path.sink);
    const before = receiver.datagrams.length;
    await send(gateway.path.source, frames, 1000, 0); // one processor's groups, so that most are needed again
    await capture.stop();
    const received = receiver.datagrams.slice(before).map((each) => each.payloadHash);
    const others = packets.filter((_, id) => id % 3).map((packet) => payloadHash(packet.data()));
    return { othersArrive: JSON.stringify(received) === JSON.stringify(others), counters: await gateway.status() };
  } finally {
    await receiver.stop();
  }
}

test('a copy that is never made does not disturb the next datagram', async () => {
  const { othersArrive, counters } = await loseCopies();
  expect(othersArrive).toBe(true);
  expect(counters).toMatchObject({ failed: 0, sent_cut: 60, fragments_sent: 40 * 2 + 20 * 2 });
  // The last ones are noticed when their place is needed.
  expect(counters.copies_lost).toBeGreaterThan(15);
  expect(counters.copies_lost).toBeLessThanOrEqual(20);
});

test('what comes from outside with the hand-over address is dropped, with the program and without it', () =>
  withReceiver(async (receiver) => {
    await gateway.use('generic');
    const { address, port } = ADDRESSES.sink;
    const forged = Packet.udp({ from: FROM, to: `${address}:${port}` })
      .totalLength(1000)
      .macs(await gateway.secret(), ADDRESSES.primary.mac)
      .build();
    const outcome = await exchange(gateway.path, receiver, [forged, forged]);
    expect(outcome.received).toEqual([]);
    expect(await gateway.status()).toMatchObject({ forged: 2 });
    await gateway.detach();
    expect((await exchange(gateway.path, receiver, [forged])).received).toEqual([]);
  }));

/** What is wrong with a program that the tests above must notice. */
const FAULTS: readonly { readonly name: string; readonly from: string; readonly to: string }[] = [
  { name: 'fragments of any length', from: '& ~7', to: '& ~3' },
  { name: 'more fragments never announced', from: 'flags = IP_MF;', to: 'flags = 0;' },
  { name: 'a fragment too few', from: 'mtu + each - 1) / each', to: 'mtu + each - 1) / (each + 8)' },
  {
    name: 'options that are not copied, copied',
    from: 'reader->is_copied = byte & 0x80;',
    to: 'reader->is_copied = 1;',
  },
  { name: 'a header sum that forgets changed options', from: 'diff = meta.options_diff;', to: 'diff = 0;' },
  { name: 'options that routers work on, carried', from: 'type == 7 /*', to: 'type == 255 /*' },
  { name: 'a UDP checksum made where there was none', from: 'if (udp->check) {', to: 'if (udp->check || 1) {' },
  {
    name: 'a UDP checksum that forgets the port',
    from: 'diff + checksum_diff(udp->dest, rules->ipsec_vm_port)',
    to: 'diff',
  },
  { name: 'a TTL that stays', from: 'old - bpf_htons(0x0100)', to: 'old' },
  { name: 'padding sent along', from: 'return !behind ||', to: 'return 1 || !behind ||' },
  {
    name: 'a wrong IP checksum mended',
    from: '!= 0xffff)\n\t\treturn PASS_MALFORMED;',
    to: '== 1)\n\t\treturn PASS_MALFORMED;',
  },
  { name: 'a wrong outer UDP checksum overlooked', from: 'if (outer->check &&', to: 'if (0 && outer->check &&' },
  { name: 'congestion marks overlooked', from: 'ip->tos & IP_ECN', to: '0' },
  {
    name: 'flags that VXLAN refuses overlooked',
    from: 'vxlan->flags == bpf_htonl(0x08000000)',
    to: 'vxlan->flags & bpf_htonl(0x08000000)',
  },
  { name: 'loopback as a source', from: 'network == 127', to: 'network == 255' },
  { name: 'our own address as a source', from: ' || address == rules->primary_ip', to: '' },
  { name: 'frames to a group', from: ' || is_group_mac(eth->h_dest)', to: '' },
  { name: 'an identification that stays', from: 'ip->id = id;', to: '' },
  {
    name: 'a header sum that forgets the identification',
    from: 'diff + frame->id_diff + extra_diff',
    to: 'diff + extra_diff',
  },
  { name: 'an outer length that lies', from: 'datagram->size + sizeof(struct ethhdr) > frame->length', to: '0' },
];

/** Of what generic mode does otherwise. */
const LAYOUT_FAULTS: typeof FAULTS = [
  { name: 'fragments one byte apart', from: 'length - (number + 1) * each', to: 'length - (number + 1) * each - 1' },
  { name: 'the last one with MF', from: 'is_last ? offset / 8 :', to: 'is_last ? offset / 8 | IP_MF :' },
  { name: 'options of the first in all', from: 'number ? later_options : ', to: '' },
  { name: 'a header sum that forgets options', from: 'number ? plan->options_diff : 0', to: '0' },
  { name: 'no end before the others', from: 'if (number && bpf_xdp_adjust_tail', to: 'if (0 && bpf_xdp_adjust_tail' },
];

describe('a program with a fault', () => {
  let folder: string;
  beforeAll(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mirror-gateway-faults-'))));
  afterAll(() => fs.rmSync(folder, { recursive: true }));

  const FRAMES = 4_000;
  const random = (): Random => new Random(4711);
  const options: MinimalGatewayOptions = { egressMtu: 577 };
  let frames: Buffer[];
  let expected: string[];
  beforeAll(async () => {
    const from = random();
    frames = Array.from({ length: FRAMES }, (_, at) => generate(from, at % IDS, LONGEST.driver).frame);
    expected = await through('bridge', options, frames);
  });

  test('or rather without one, is found to have none', async () => {
    expect(await through('driver', options, frames)).toEqual(expected);
  });

  /** The object of the program with the fault. */
  async function plant({ name, from, to }: (typeof FAULTS)[number]): Promise<string> {
    const root = path.join(folder, name.replaceAll(/\W+/g, '-'));
    const copy = path.join(root, 'bpf');
    fs.cpSync(path.join(REPOSITORY, 'bpf'), copy, { recursive: true, filter: (file) => !file.endsWith('.o') });
    for (const other of ['lib', 'userdata']) fs.symlinkSync(path.join(REPOSITORY, other), path.join(root, other));
    const headers = fs.readdirSync(path.join(copy, 'xdp')).map((header) => path.join(copy, 'xdp', header));
    const sources = [path.join(copy, 'udp_df_direct.bpf.c'), ...headers].filter((file) =>
      fs.readFileSync(file, 'utf8').includes(from),
    );
    if (sources.length === 0) throw new Error(`the direct program no longer has "${from}": plant the fault elsewhere`);
    for (const file of sources) fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replaceAll(from, to));
    await must('make', ['-C', copy, 'udp_df_direct.bpf.o']);
    return path.join(copy, 'udp_df_direct.bpf.o');
  }

  test.each([
    ...FAULTS.map((fault) => ({ ...fault, mode: 'driver' as const })),
    ...LAYOUT_FAULTS.map((fault) => ({ ...fault, mode: 'generic' as const })),
  ])('$name, in $mode mode: is found', async ({ mode, ...fault }) => {
    const got = await through(mode, { ...options, object: await plant(fault) }, frames);
    expect([...only(expected, got), ...only(got, expected)]).not.toEqual([]);
  });

  test('a count that goes on where copies were lost: is found', async () => {
    const from = 'if (group->sequence != meta->sequence) {';
    const object = await plant({ name: 'count', from, to: 'if (group->seen >= group->fragments) {' });
    expect((await loseCopies(object)).othersArrive).toBe(false);
  });
});
