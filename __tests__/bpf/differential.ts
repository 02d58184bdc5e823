// SPDX-License-Identifier: Apache-2.0
// Packets, random and mutated, through the real program and through the model: same bytes out, same counters.
// DIFFERENTIAL_SEED replays a run that failed.
import { ETHERNET_HEADER, ETHERTYPE, Packet, PROTOCOL } from '../../lab/packets/packet';
import { type Judgement, apply, count, judge } from './model';
import { type Answer, type Config, LONGEST_FRAME, type Program, type Stats, XDP_PASS, stats } from './program';
import { Random } from '../support/random';

const SEED = Number(process.env.DIFFERENTIAL_SEED ?? Date.now() % 2 ** 31);
/** Each has its own settings. */
const BATCH = 2_000;

const PORTS = [31765, 0x157c, 1, 65535] as const;
const ENDS = [0, 1, 0x3fff, 0x4000, 0x7fff, 0xbffe, 0xbfff, 0xc000, 0xfffe, 0xffff] as const;
const OUTER_HEADERS = 70;

/** Valid or nearly valid packets that a mutation starts from, most of them small, for speed. */
function templates(port: number): [Packet, ...Packet[]] {
  const datagram = Packet.udp({ from: '198.51.100.7:40000', to: `203.0.113.9:${port}` }).df();
  const sized = [28, 60, 100, 199, 200, 201, 300].map((bytes) => datagram.totalLength(bytes).id(bytes));
  return [
    datagram,
    ...sized,
    ...sized.map((packet) => packet.df(false)),
    ...[4, 20, 40].map((bytes) => datagram.options(Buffer.alloc(bytes, 1)).totalLength(150)),
    datagram.totalLength(150).vlan(7),
    datagram.totalLength(150).vlan(7, ETHERTYPE.qinq).vlan(8),
    datagram.totalLength(150).vlan(7).vlan(8).vlan(9),
    datagram.totalLength(150).udpChecksum('zero'),
    datagram.totalLength(40).pad(60),
    datagram.totalLength(150).mf(),
    datagram.totalLength(150).df(false).fragmentOffset(9),
    datagram.totalLength(150).protocol(PROTOCOL.tcp),
    datagram.totalLength(150).etherType(ETHERTYPE.ipv6).version(6),
    datagram.totalLength(1500),
  ];
}

const TEMPLATES = PORTS.map((port) => templates(port).map((packet) => packet.build()) as [Buffer, ...Buffer[]]) as [
  [Buffer, ...Buffer[]],
];

function randomConfig(random: Random): Config {
  const min = random.pick([0, 27, 28, 99, 149, 199] as const);
  return {
    target_port: random.pick(PORTS),
    min_packet_size: min,
    max_packet_size: random.pick([min + 1, 200, 300, 1500, 9000, 65535] as const),
    traffic_percent: random.pick([0, 1, 37, 50, 99, 100, 100, 100] as const),
  };
}

type Mutation = (frame: Buffer, random: Random) => Buffer;

const word = (offset: number, choose: (random: Random) => number): Mutation => {
  return (frame, random) => {
    const at = ETHERNET_HEADER + offset;
    if (at + 2 <= frame.length) frame.writeUInt16BE(choose(random) & 0xffff, at);
    return frame;
  };
};
const anyWord = (random: Random): number => random.word();
const nearLength: Mutation = (frame, random) =>
  word(2, () => frame.length - ETHERNET_HEADER + random.below(5) - 3)(frame, random);

/** What can be wrong with a packet, or right in an unusual way. Offsets are those of an untagged frame. */
const MUTATIONS: readonly [Mutation, ...Mutation[]] = [
  function flipBit(frame, random) {
    const at = random.below(Math.min(frame.length, OUTER_HEADERS));
    frame.writeUInt8(frame.readUInt8(at) ^ (1 << random.below(8)), at);
    return frame;
  },
  function setByte(frame, random) {
    frame.writeUInt8(random.below(256), random.below(Math.min(frame.length, OUTER_HEADERS)));
    return frame;
  },
  function cut(frame, random) {
    return frame.subarray(0, ETHERNET_HEADER + random.below(frame.length - ETHERNET_HEADER + 1));
  },
  function pad(frame, random) {
    return frame.length > LONGEST_FRAME - 64 ? frame : Buffer.concat([frame], frame.length + random.below(64));
  },
  function firstByte(frame, random) {
    if (frame.length > ETHERNET_HEADER) frame.writeUInt8(0x40 | random.below(16), ETHERNET_HEADER);
    return frame;
  },
  nearLength,
  word(2, anyWord),
  word(4, anyWord),
  word(6, anyWord),
  word(6, (random) => random.pick([0, 0x4000, 0xc000, 0x8000, 0x2000, 0x6000, 1, 0x4001] as const)),
  word(10, anyWord),
  word(10, (random) => random.pick(ENDS)),
  word(12, anyWord),
  word(18, anyWord),
  word(20, anyWord),
  word(20, anyWord),
  word(22, (random) => random.pick(PORTS)),
  word(24, (random) => random.below(220)),
  word(26, anyWord),
];

function randomFrame(random: Random, templatesOfPort: [Buffer, ...Buffer[]]): Buffer {
  if (random.below(50) === 0) return noise(random);
  let frame: Buffer = Buffer.from(random.pick(templatesOfPort));
  for (let mutations = random.below(5); mutations > 0; mutations--) frame = random.pick(MUTATIONS)(frame, random);
  return frame;
}

/** Random bytes, half of them behind the EtherType of IPv4. */
function noise(random: Random): Buffer {
  const frame = Buffer.allocUnsafe(ETHERNET_HEADER + random.below(150));
  for (let at = 0; at < frame.length; at++) frame[at] = random.word();
  if (random.below(2)) frame.writeUInt16BE(ETHERTYPE.ipv4, 12);
  return frame;
}

interface Difference {
  readonly config: Config;
  readonly frame: string;
  readonly judgement: Judgement;
  readonly expected: string;
  readonly got: string;
}

function difference(frame: Buffer, config: Config, answer: Answer | undefined): Difference | undefined {
  const judgement = judge(frame, config);
  const expected = Buffer.from(frame);
  apply(judgement, expected);
  if (answer?.verdict === XDP_PASS && expected.equals(answer.bytes)) return undefined;
  const got = answer ? `verdict ${answer.verdict}, ${answer.bytes.toString('hex')}` : 'no answer';
  return { config, frame: frame.toString('hex'), judgement, expected: expected.toString('hex'), got };
}

/** One by one, to name the frame that a batch miscounted. */
async function firstMiscounted(program: Program, frames: readonly Buffer[], config: Config): Promise<unknown> {
  for (const frame of frames) {
    const { counted } = await program.run([frame]);
    const judgement = judge(frame, config);
    const expected = stats();
    count(judgement, expected);
    if (JSON.stringify(counted) !== JSON.stringify(expected))
      return { config, frame: frame.toString('hex'), judgement, expected, counted };
  }
  return 'only the whole batch shows it';
}

function label(judgement: Judgement): string {
  return judgement.kind === 'malformed' ? `malformed: ${judgement.why}` : judgement.kind;
}

/** Declares the test. The program is asked for when it runs. */
export function itAgreesWithTheModel(program: () => Program, packets: number): void {
  test(`agrees with the model on ${packets} packets, seed ${SEED}`, async () => {
    const run = program();
    const random = new Random(SEED);
    const distribution = new Map<string, number>();
    const total: Stats = stats();
    const started = Date.now();
    process.stderr.write(`differential: ${packets} packets, DIFFERENTIAL_SEED=${SEED}\n`);

    for (let done = 0; done < packets;) {
      const config = randomConfig(random);
      // Mostly the port that is wanted, or hardly anything would match.
      const port = random.below(8) ? PORTS.indexOf(config.target_port as (typeof PORTS)[number]) : 0;
      const frames = Array.from({ length: Math.min(BATCH, packets - done) }, () =>
        randomFrame(random, TEMPLATES[port] ?? TEMPLATES[0]),
      );
      run.configure(config);
      const { answers, counted } = await run.run(frames);

      const expected = stats();
      frames.forEach((frame, i) => {
        const judgement = judge(frame, config);
        count(judgement, expected);
        distribution.set(label(judgement), (distribution.get(label(judgement)) ?? 0) + 1);
        const different = difference(frame, config, answers[i]);
        if (different) throw new Error(`seed ${SEED}, packet ${done + i}: ${JSON.stringify(different, null, 1)}`);
      });
      if (JSON.stringify(counted) !== JSON.stringify(expected)) {
        const culprit = await firstMiscounted(run, frames, config);
        throw new Error(`seed ${SEED}, batch at packet ${done}, counters: ${JSON.stringify(culprit, null, 1)}`);
      }
      addTo(total, counted);
      done += frames.length;
      if (done % 200_000 === 0) process.stderr.write(`differential: ${done} packets agree\n`);
    }

    expect(total.packets_seen).toBe(packets);
    if (packets < 100_000) return;
    const seconds = (Date.now() - started) / 1000;
    const rows = [...distribution].sort(([, a], [, b]) => b - a);
    process.stderr.write(
      `differential: ${packets} packets agree, in ${seconds.toFixed(1)} s\n` +
        rows.map(([kind, times]) => `  ${((100 * times) / packets).toFixed(2).padStart(6)} %  ${kind}\n`).join(''),
    );
    // A run in which hardly anything matched would agree on nothing worth knowing.
    expect(total.packets_matched / packets).toBeGreaterThan(0.15);
    expect(total.packets_modified / packets).toBeGreaterThan(0.05);
    expect(total.packets_left_to_netfilter / packets).toBeGreaterThan(0.02);
    expect(total.packets_malformed / packets).toBeGreaterThan(0.1);
    expect(total.fragments_seen / packets).toBeGreaterThan(0.05);
  });
}

function addTo(total: Stats, more: Stats): void {
  for (const name of Object.keys(more) as (keyof Stats)[]) total[name] += more[name];
}
