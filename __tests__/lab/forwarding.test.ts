// SPDX-License-Identifier: Apache-2.0
// The job, engine by engine: which mirrored datagrams come out at the sink, and that they come out right; whole, as by
// default, and fragmented, after the egress MTU of the same gateway was lowered.
import { type Outcome } from '../../lab/packets/exchange';
import { payloadHash } from '../../lab/packets/decode';
import {
  type Engine,
  ENGINES,
  foreignId,
  isXdp,
  longestDatagram,
  maxPacketSize,
  statusOf,
} from '../../lab/namespaces/engines';
import { deploy, LAB } from '../../lab/namespaces/namespaces';
import { deterministicBytes, type MirrorOptions, Packet, transportChecksum } from '../../lab/packets/packet';
import {
  countersOf,
  datagramsOf,
  EGRESS_MTUS,
  type Expected,
  expectDelivered,
  mirror,
  sharedIds,
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

type Settings = Partial<Case> & { readonly id?: number };

function datagram(name: string, length: number, change: (packet: Packet) => Packet, settings: Settings = {}): Case {
  const { id = 0, from = FROM, ...rest } = settings;
  const packet = change(Packet.udp({ from, to: TO }).id(id).totalLength(length));
  return { name, packet, length, ...rest, from };
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

/** With an identification that brings the IP checksum, DF still set, to a value at which a careless update goes wrong. */
function withIpChecksum(checksum: number): Case {
  const base = Packet.udp({ from: FROM, to: TO }).totalLength(1428).df();
  const missing = (0xffff - checksum - (0xffff - base.id(0).ipPacket().readUInt16BE(10)) + 2 * 0xffff) % 0xffff;
  const packet = base.id(missing);
  expect(packet.ipPacket().readUInt16BE(10)).toBe(checksum);
  return { name: `an IP checksum of ${checksum.toString(16)}`, packet, from: FROM, length: 1428 };
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
  datagram('TOS kept', 2852, (p) => p.df().tos(0xb8), { tos: 0xb8 }),
  datagram('from a private address', 2852, (p) => p.df(), { from: '172.16.5.4:1' }),
  datagram("from the sink's own network", 2852, (p) => p.df(), { from: '10.88.0.7:65535' }),
  datagram('a frame with Ethernet padding behind the datagram', 1428, (p) => p.df().pad(1500)),
];

/** With an identification or a payload of their own. */
const CHOSEN: readonly Case[] = [
  ...[0, 0xffff].map((id) => datagram(`IP id ${id} replaced with DF`, 1500, (p) => p.df().id(id))),
  ...[0, 0xffff].map((id) => datagram(`IP id ${id} kept with DF`, 1300, (p) => p.df().id(id), { df: true })),
  ...[0, 0xffff].map((id) => datagram(`IP id ${id} replaced where there was no DF`, 1200, (p) => p.id(id))),
  ...[0x0000, 0x0001, 0x3fff, 0x4000, 0xbffe, 0xbfff, 0xc000, 0xfffe].map(withIpChecksum),
  withZeroSum('a UDP checksum of 0xffff', ['203.0.113.9', 31765], 1428),
  withZeroSum('a UDP checksum that translation would bring to zero, large', [LAB.sink.address, LAB.sink.port], 2852),
  withZeroSum('a UDP checksum that translation would bring to zero, small', [LAB.sink.address, LAB.sink.port], 200),
];

/** With a payload of its own and, where none was chosen, an identification that the engine does not give. */
function casesOf(engine: Engine): Case[] {
  const numbered = DELIVERED.map((each, at) => ({ ...each, packet: each.packet.id(foreignId(engine, 1000 + at)) }));
  return [...numbered, ...CHOSEN];
}

const WRONG_CHECKSUM = [100, 1428, 2852].map((length) => {
  const right = Packet.udp({ from: FROM, to: TO }).id(50_000).totalLength(length).df();
  const checksum = right.ipPacket().readUInt16BE(26);
  return { length, packet: right.udpChecksum(checksum ^ 0x0100) };
});

/** Also when the work fails, what was before is in force again. */
async function withSettings<T>(now: string[], afterwards: string[], work: () => Promise<T>): Promise<T> {
  await deploy('config', 'set', ...now);
  try {
    return await work();
  } finally {
    await deploy('config', 'set', ...afterwards);
  }
}

describe.each(ENGINES)('engine %s', (engine) => {
  const lab = useLab(engine);
  const reach = <T extends { readonly length: number }>(all: readonly T[]): T[] =>
    all.filter(({ length }) => length <= longestDatagram(engine));
  const delivered = reach(casesOf(engine));

  it('says in its status that it is the engine', async () => {
    expect(await status()).toMatchObject(statusOf(engine));
  });

  it('takes a new target port and no longer the old one', async () => {
    const [now, before] = [4000, 31765].map((port) =>
      Packet.udp({ from: FROM, to: `203.0.113.9:${port}` })
        .id(port)
        .totalLength(2852)
        .df(),
    ) as [Packet, Packet];
    const frames = [mirror(now), mirror(before)];
    const outcome = await withSettings(['target_port=4000'], ['target_port=31765'], () =>
      lab.send(frames, { targetPort: 4000 }),
    );
    expectDelivered(outcome, { packet: now, from: FROM, length: 2852 }, { engine });
    expect(outcome.received).toHaveLength(1);
    expect(untranslated(outcome.atSink)).toEqual([]);
  });

  describe.each(Object.entries(EGRESS_MTUS))('%s, with an egress MTU of %i', (_, egressMtu) => {
    beforeAll(async () => {
      if (egressMtu !== EGRESS_MTUS.whole) await lab.setEgressMtu(egressMtu);
    });

    describe('forwards', () => {
      let outcome: Outcome;
      beforeAll(async () => {
        const wrong = WRONG_CHECKSUM.map(({ packet }) => mirror(packet));
        outcome = await lab.send([...delivered.map(({ packet, outer }) => mirror(packet, outer)), ...wrong]);
      });

      it.each(delivered)('$name', (expected) => {
        expectDelivered(outcome, expected, { egressMtu, engine });
      });

      it.each(WRONG_CHECKSUM)('$length bytes with a wrong UDP checksum, which stays wrong', ({ packet }) => {
        const hash = payloadHash(packet.data());
        expect(datagramsOf(outcome, hash, FROM).map(({ udp }) => udp.checksum)).toEqual(['bad']);
        expect(outcome.received.filter((each) => each.payloadHash === hash)).toEqual([]);
      });

      it('nothing else, and no two datagrams of a host under one identification', () => {
        expect(outcome.received).toHaveLength(delivered.length);
        expect(outcome.datagrams).toHaveLength(delivered.length + WRONG_CHECKSUM.length);
        expect(sharedIds(outcome.datagrams)).toEqual([]);
        expect(untranslated(outcome.atSink, egressMtu)).toEqual([]);
        expect(outcome.strayAtSource).toEqual([]);
      });
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

    it('keeps the order within a flow', async () => {
      // Datagrams that need no work do not wait in the NFQUEUE daemon's queue, so they may pass those that do.
      const all = engine === 'nfqueue' ? LARGE : [...LARGE, ...SMALL];
      const lengths = all.filter((length) => length <= longestDatagram(engine));
      const flow = Array.from({ length: 300 }, (_, n) =>
        Packet.udp({ from: FROM, to: TO })
          .id(n)
          .totalLength(lengths[n % lengths.length] ?? 1428)
          .df(),
      );
      const outcome = await lab.send(flow.map((packet) => mirror(packet)));
      const sent = flow.map((packet) => payloadHash(packet.data()));
      expect(outcome.received.map((each) => each.payloadHash)).toEqual(sent);
      const nameOf = ({ df, id }: { df: boolean; id: number }): string => `${df ? 'DF ' : ''}${id}`;
      const payloads = new Map(
        outcome.datagrams.map(({ udp, fragments }) => [fragments[0] && nameOf(fragments[0]), udp.payloadHash]),
      );
      expect(payloads.size).toBe(flow.length);
      const firstFragments = outcome.atSink.flatMap(({ ip }) => (ip?.offset === 0 ? [nameOf(ip)] : []));
      expect(firstFragments.map((name) => payloads.get(name))).toEqual(sent);
    });

    it('leaves DF and its identification to datagrams outside new sizes, and says nothing about those that cannot leave', async () => {
      const other = (length: number, df: boolean): Case => {
        const packet = Packet.udp({ from: FROM, to: TO }).id(foreignId(engine, length)).totalLength(length).df();
        return { name: '', packet, from: FROM, length, df };
      };
      const inside = [1501, 3000].map((length) => other(length, false));
      const outside = reach([1401, 1500, 3001, 8900].map((length) => other(length, true)));
      const leave = [...inside, ...outside.filter(({ length }) => length <= egressMtu)];
      const frames = [...inside, ...outside].map(({ packet }) => mirror(packet));
      const outcome = await withSettings(
        ['min_packet_size=1500', 'max_packet_size=3000'],
        ['min_packet_size=1400', `max_packet_size=${maxPacketSize(engine)}`],
        () => lab.send(frames, { markerLength: 1600 }),
      );
      leave.forEach((expected) => expectDelivered(outcome, expected, { egressMtu, engine }));
      expect(outcome.datagrams).toHaveLength(leave.length);
      expect(untranslated(outcome.atSink, egressMtu)).toEqual([]);
      expect(outcome.strayAtSource).toEqual([]);
    });
  });
});
