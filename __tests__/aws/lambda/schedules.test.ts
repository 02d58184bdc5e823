// SPDX-License-Identifier: Apache-2.0
// Every call to AWS fails in every way, before and after it was carried out; then several fail in one launch, at random.
// Wherever that stops the function, the next delivery must bring the launch to a right end.
import { AttachNetworkInterfaceCommand } from '@aws-sdk/client-ec2';
import { Random } from '../../support/random';
import { type Call, type Fault, isFinal, type Kind, KINDS, MOMENTS, type Refusal } from './faults';
import { type End, FakeAws, type Gateway, IMPATIENT_MS, SWEEP, ZONES } from './fake-aws';

const SEED = Number(process.env.SCHEDULES_SEED ?? Date.now() % 2 ** 31);
const RANDOM_SCHEDULES = 80;
const SIDE_BY_SIDE_SCHEDULES = 20;

let aws: FakeAws;
beforeAll(async () => (aws = await FakeAws.create(IMPATIENT_MS)));
afterAll(() => aws.destroy());

/** A launch that would end like this without faults. */
interface Scenario {
  readonly name: string;
  readonly result: 'CONTINUE' | 'ABANDON';
  /** Interfaces that exist before the event comes. */
  readonly prepare?: (gateway: Gateway) => Promise<void>;
  /** What AWS refuses for good. */
  readonly refuses?: (call: Call) => boolean;
}

const REFUSAL: Refusal = { status: 400, code: 'AttachmentLimitExceeded', message: 'refused for good' };

const LAUNCH: Scenario = { name: 'a launch', result: 'CONTINUE' };
const WITH_SPARES: Scenario = {
  name: 'a launch with spare interfaces',
  result: 'CONTINUE',
  prepare: async ({ instance }) => {
    await aws.leftover(instance, ZONES[0]);
    const NetworkInterfaceId = await aws.leftover(instance, ZONES[0]);
    const input = { NetworkInterfaceId, InstanceId: instance, DeviceIndex: 1 };
    await aws.ec2.send(new AttachNetworkInterfaceCommand(input));
  },
};
const FAILS_CREATED: Scenario = {
  name: 'a launch that fails after the creation',
  result: 'ABANDON',
  refuses: ({ action }) => action === 'AttachNetworkInterface',
};
const FAILS_ATTACHED: Scenario = {
  name: 'a launch that fails after the attachment',
  result: 'ABANDON',
  refuses: ({ parameters }) => parameters.has('Attachment.AttachmentId'),
};

interface Planned extends Fault {
  readonly at: number;
}

interface Played {
  readonly gateway: Gateway;
  readonly ends: readonly End[];
  /** The faults that happened, with the call that they hit. */
  readonly happened: readonly (Planned & { readonly action: string })[];
  readonly calls: number;
}

/** One launch in which these calls fail, delivered until Lambda is satisfied, and once more. */
async function play({ prepare, refuses }: Scenario, plan: readonly Planned[]): Promise<Played> {
  await aws.renew();
  const gateway = await aws.launch();
  await prepare?.(gateway);
  const happened: (Planned & { readonly action: string })[] = [];
  aws.endpoint.inject((call, number) => {
    const planned = plan.find(({ at }) => at === number);
    const refusal = refuses?.(call) ? REFUSAL : undefined;
    if (!planned) return refusal;
    happened.push({ ...planned, action: call.action });
    // What AWS refuses is not carried out, whatever happens to its answer.
    return refusal ? { ...planned, moment: 'before' } : planned;
  });
  const ends = await aws.deliverUntilDone(gateway.event);
  const calls = aws.endpoint.calls.length;
  aws.endpoint.inject((call) => (refuses?.(call) ? REFUSAL : undefined));
  aws.passTime(30_000);
  return { gateway, ends: [...ends, await aws.deliver(gateway.event)], happened, calls };
}

/** What is wrong with the end of a launch, and with the result of one with a single fault; undefined when nothing is. */
async function complaintAbout(played: Played, scenario?: Scenario): Promise<string | undefined> {
  const { gateway, ends, happened } = played;
  const results = aws.resultsOf(gateway);
  const found = await aws.ours();
  const state = JSON.stringify({ happened, results, ends: ends.map(String), found, lines: aws.lines });
  if (results.length !== 1) return `completed ${results.length} times: ${state}`;
  if (ends.at(-1) !== 'done') return `failed when all was well again: ${state}`;
  if (scenario && happened.length !== 1) return `the fault did not happen: ${state}`;
  const final = happened.some(({ kind, action }) => isFinal(kind, action));
  if (scenario && results[0] !== (final ? 'ABANDON' : scenario.result))
    return `completed with the wrong result: ${state}`;
  if (results[0] === 'ABANDON') return found.length === 0 ? undefined : `abandoned, and leaked: ${state}`;
  const [only, ...others] = found;
  const ready =
    only?.Attachment?.InstanceId === gateway.instance &&
    only.Attachment.DeviceIndex === 1 &&
    only.Attachment.DeleteOnTermination === true &&
    only.SourceDestCheck === false;
  return ready && others.length === 0 ? undefined : `continued without exactly one interface as it must be: ${state}`;
}

function described(plan: readonly (Planned & { readonly action?: string })[]): string {
  return plan.map(({ at, moment, kind, action }) => `${kind} ${moment} call ${at} ${action ?? ''}`.trim()).join(', ');
}

describe('one fault in', () => {
  let schedules = 0;
  afterAll(() => process.stderr.write(`${schedules} schedules with one fault: SCHEDULES_SEED=${SEED}\n`));

  async function expectAsWithout(scenario: Scenario, faultsOf: (at: number) => readonly Planned[]): Promise<void> {
    const { calls } = await play(scenario, []);
    const wrong: string[] = [];
    for (const fault of range(calls).flatMap(faultsOf)) {
      schedules += 1;
      const complaint = await complaintAbout(await play(scenario, [fault]), scenario);
      if (complaint) wrong.push(`${described([fault])}: ${complaint}`);
    }
    expect(wrong).toEqual([]);
  }

  const before = (at: number, kind: Kind): Planned => ({ at, kind, moment: 'before' });
  const after = (at: number, kind: Kind): Planned => ({ at, kind, moment: 'after' });

  test.each(KINDS)(`${LAUNCH.name}, %s, before and after every call: ends as without it`, async (kind) => {
    await expectAsWithout(LAUNCH, (at) => [before(at, kind), after(at, kind)]);
  });

  const others = [WITH_SPARES, FAILS_CREATED, FAILS_ATTACHED];
  test.each(others)(
    `$name, any kind, before and after every call: ends as without it, seed ${SEED}`,
    async (scenario) => {
      const random = new Random(SEED);
      await expectAsWithout(scenario, (at) => [before(at, random.pick(KINDS)), after(at, random.pick(KINDS))]);
    },
  );
});

describe('several faults', () => {
  test(`at random calls end in one interface or none, seed ${SEED}`, async () => {
    process.stderr.write(
      `${RANDOM_SCHEDULES + SIDE_BY_SIDE_SCHEDULES} schedules with several faults: SCHEDULES_SEED=${SEED}\n`,
    );
    const random = new Random(SEED);
    const wrong: string[] = [];
    for (let number = 0; number < RANDOM_SCHEDULES; number += 1) {
      const scenario = random.pick([LAUNCH, WITH_SPARES, FAILS_CREATED, FAILS_ATTACHED]);
      const plan = range(2 + random.below(3)).map(() => ({
        at: random.below(20),
        kind: random.pick(KINDS),
        moment: random.pick(MOMENTS),
      }));
      const played = await play(scenario, plan);
      const complaint = await complaintAbout(played);
      if (complaint) wrong.push(`${scenario.name}, ${described(played.happened)}: ${complaint}`);
    }
    expect(wrong).toEqual([]);
  });

  test(`in two deliveries side by side end in one interface or none, seed ${SEED}`, async () => {
    const random = new Random(SEED + 1);
    const wrong: string[] = [];
    for (let number = 0; number < SIDE_BY_SIDE_SCHEDULES; number += 1) {
      await aws.renew();
      aws.endpoint.honoursClientTokens = random.below(2) === 0;
      const gateway = await aws.launch();
      const plan = range(2).map(() => ({
        at: random.below(20),
        kind: random.pick(KINDS),
        moment: random.pick(MOMENTS),
      }));
      aws.endpoint.inject((_, count) => plan.find(({ at }) => at === count));
      const both = await Promise.all([aws.deliverUntilDone(gateway.event), aws.deliverUntilDone(gateway.event)]);
      aws.endpoint.heal();
      const ends = [...both.flat(), await aws.deliver(gateway.event)];
      const complaint = await complaintAbout({ gateway, ends, happened: [], calls: 0 });
      if (complaint) wrong.push(`${described(plan)}: ${complaint}`);
    }
    expect(wrong).toEqual([]);
  });
});

describe('one fault in the sweeper', () => {
  const HOUR_MS = 3_600_000;
  const COUNTED: readonly Kind[] = ['throttle', 'server error', 'timeout'];

  async function sweepWith(plan: readonly Planned[]): Promise<{ readonly calls: number; readonly counted: number }> {
    await aws.renew();
    const young = await aws.leftover('i-00000000000000001', ZONES[0], HOUR_MS / 2);
    for (const n of [1, 2, 3]) await aws.leftover(`i-0000000000000000${n}`, ZONES[0], 2 * HOUR_MS);
    aws.endpoint.inject((_, number) => plan.find(({ at }) => at === number));
    await aws.deliver(SWEEP);
    const calls = aws.endpoint.calls.length;
    aws.endpoint.heal();
    expect(await aws.deliver(SWEEP)).toBe('done');
    expect((await aws.ours()).map(({ NetworkInterfaceId }) => NetworkInterfaceId)).toEqual([young]);
    const counts = aws.lines.map(({ facts }) => Number(facts.OrphanedEnisDeleted ?? 0));
    return { calls, counted: counts.reduce((sum, count) => sum + count, 0) };
  }

  test.each(KINDS)('%s, before and after every call: the orphans go, and nothing else', async (kind) => {
    const { calls, counted } = await sweepWith([]);
    expect(counted).toBe(3);
    for (const plan of MOMENTS.flatMap((moment) => range(calls).map((at) => [{ at, kind, moment }]))) {
      const swept = await sweepWith(plan);
      if (COUNTED.includes(kind)) expect({ plan, counted: swept.counted }).toEqual({ plan, counted: 3 });
    }
  });
});

function range(count: number): readonly number[] {
  return Array.from({ length: count }, (_, number) => number);
}
