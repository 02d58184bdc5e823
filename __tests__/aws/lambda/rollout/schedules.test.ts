// SPDX-License-Identifier: Apache-2.0
// Every call of the rollout function to AWS fails in every way, before and after it was carried out, in every scenario; then
// several fail, at random. Wherever that stops the function: delivered again, or woken by the schedule, it brings the wanted
// version to every gateway by one rollout, and never another version.
import { Refused } from '../../../../lab/aws/auto-scaling';
import { Random } from '../../../support/random';
import { FINISHED_MINUTES, sleepless } from './fixtures';
import { LOOK, FakeAws } from './fake-aws';

const SEED = Number(process.env.SCHEDULES_SEED ?? Date.now() % 2 ** 31);
const RANDOM_SCHEDULES = 40;
/** Many times what the stand-in needs on an idle machine, and short enough to wait for it in vain many times. */
const IMPATIENT_MS = 100;

const FIRST = 9;
const LAST = 4;

const KINDS = ['throttle', 'server error', 'timeout', 'crash'] as const;
const MOMENTS = ['before', 'after'] as const;

interface Fault {
  readonly at: number;
  readonly kind: (typeof KINDS)[number];
  readonly moment: (typeof MOMENTS)[number];
}

/** What the function does while calls fail. */
interface Scenario {
  readonly name: string;
  /** Before the faults. */
  readonly prepare: () => Promise<void>;
  readonly event: unknown;
  readonly kinds: readonly Fault['kind'][];
  /** The version that is wanted in the end. */
  readonly wanted: string;
}

let aws: FakeAws;
beforeAll(async () => {
  aws = await FakeAws.create();
});
afterAll(() => aws.destroy());

const SCENARIOS: readonly [Scenario, ...Scenario[]] = [
  {
    name: 'a deploy',
    prepare: () => Promise.resolve(void aws.endpoint.addVersion('second')),
    event: { start: '2' },
    kinds: KINDS,
    wanted: '2',
  },
  {
    name: 'the schedule, which finds a version that nobody started',
    prepare: () => Promise.resolve(void aws.endpoint.addVersion('second')),
    event: LOOK,
    kinds: ['throttle', 'crash'],
    wanted: '2',
  },
  {
    name: 'a revert in mid-rollout',
    prepare: async () => {
      await aws.deploy('bad');
      aws.group.pass(14);
      aws.endpoint.addVersion('third');
    },
    event: { start: '3' },
    kinds: KINDS,
    wanted: '3',
  },
  {
    name: 'the end of a rollout',
    prepare: async () => {
      await aws.deploy('second');
      aws.group.pass(FINISHED_MINUTES);
      aws.group.events.length = 0;
    },
    event: LOOK,
    kinds: ['throttle', 'crash'],
    wanted: '2',
  },
];

/** Lets these calls fail, counted from now. */
function interfere(plan: readonly Fault[]): { readonly happened: Fault[]; readonly calls: () => number } {
  let calls = -1;
  const happened: Fault[] = [];
  const strike = (moment: Fault['moment']): Refused | 'silence' | undefined => {
    const fault = plan.find((each) => each.at === calls && each.moment === moment);
    if (!fault) return undefined;
    happened.push(fault);
    if (fault.kind === 'throttle') return new Refused('Throttling', 'injected');
    if (fault.kind === 'server error') return new Refused('InternalFailure', 'injected', 500);
    if (fault.kind === 'crash') aws.crash();
    return 'silence';
  };
  aws.endpoint.interference = {
    before: () => {
      calls += 1;
      return strike('before');
    },
    after: () => strike('after'),
  };
  return { happened, calls: () => calls + 1 };
}

interface Played {
  readonly calls: number;
  readonly happened: readonly Fault[];
  readonly complaint: string | undefined;
}

/** One scenario with these faults, delivered until Lambda is satisfied; then all is well and time passes. */
async function play({ prepare, event, wanted }: Scenario, plan: readonly Fault[]): Promise<Played> {
  aws.renew(2);
  aws.callMs = 5_000;
  await prepare();
  aws.callMs = IMPATIENT_MS;
  const { happened, calls } = interfere(plan);
  await aws.deliverUntilDone(event);
  const made = calls();
  aws.endpoint.interference = sleepless;
  aws.callMs = 5_000;
  // The schedule, and time enough for what it begins; events are left out, they may get lost.
  for (const minutes of [2, FINISHED_MINUTES, 0]) {
    await aws.deliverUntilDone(LOOK);
    aws.group.pass(minutes);
  }
  return { calls: made, happened, complaint: complaintAbout(wanted) };
}

function complaintAbout(wanted: string): string | undefined {
  const { saved, running, refreshes } = aws.group;
  const toWanted = refreshes.filter(({ version }) => version === wanted);
  const told = aws.endpoint.published.filter(({ message }) => message.includes(`succeeded: version ${wanted} `));
  const brought = refreshes.map(({ version, status }) => `${version} ${status}`);
  const state = JSON.stringify({ saved, running, brought, published: aws.endpoint.published });
  if (saved !== wanted || running.some((version) => version !== wanted)) return `another version: ${state}`;
  if (toWanted.length !== 1) return `${toWanted.length} rollouts: ${state}`;
  if (refreshes.some(({ version }) => Number(version) > Number(wanted))) return `a version of nobody: ${state}`;
  if (told.length < 1 || told.length > 2) return `told ${told.length} times: ${state}`;
  return undefined;
}

/** All of them, but not of those looks in between that wait for the end of a cancellation and are alike. */
function positionsIn(calls: number): readonly number[] {
  const all = Array.from({ length: calls }, (_, at) => at);
  return calls <= FIRST + LAST ? all : [...all.slice(0, FIRST), ...all.slice(-LAST)];
}

const described = (plan: readonly Fault[]) => plan.map(({ at, kind, moment }) => `${kind} ${moment} call ${at}`).join();

describe('one fault', () => {
  let schedules = 0;
  afterAll(() => process.stderr.write(`${schedules} schedules with one fault\n`));

  test.each(SCENARIOS)(
    'in $name, before and after every call: one rollout, of the wanted version',
    async (scenario) => {
      const { calls, complaint } = await play(scenario, []);
      const wrong = complaint ? [`without a fault: ${complaint}`] : [];
      for (const at of positionsIn(calls)) {
        for (const fault of scenario.kinds.flatMap((kind) => MOMENTS.map((moment) => ({ at, kind, moment })))) {
          schedules += 1;
          const played = await play(scenario, [fault]);
          if (played.happened.length !== 1) wrong.push(`${described([fault])}: did not happen`);
          if (played.complaint) wrong.push(`${described([fault])}: ${played.complaint}`);
        }
      }
      expect(wrong).toEqual([]);
    },
  );

  test('was tried in at least 200 schedules', () => {
    expect(schedules).toBeGreaterThanOrEqual(200);
  });
});

test(`several faults at random calls: one rollout, of the wanted version, seed ${SEED}`, async () => {
  process.stderr.write(`${RANDOM_SCHEDULES} schedules with several faults: SCHEDULES_SEED=${SEED}\n`);
  const random = new Random(SEED);
  const wrong: string[] = [];
  for (let number = 0; number < RANDOM_SCHEDULES; number += 1) {
    const scenario = random.pick(SCENARIOS);
    const plan = Array.from({ length: 2 + random.below(3) }, () => ({
      at: random.below(14),
      kind: random.pick(KINDS),
      moment: random.pick(MOMENTS),
    }));
    const { complaint, happened } = await play(scenario, plan);
    if (complaint) wrong.push(`${scenario.name}, ${described(happened)}: ${complaint}`);
  }
  expect(wrong).toEqual([]);
});
