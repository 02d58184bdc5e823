// SPDX-License-Identifier: Apache-2.0
// The direct engine beside the bridge engine: whatever comes in, in both modes the same frames leave as without it.
// GENERATED sets how many frames each engine gets, SEED brings back a run that failed.
import { Capture, send } from '../../lab/traffic';
import { ADDRESSES, SmallGateway, type SmallEngine, type SmallGatewayOptions } from '../../lab/small-gateway';
import { macBytes } from '../../lab/packet';
import { Random } from '../random';
import { type Generated, generate } from './mirror-generator';

const SEED = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const GENERATED = Number(process.env.GENERATED ?? 4_000);
const BATCH = 10_000;
const PACKETS_PER_SECOND = 6_000;
/** Of IP packets inside a mirror: what fits the MTU of a driver with XDP, and a jumbo frame. */
const LONGEST = { driver: 3434, other: 8900 };

const gateway = new SmallGateway(`mgd${process.pid}`);
beforeAll(() => gateway.up());
afterAll(() => gateway.down());

/** What the gateway sends, sorted. Order has its own test. */
async function through(
  engine: SmallEngine,
  options: SmallGatewayOptions,
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
  return sent.map((frame) => frame.toString('hex')).sort();
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
    const id = Buffer.from(line, 'hex').readUInt16BE(18);
    const from = frames[id];
    return `${line.slice(0, 160)} (${line.length / 2} bytes) of id ${id}, ${from?.what}: ${from?.frame.toString('hex').slice(0, 300)}`;
  });
}

function randomOptions(random: Random): SmallGatewayOptions {
  const egressMtu = random.pick([1400, 1400, 1400, 576, 577, 583, 1001, 1279, 1399, 1401, 1500] as const);
  const minPacketSize = random.pick([1400, 1400, 28, 575, 1500] as const);
  const maxPacketSize = random.pick([9000, 9000, 9000, 2000, 3000] as const);
  return { egressMtu, minPacketSize, maxPacketSize };
}

describe.each<[SmallEngine, number]>([
  ['driver', LONGEST.driver],
  ['generic', LONGEST.driver],
  ['generic', LONGEST.other],
])('direct, %s, up to %i bytes', (engine, longest) => {
  test(`sends what the bridge engine sends, ${GENERATED} frames, seed ${SEED}`, async () => {
    const random = new Random(SEED);
    process.stderr.write(`direct ${engine}: ${GENERATED} frames, SEED=${SEED}\n`);
    for (let done = 0; done < GENERATED;) {
      const options = randomOptions(random);
      const count = Math.min(BATCH, GENERATED - done);
      const frames = Array.from({ length: count }, (_, id) => generate(random, id, longest));
      const bytes = frames.map(({ frame }) => frame);
      const expected = await through('bridge', options, bytes);
      const got = await through(engine, options, bytes);
      const missing = explain(frames, only(expected, got));
      const surplus = explain(frames, only(got, expected));
      expect({ options, missing, surplus }).toEqual({ options, missing: [], surplus: [] });
      expect(got.length).toBeGreaterThan(count / 2);
      process.stderr.write(
        `direct ${engine}: ${JSON.stringify(options)}: ${got.length} frames agree ${JSON.stringify(await gateway.status())}\n`,
      );
      done += count;
    }
  });
});
