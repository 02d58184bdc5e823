// SPDX-License-Identifier: Apache-2.0
// What EC2's limit on IP fragments leaves of either choice: datagrams forwarded whole do not meet it, of those that leave in
// three fragments a third of the limit arrives, whichever engine makes them; the gateway counts what it sent.
import { EC2_FRAGMENTS_PER_SECOND, fragmentsOf } from '../../constructs/config/limits';
import { type Engine, ENGINES, isDirect } from '../../lab/namespaces/engines';
import { Progress } from '../../lab/support/host';
import {
  deploy,
  fragmentsAtLimit,
  fragmentsDropped,
  labDown,
  labUp,
  plugSecondary,
  unplugSecondary,
  wantedOptions,
} from '../../lab/namespaces/namespaces';
import { withDeepBacklog } from '../../lab/namespaces/stress';
import { type Finished, Stream } from '../../lab/packets/traffic-stream';

const PPS = 20_000;
const LEAST_PPS = 19_000;
/** 1.8 seconds: two of the limit's. */
const COUNT = 36_000;
const BYTES = 2852;
const EGRESS_MTU = 1400;
const FRAGMENTS = fragmentsOf(BYTES, EGRESS_MTU);
/** Datagrams of which all fragments can be within a second's allowance. */
const MOST_CUT = Math.ceil(EC2_FRAGMENTS_PER_SECOND / FRAGMENTS);
/** What the limit drops never comes. */
const ARRIVAL_MS = 1000;

interface Sample {
  readonly fragments_sent: number;
  readonly kernel_fragments: number;
}

/** By the direct engine and by the kernel, since the lab is up. */
async function fragmentsSent(): Promise<number> {
  const { fragments_sent, kernel_fragments } = JSON.parse(await deploy('status', '--json')) as Sample;
  return fragments_sent + kernel_fragments;
}

/** The lab's stream of large datagrams. */
async function stream(progress: Progress, arrivalMs?: number): Promise<Finished> {
  return withDeepBacklog(async () => {
    const running = await Stream.start({ pps: PPS, bytes: [BYTES], flows: 1000, count: COUNT }, progress);
    return running.finish({ early: false, arrivalMs });
  });
}

beforeAll(() => Stream.build());
afterAll(labDown);

/** The fallback rule is what the bridge engine has behind it. */
const CUTTING = ENGINES.filter((engine) => engine !== 'standby');

describe.each(CUTTING)('engine %s, behind which EC2 limits fragments', (engine: Engine) => {
  const progress = new Progress('ec2 limit');

  it(`delivers all of ${PPS} datagrams/s of ${BYTES} bytes that it forwards whole`, async () => {
    await labUp(engine, { ec2FragmentLimit: true });
    const { sent, report } = await stream(progress);
    progress.say(`${engine}, whole: ${sent.sent} sent at ${sent.pps}/s, ${report.received} arrived`);
    expect(sent.pps).toBeGreaterThanOrEqual(LEAST_PPS);
    expect(report).toMatchObject({
      ...{
        received: COUNT,
        frames: COUNT,
        missing: 0,
        duplicates: 0,
        corrupt: 0,
        frames_with_df: 0,
        receiver_drops: 0,
      },
    });
    expect(await fragmentsAtLimit()).toEqual({ passed: 0, dropped: 0 });
    expect(await fragmentsSent()).toBe(0);
  });

  it(`cuts them at ${EGRESS_MTU}, and at most ${MOST_CUT} a second arrive; the limit says what it dropped`, async () => {
    await labUp(engine, { egressMtu: EGRESS_MTU, ec2FragmentLimit: true });
    const { sent, report } = await stream(progress, ARRIVAL_MS);
    const { passed = 0, dropped = 0 } = (await fragmentsAtLimit()) ?? {};
    progress.say(
      `${engine}, cut: ${sent.sent} sent at ${sent.pps}/s, ${report.received} arrived in ${report.seconds} s; ` +
        `of the fragments, ${passed} passed the limit, ${dropped} did not`,
    );
    // An engine that falls behind sends for longer than it was sent to.
    const seconds = Math.ceil(Math.max(sent.seconds, report.seconds));
    expect(report.received).toBeLessThanOrEqual(MOST_CUT * seconds);
    expect(passed).toBeLessThanOrEqual(EC2_FRAGMENTS_PER_SECOND * seconds);
    // The limit, not the engine, is why so few arrive; and what it lets pass is not lost elsewhere.
    expect(report.received).toBeGreaterThan(MOST_CUT);
    expect(report).toMatchObject({ frames: passed, duplicates: 0, corrupt: 0, frames_with_df: 0, receiver_drops: 0 });
    expect(await fragmentsDropped()).toBe(dropped);
    expect(dropped).toBeGreaterThan(passed);
    // What the gateway itself can tell is how many fragments it sent; that EC2 dropped them, it sees on ENA only.
    expect(await fragmentsSent()).toBeGreaterThanOrEqual(passed + dropped);
    if (!isDirect(engine)) return;
    expect(await fragmentsSent()).toBe(FRAGMENTS * COUNT);
    expect(passed + dropped).toBe(FRAGMENTS * COUNT);
  });
});

describe('the lab', () => {
  it('limits fragments again after the second interface was plugged anew', async () => {
    await labUp('direct/generic', { egressMtu: EGRESS_MTU, ec2FragmentLimit: true });
    await unplugSecondary();
    await plugSecondary();
    expect(await fragmentsAtLimit()).toEqual({ passed: 0, dropped: 0 });
  });

  it('plays EC2 only where it is asked to, and stands when another is refused', async () => {
    await labUp('standby');
    expect(await fragmentsAtLimit()).toBeUndefined();
    expect(await fragmentsDropped()).toBe(0);
    await expect(labUp('bridge', { egressMtu: 40 })).rejects.toThrow(
      'egress_mtu = 40: must be a whole number from 576',
    );
    expect((await deploy('config', 'get', 'target_port')).trim()).toBe('31765');
  });

  it.each([
    ['40', '', 'egress_mtu = "40": must be a whole number from 576 to 9001, in bytes'],
    ['1400 ', '', 'egress_mtu = "1400 "'],
    ['', 'yes', "lab: EC2_FRAGMENT_LIMIT is 'yes', it must be 1 (as EC2) or 0 (no limit)"],
  ])('refuses EGRESS_MTU=%j with EC2_FRAGMENT_LIMIT=%j and says what is allowed', (egressMtu, limit, message) => {
    expect(() => wantedOptions(egressMtu, limit)).toThrow(message);
  });

  it('takes what make hands over', () => {
    expect(wantedOptions('', '')).toEqual({ egressMtu: undefined, ec2FragmentLimit: false });
    expect(wantedOptions('1400', '1')).toEqual({ egressMtu: 1400, ec2FragmentLimit: true });
  });
});
