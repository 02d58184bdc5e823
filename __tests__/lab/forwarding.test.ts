// SPDX-License-Identifier: Apache-2.0
// The job, engine by engine: which mirrored datagrams come out at the sink, and that they come out right.
import { type Outcome } from '../../lab/exchange';
import { must } from '../../lab/host';
import { payloadHash } from '../../lab/judge';
import { ENGINES, isXdp, longestDatagram, maxPacketSize, statusOf } from '../../lab/engines';
import { deploy, LAB } from '../../lab/namespaces';
import { deterministicBytes, type MirrorOptions, Packet, transportChecksum } from '../../lab/packet';
import {
  countersOf,
  EGRESS_MTU,
  type Expected,
  expectDelivered,
  mirror,
  status,
  untranslated,
  useLab,
} from './gateway';

const FROM = '198.51.100.7:40000';
const TO = '203.0.113.9:31765';
/** IP total lengths: the first ones beyond a bound, multiples of the fragment size and one beside, nearly all that a mirror carries. */
const LARGE = [1401, 1428, 1500, 2776, 2852, 4500, 8900];
const SMALL = [60, 1399, 1400];

interface Case extends Expected {
  readonly name: string;
  readonly outer?: MirrorOptions;
}

/** A case of its own IP id, so that one capture serves them all. */
function* caseFactory(): Generator<number, never> {
  for (let id = 1000; ; id++) yield id;
}
const ids = caseFactory();

function datagram(name: string, length: number, change: (packet: Packet) => Packet, rest: Partial<Case> = {}): Case {
  const id = rest.id ?? ids.next().value;
  const from = rest.from ?? FROM;
  const packet = change(Packet.udp({ from, to: TO }).id(id).totalLength(length));
  return { name, packet, length, ...rest, id, from };
}

function withOptions(name: string, options: Buffer, length: number): Case {
  const headerLength = 20 + Math.ceil(options.length / 4) * 4;
  return datagram(`${length} bytes, ${name}`, length, (p) => p.options(options).df(), {
    headerLength,
    df: length <= 1400,
  });
}

/** Two payload bytes are chosen so that the checksum over these addresses comes to nothing. */
function withZeroSum(name: string, [address, port]: [string, number], length: number): Case {
  const payload = deterministicBytes(length - 28, length);
  const seen = (): Buffer =>
    Packet.udp({ from: FROM, to: `${address}:${port}` })
      .udpChecksum('zero')
      .payload(payload)
      .ipPacket();
  payload.writeUInt16BE(0, 0);
  const complement = transportChecksum('198.51.100.7', address, Buffer.from(seen().subarray(20)));
  payload.writeUInt16BE(complement, 0);
  return datagram(name, length, (p) => p.df().payload(payload), { df: length <= 1400 });
}

const NOPS = Buffer.alloc(40, 1);
const STREAM_ID = Buffer.from([0x88, 4, 0x12, 0x34]);

const DELIVERED: readonly Case[] = [
  ...LARGE.map((length) => datagram(`${length} bytes with DF`, length, (p) => p.df())),
  ...LARGE.map((length) => datagram(`${length} bytes without DF`, length, (p) => p)),
  ...LARGE.map((length) =>
    datagram(`${length} bytes with DF, UDP checksum zero`, length, (p) => p.df().udpChecksum('zero'), {
      checksum: 'none',
    }),
  ),
  ...LARGE.map((length) =>
    datagram(`${length} bytes with DF, outer UDP checksum valid`, length, (p) => p.df(), {
      outer: { udpChecksum: 'valid' },
    }),
  ),
  ...SMALL.map((length) => datagram(`${length} bytes keep DF`, length, (p) => p.df(), { df: true })),
  ...SMALL.map((length) => datagram(`${length} bytes without DF stay without`, length, (p) => p)),
  ...SMALL.map((length) =>
    datagram(`${length} bytes, UDP checksum zero`, length, (p) => p.df().udpChecksum('zero'), {
      df: true,
      checksum: 'none',
    }),
  ),
  ...[100, 1401, 2852, 8900].flatMap((length) => [
    withOptions('one word of IP options (no-operations)', NOPS.subarray(0, 4), length),
    withOptions('IHL 15 (no-operations)', NOPS, length),
    withOptions('an IP option that every fragment repeats', STREAM_ID, length),
  ]),
  ...[0, 0xffff].map((id) => datagram(`IP id ${id} kept`, 1500, (p) => p.df(), { id })),
  datagram('TOS kept', 2852, (p) => p.df().tos(0xb8), { tos: 0xb8 }),
  datagram('from a private address', 2852, (p) => p.df(), { from: '172.16.5.4:1' }),
  datagram("from the sink's own network", 2852, (p) => p.df(), { from: '10.88.0.7:65535' }),
  datagram('a frame with Ethernet padding behind the datagram', 1428, (p) => p.df().pad(1500)),
  withZeroSum('a UDP checksum of 0xffff', ['203.0.113.9', 31765], 1428),
  withZeroSum('a UDP checksum that translation would bring to zero, large', [LAB.sink.address, LAB.sink.port], 2852),
  withZeroSum('a UDP checksum that translation would bring to zero, small', [LAB.sink.address, LAB.sink.port], 200),
];

const WRONG_CHECKSUM = [100, 1428, 2852].map((length) => {
  const right = Packet.udp({ from: FROM, to: TO }).totalLength(length).df();
  const checksum = right.ipPacket().readUInt16BE(26);
  return { length, id: 40_000 + length, packet: right.id(40_000 + length).udpChecksum(checksum ^ 0x0100) };
});

/** With an IP id that brings the IP checksum, DF still set, to a value at which a careless update goes wrong. */
function withIpChecksum(checksum: number): Case {
  const base = Packet.udp({ from: FROM, to: TO }).totalLength(1428).df();
  const missing = (0xffff - checksum - (0xffff - base.id(0).ipPacket().readUInt16BE(10)) + 2 * 0xffff) % 0xffff;
  const packet = base.id(missing);
  expect(packet.ipPacket().readUInt16BE(10)).toBe(checksum);
  return { name: `IP checksum ${checksum.toString(16)}`, packet, id: missing, from: FROM, length: 1428 };
}

describe.each(ENGINES)('engine %s', (engine) => {
  const lab = useLab(engine);
  const reach = <T extends { readonly length: number }>(all: readonly T[]): T[] =>
    all.filter(({ length }) => length <= longestDatagram(engine));
  const delivered = reach(DELIVERED);

  describe('forwards', () => {
    let outcome: Outcome;
    beforeAll(async () => {
      const wrong = WRONG_CHECKSUM.map(({ packet }) => mirror(packet));
      outcome = await lab.send([...delivered.map(({ packet, outer }) => mirror(packet, outer)), ...wrong]);
    });

    it.each(delivered)('$name', (expected) => {
      expectDelivered(outcome, expected);
    });

    it.each(WRONG_CHECKSUM)('$length bytes with a wrong UDP checksum, which stays wrong', ({ id, packet }) => {
      const found = outcome.datagrams.filter((each) => each.id === id && each.from === FROM);
      expect(found.map(({ udp }) => udp.checksum)).toEqual(['bad']);
      const hash = payloadHash(packet.data());
      expect(outcome.received.filter((each) => each.payloadHash === hash)).toEqual([]);
    });

    it('nothing else', () => {
      expect(outcome.received).toHaveLength(delivered.length);
      expect(outcome.datagrams).toHaveLength(delivered.length + WRONG_CHECKSUM.length);
      expect(untranslated(outcome.atSink)).toEqual([]);
      expect(outcome.strayAtSource).toEqual([]);
    });
  });

  it('says in its status that it is the engine', async () => {
    expect(await status()).toMatchObject(statusOf(engine));
  });

  it('counts what it did', async () => {
    const lengths = LARGE.filter((length) => length <= longestDatagram(engine));
    const large = lengths.map((length) => Packet.udp({ from: FROM, to: TO }).totalLength(length));
    const frames = [...large.map((p) => p.df()), ...large, Packet.udp({ from: FROM, to: TO }).totalLength(1400).df()];
    const delta = await countersOf(() => lab.send(frames.map((packet, index) => mirror(packet.id(100 + index)))));
    const modified = lengths.length + 1;
    const marker = 1428;
    const matched = isXdp(engine) ? modified + lengths.length : modified;
    expect(delta).toMatchObject({
      packets_seen: frames.length + 1,
      packets_matched: matched,
      packets_modified: modified,
      bytes_processed: lengths.reduce((sum, length) => sum + length, marker),
      standby_packets: engine === 'standby' ? modified : 0,
      nfqueue_packets: engine === 'nfqueue' ? modified : 0,
      ...{
        packets_malformed: 0,
        fragments_seen: 0,
        frames_unmatched: 0,
        packets_left_to_netfilter: 0,
        nfqueue_dropped: 0,
      },
    });
  });

  it('clears DF with the right IP checksum, seen where no fragmentation computes it anew', async () => {
    const setMtu = (mtu: number): Promise<string> =>
      must('ip', ['-n', LAB.primary.namespace, 'link', 'set', 'br0', 'mtu', String(mtu)]);
    const cases = [0x0000, 0x0001, 0x3fff, 0x4000, 0xbffe, 0xbfff, 0xc000, 0xfffe].map(withIpChecksum);
    await setMtu(LAB.mtu);
    try {
      const { datagrams } = await lab.send(cases.map(({ packet }) => mirror(packet)));
      const facts = cases.map(({ id }) => datagrams.find((each) => each.id === id)?.fragments);
      const right = { totalLength: 1428, df: false, mf: false, checksum: 'good' };
      expect(facts).toMatchObject(cases.map(() => [right]));
    } finally {
      await setMtu(EGRESS_MTU);
    }
  });

  it('keeps the order within a flow', async () => {
    // Datagrams that need no work do not wait in the legacy program's queue, so they may pass those that do.
    const all = engine === 'nfqueue' ? LARGE : [...LARGE, ...SMALL];
    const lengths = all.filter((length) => length <= longestDatagram(engine));
    const flow = Array.from({ length: 300 }, (_, n) =>
      Packet.udp({ from: FROM, to: TO })
        .id(n)
        .totalLength(lengths[n % lengths.length] ?? 1428)
        .df(),
    );
    const outcome = await lab.send(flow.map((packet) => mirror(packet)));
    expect(outcome.received.map((each) => each.payloadHash)).toEqual(flow.map((packet) => payloadHash(packet.data())));
    const firstFragments = outcome.atSink.filter(({ ip }) => ip?.offset === 0);
    expect(firstFragments.map(({ ip }) => ip?.id)).toEqual(flow.map((_, n) => n));
  });

  describe('after config set', () => {
    const other = (length: number, id: number, port = 31765): Case => {
      const packet = Packet.udp({ from: FROM, to: `203.0.113.9:${port}` })
        .id(id)
        .totalLength(length)
        .df();
      return { name: '', packet, id, from: FROM, length, df: length <= 1400 };
    };
    afterAll(() =>
      deploy('config', 'set', 'target_port=31765', 'min_packet_size=1400', `max_packet_size=${maxPacketSize(engine)}`),
    );

    it('takes the new target port and no longer the old one', async () => {
      await deploy('config', 'set', 'target_port=4000');
      const [now, before] = [other(2852, 1, 4000), other(2852, 2, 31765)];
      const outcome = await lab.send([mirror(now.packet), mirror(before.packet)], { targetPort: 4000 });
      expectDelivered(outcome, now);
      expect(outcome.received).toHaveLength(1);
      expect(untranslated(outcome.atSink)).toEqual([]);
      await deploy('config', 'set', 'target_port=31765');
    });

    it('leaves DF to datagrams outside the new sizes, and says nothing about them', async () => {
      await deploy('config', 'set', 'min_packet_size=1500', 'max_packet_size=3000');
      const inside = [1501, 3000].map((length, n) => other(length, 10 + n));
      const outside = reach([1401, 1500, 3001, 8900].map((length, n) => other(length, 20 + n)));
      const frames = [...inside, ...outside].map(({ packet }) => mirror(packet));
      const outcome = await lab.send(frames, { markerLength: 1600 });
      inside.forEach((expected) => expectDelivered(outcome, expected));
      expect(outcome.datagrams).toHaveLength(inside.length);
      expect(untranslated(outcome.atSink)).toEqual([]);
      expect(outcome.strayAtSource).toEqual([]);
      await deploy('config', 'set', 'min_packet_size=1400', `max_packet_size=${maxPacketSize(engine)}`);
    });
  });
});
