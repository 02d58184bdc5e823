// SPDX-License-Identifier: Apache-2.0
// One lost fragment costs one datagram (RFC 4963): what leaves without DF has an identification of its own, in every engine,
// whether the gateway cuts it or the tunnel behind. IDENTIFICATION_CHANGES sets how many changes of rules and engines are made.
import { inNamespace, must } from '../../lab/support/host';
import { payloadHash } from '../../lab/packets/decode';
import { type Engine, ENGINES, givesId, isDirect } from '../../lab/namespaces/engines';
import { deploy, LAB, labDown, labUp } from '../../lab/namespaces/namespaces';
import { deterministicBytes, internetChecksum, Packet } from '../../lab/packets/packet';
import { withDeepBacklog } from '../../lab/namespaces/stress';
import { Capture, type Received, Receiver, send } from '../../lab/packets/traffic';
import { FAR_END, tunnelDown, tunnelUp } from '../../lab/vm/tunnel';
import { Random } from '../support/random';
import { mirror } from './gateway';

const HOST = '203.0.113.9';
const OTHER_HOST = '203.0.113.10';
const CUT = { egressMtu: 1400 } as const;
const WAYS = [
  { way: 'cut by the gateway', options: CUT, behind: LAB.sink },
  { way: 'whole, and cut by a tunnel of 1400 bytes behind it', options: {}, behind: FAR_END },
] as const;

/** Datagrams of one flow with one identification, as hosts send them that use 0 with DF; each has a payload of its own. */
function flow(from: string, count: number, { to = HOST, id = 0, lengths = [1428] } = {}): Packet[] {
  return Array.from({ length: count }, (_, number) => {
    const length = lengths[number % lengths.length] ?? 0;
    const seed = Number(from.replaceAll(/\D/g, '')) + number;
    return Packet.udp({ from, to: `${to}:31765` })
      .id(id)
      .df()
      .payload(deterministicBytes(length - 28, seed));
  });
}

const withoutChecksum = (packets: readonly Packet[]): Packet[] => packets.map((packet) => packet.udpChecksum('zero'));
const frames = (packets: readonly Packet[]): Buffer[] => packets.map((packet) => mirror(packet));
const hash = (packet: Packet): string => payloadHash(packet.data());

/** From one source, DF set, two loss cases that destroyed all later datagrams while identifications were kept. */
const ONE_LOST = flow('198.51.100.1:4000', 400);
const ONE_LOST_NO_CHECKSUM = withoutChecksum(flow('198.51.100.2:4000', 400));
const SOME_LOST = withoutChecksum(flow('198.51.100.3:4000', 600, { lengths: [1428, 1500, 2852, 1401] }));
/** Two flows of one host; one datagram mirrored at both of its ends; two hosts that got equal identifications. */
const FLOWS = ['198.51.100.4:4000', '198.51.100.4:4001'].map((from) => withoutChecksum(flow(from, 500)));
const TWINS = flow('198.51.100.5:4000', 300, { id: 77 });
const HOSTS = [HOST, OTHER_HOST].map((to, index) =>
  withoutChecksum(flow(`198.51.100.6:${4000 + index}`, 300, { to, id: 7 })),
);
const LAST = flow('198.51.100.99:4000', 1);

/** Drops what the tests say, behind the gateway: the first fragment of the 100th datagram of a source, or one in 200. */
const LOSSES = (device: string): string => `
table netdev losses {
  counter some {}
  chain ingress {
    type filter hook ingress device ${device} priority 0
    ip saddr 198.51.100.1 ip frag-off & 0x3fff == 0x2000 numgen inc mod 400 == 99 drop
    ip saddr 198.51.100.2 ip frag-off & 0x3fff == 0x2000 numgen inc mod 400 == 99 drop
    ip saddr 198.51.100.3 ip frag-off & 0x3fff != 0 numgen random mod 200 == 0 counter name some drop
  }
}`;

async function dropped(namespace: string): Promise<number> {
  const shown = await must(...inNamespace(namespace, 'nft', '-j', 'list', 'counter', 'netdev', 'losses', 'some'));
  return Number(/"packets": (\d+)/.exec(shown)?.[1]);
}

/** Sends on two processors at once, so that datagrams of one source pass the gateway on both. */
async function together(lists: readonly (readonly Buffer[])[], packetsPerSecond: number): Promise<void> {
  await Promise.all(lists.map((list, cpu) => send(LAB.source, list, packetsPerSecond, cpu)));
}

// --- the numbers themselves -----------------------------------------------------------------------------------------

const SOURCE = '198.51.100.8';
const IP = 14;
/** Headers are all that a capture needs to show. */
const HEADERS = { snapLength: 96 } as const;

/** Frames of one datagram, so as many as wanted cost nothing; its flows differ by port. */
function repeated(count: number, port = 5000, packet = (each: Packet): Packet => each.df()): Buffer[] {
  const frame = mirror(packet(Packet.udp({ from: `${SOURCE}:${port}`, to: `${HOST}:31765` }).totalLength(1401)));
  return Array.from({ length: count }, () => frame);
}

interface Seen {
  readonly id: number;
  readonly port: number;
}

/** What came from SOURCE without DF, in order. */
async function seenWithoutDf(work: () => Promise<void>): Promise<Seen[]> {
  const capture = await Capture.start(LAB.sink, HEADERS);
  try {
    await work();
  } catch (error) {
    await capture.abort();
    throw error;
  }
  const seen = (await capture.stop()).filter((frame) => frame.readUInt16BE(12) === 0x0800);
  const isRight = (frame: Buffer): boolean =>
    (frame.readUInt16BE(IP + 6) & 0x4000) === 0 && internetChecksum(frame.subarray(IP, IP + 20)) === 0;
  expect(seen.filter((frame) => !isRight(frame))).toEqual([]);
  return seen.map((frame) => ({ id: frame.readUInt16BE(IP + 4), port: frame.readUInt16BE(IP + 20) }));
}

async function identifications(work: () => Promise<void>): Promise<number[]> {
  return (await seenWithoutDf(work)).map(({ id }) => id);
}

/** The fewest datagrams from one identification to the same again; Infinity where none comes twice. */
function shortestReturn(ids: readonly number[]): number {
  const last = new Map<number, number>();
  let shortest = Infinity;
  ids.forEach((id, at) => {
    shortest = Math.min(shortest, at - (last.get(id) ?? -Infinity));
    last.set(id, at);
  });
  return shortest;
}

/** Declares tests of the numbers that an engine gives, in a lab that is up and cuts nothing. */
function itNumbers(engine: Engine): void {
  const isOurs = (id: number): boolean => givesId(engine, id);

  it('identifications are its own, and come again only after many others: of one source, while another processor takes few', async () => {
    const [many, few] = isDirect(engine) ? [40_000, 400] : [20_000, 200];
    const ids = await withDeepBacklog(() =>
      identifications(() =>
        Promise.all([send(LAB.source, repeated(many), 10_000, 0), send(LAB.source, repeated(few, 5001), 100, 1)]).then(
          () => undefined,
        ),
      ),
    );
    expect(ids.length).toBeGreaterThan(0.9 * (many + few));
    expect(ids.every(isOurs)).toBe(true);
    expect(shortestReturn(ids)).toBeGreaterThanOrEqual(isDirect(engine) ? 24_000 : 20_000);
  });

  it('identifications differ while two processors take the same number', async () => {
    const lanes = [5000, 5001].map((port) => repeated(10_000, port));
    const ids = await withDeepBacklog(() => identifications(() => together(lanes, 5_000)));
    // A receiver that has no processor for a while loses some: of the others none has another's number.
    expect(ids.length).toBeGreaterThan(16_000);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('identifications are kept where DF is', async () => {
    const kept = [0, 1, 32767, 32768, 65535];
    const small = kept.map((id) =>
      mirror(
        Packet.udp({ from: `${SOURCE}:1`, to: `${HOST}:31765` })
          .id(id)
          .totalLength(100)
          .df(),
      ),
    );
    const capture = await Capture.start(LAB.sink, HEADERS);
    await send(LAB.source, small);
    const seen = (await capture.stop()).filter((frame) => frame.readUInt16BE(12) === 0x0800);
    expect(seen.map((frame) => [frame.readUInt16BE(IP + 4), frame.readUInt16BE(IP + 6)])).toEqual(
      kept.map((id) => [id, 0x4000]),
    );
  });

  it('identifications are new where a datagram came without DF', async () => {
    const ids = await identifications(() =>
      send(
        LAB.source,
        repeated(100, 5002, (each) => each.id(9)),
      ),
    );
    expect(new Set(ids).size).toBe(100);
    expect(ids.every(isOurs)).toBe(true);
  });

  if (!isDirect(engine)) return;
  it('identifications of XDP and of netfilter differ while each has half of the flows', async () => {
    await deploy('config', 'set', 'traffic_percent=50');
    const lanes = [0, 1].map((lane) =>
      Array.from({ length: 200 }, (_, port) => repeated(50, 6000 + 200 * lane + port)).flat(),
    );
    const ids = await withDeepBacklog(() => identifications(() => together(lanes, 5_000)));
    // A receiver that has no processor for a while loses some: of the others none has another's number.
    expect(ids.length).toBeGreaterThan(16_000);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.filter((id) => id < 32768).length).toBeGreaterThan(5_000);
    expect(ids.filter((id) => id >= 32768).length).toBeGreaterThan(5_000);
  });
}

// --- engine by engine -----------------------------------------------------------------------------------------------

describe.each(ENGINES)('engine %s', (engine) => {
  describe.each(WAYS)('$way', ({ options, behind }) => {
    let received: readonly Received[];
    let lost: number;

    const arrived = (packets: readonly Packet[]): string[] => {
      const wanted = new Set(packets.map(hash));
      return received.map(({ payloadHash: got }) => got).filter((got) => wanted.has(got));
    };

    beforeAll(async () => {
      await labUp(engine, options);
      if (behind === FAR_END) await tunnelUp();
      await must(...inNamespace(behind.namespace, 'nft', '-f', '-'), { input: LOSSES(behind.interface) });
      const receiver = await Receiver.start(behind, behind.address, behind.port);
      try {
        await send(LAB.source, frames([...ONE_LOST, ...ONE_LOST_NO_CHECKSUM, ...SOME_LOST]), 4000);
        await together(
          [0, 1].map((lane) => frames([...(FLOWS[lane] ?? []), ...TWINS, ...(HOSTS[lane] ?? [])])),
          4000,
        );
        await send(LAB.source, frames(LAST));
        await receiver.see('the last datagram', ({ payloadHash: got }) => got === hash(LAST[0] as Packet));
      } finally {
        await receiver.stop();
      }
      received = receiver.datagrams;
      lost = await dropped(behind.namespace);
    });
    afterAll(async () => {
      await tunnelDown();
      await labDown();
    });

    it('a lost fragment costs the one datagram that it belonged to', () => {
      expect(arrived(ONE_LOST)).toEqual(ONE_LOST.map(hash).filter((_, number) => number !== 99));
    });

    it('so it does where datagrams have no UDP checksum', () => {
      const expected = ONE_LOST_NO_CHECKSUM.map(hash).filter((_, number) => number !== 99);
      expect(arrived(ONE_LOST_NO_CHECKSUM)).toEqual(expected);
    });

    it('fragments lost at random, of mixed sizes, cost no more datagrams than there were', () => {
      expect(lost).toBeGreaterThan(0);
      expect(SOME_LOST.length - arrived(SOME_LOST).length).toBeLessThanOrEqual(lost);
    });

    it('two flows of one host, on two processors, arrive', () => {
      expect(arrived(FLOWS.flat()).sort()).toEqual(FLOWS.flat().map(hash).sort());
    });

    it('both copies of a datagram that was mirrored at both of its ends arrive', () => {
      expect(arrived(TWINS).sort()).toEqual([...TWINS, ...TWINS].map(hash).sort());
    });

    it('datagrams to two hosts, with equal identifications, arrive', () => {
      expect(arrived(HOSTS.flat()).sort()).toEqual(HOSTS.flat().map(hash).sort());
    });

    it('nothing arrives that was not sent', () => {
      const sent = [ONE_LOST, ONE_LOST_NO_CHECKSUM, SOME_LOST, FLOWS.flat(), TWINS, HOSTS.flat(), LAST].flat();
      const known = new Set(sent.map(hash));
      expect(received.filter(({ payloadHash: got }) => !known.has(got))).toEqual([]);
    });

    if (behind === FAR_END) itNumbers(engine);
  });
});

/**
 * What begins numbers anew, and how likely it is that one of the next 1,000 is one of the last 1,000 (docs/direct-engine.md): a
 * counter that begins at random does so within them in 1000 of 32768 cases, one whose order is changed at random in some more.
 */
const CHANGES = [
  { engine: 'direct/generic', what: 'detach and attach', verbs: [['detach'], ['attach']], likelihood: 1000 / 32768 },
  { engine: 'standby', what: 'reload', verbs: [['config', 'set', 'target_port=31765']], likelihood: 0.045 },
] as const;
const TIMES = Number(process.env.IDENTIFICATION_CHANGES ?? 5);
const EACH = 1000;
const SEED = Date.now() % 2 ** 31;

describe.each(CHANGES)('after $what of engine $engine', ({ engine, what, verbs, likelihood }) => {
  beforeAll(() => labUp(engine));
  afterAll(labDown);

  /** Within the last 1,000 of all, the new ones included. */
  const repeats = (before: readonly number[], after: readonly number[]): boolean => {
    const places = new Map(before.map((id, at) => [id, at]));
    return after.some((id, at) => (places.get(id) ?? -1) >= at);
  };

  it('identifications begin elsewhere: few repeat one of the last 1,000', async () => {
    // Counters are anywhere when a change comes.
    const random = new Random(SEED);
    const extra = Array.from({ length: TIMES }, () => random.below(1024));
    // A flow for each state of the rules: a datagram that got lost on a busy machine shifts nothing.
    const burst = (round: number, more = 0): Buffer[] =>
      repeated(EACH + more, 10_000 + round, (each) => each.totalLength(60));
    const seen = await withDeepBacklog(() =>
      seenWithoutDf(async () => {
        for (const [round, more] of extra.entries()) {
          await send(LAB.source, burst(round, more), 20_000);
          for (const verb of verbs) await deploy(...verb);
        }
        await send(LAB.source, burst(TIMES), 20_000);
      }),
    );
    const rounds = new Map<number, number[]>();
    for (let round = 0; round <= TIMES; round++) rounds.set(round, []);
    for (const { id, port } of seen) rounds.get(port - 10_000)?.push(id);
    expect([...rounds.values()].filter(({ length }) => length < 0.99 * EACH)).toEqual([]);
    const times = extra.filter((_, round) =>
      repeats((rounds.get(round) ?? []).slice(-EACH), (rounds.get(round + 1) ?? []).slice(0, EACH)),
    ).length;
    process.stderr.write(
      `${engine}: after ${times} of ${TIMES} times ${what}, an identification repeated one of the last ${EACH}\n`,
    );
    // Five standard deviations above what is expected: a counter that begins anew at a fixed number repeats itself each time.
    expect(times).toBeLessThan(1 + TIMES * likelihood + 5 * Math.sqrt(TIMES * likelihood));
  });
});
