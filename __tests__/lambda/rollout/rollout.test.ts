// SPDX-License-Identifier: Apache-2.0
// One rollout after another, as the function brings them about: what the group is saved with, what runs, what the topic got.
import { FINISHED_MINUTES, sleepless } from './stories';
import { ALARM, LOOK, RolloutWorld } from './world';

let world: RolloutWorld;
beforeAll(async () => (world = await RolloutWorld.create()));
afterAll(() => world.destroy());
beforeEach(() => void world.renew());

const lines = () => world.endpoint.published.map(({ message }) => message);
const state = () => [world.group.saved, world.group.running.join()] as const;

test('a good version runs everywhere, then the group is saved with it, and one line says so', async () => {
  expect(await world.deploy('second')).toEqual({ rollout: 'version 2 is being rolled out instead of version 1' });
  await world.pass(15);
  expect(world.group.saved).toBe('1');
  await world.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['2', '2,2,2']);
  expect(lines()).toEqual([
    expect.stringMatching(
      /^mirror-gateway: rollout succeeded: version 2 \(second\) has replaced version 1 \(first\) on 3 of 3 gateways in \d+ min$/,
    ),
  ]);
  expect(world.endpoint.published[0]?.subject).toBe('mirror-gateway: rollout succeeded');
});

test('a version that does not become healthy ends on the previous one, and is not tried again unasked', async () => {
  world.group.becomesHealthy = (version) => version !== '2';
  await world.deploy('bad');
  await world.pass(300);
  expect(state()).toEqual(['1', '1,1,1']);
  expect(world.group.refreshes).toHaveLength(1);
  expect(lines()).toEqual([
    'mirror-gateway: rollout rolled back: version 2 (bad) had been put on 0 of 3 gateways; all run version 1 (first) again; ' +
      'reason: Instances did not become healthy within one hour.',
  ]);
});

test('a version that fires the rollout’s alarm ends on the previous one', async () => {
  await world.deploy('degraded');
  await world.pass(15);
  world.endpoint.alarms.set(ALARM, 'ALARM');
  await world.pass(60);
  expect(state()).toEqual(['1', '1,1,1']);
  expect(lines()).toEqual([expect.stringMatching(/rolled back.*CloudWatch alarm mirror-gateway-degraded went into/)]);
});

test('a revert in mid-rollout cancels it and goes at once', async () => {
  await world.deploy('bad');
  await world.pass(15);
  expect(world.group.running).toContain('2');
  expect(await world.deploy('as the first')).toEqual({
    rollout: expect.stringMatching(/^version 3 is being rolled out/) as string,
  });
  await world.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['3', '3,3,3']);
  expect(lines()).toEqual([
    expect.stringMatching(
      /^mirror-gateway: rollout cancelled: version 2 \(bad\) .*; version 3 is wanted now; reason: /,
    ),
    expect.stringMatching(/^mirror-gateway: rollout succeeded: version 3 /),
  ]);
});

test('a revert while a rollback runs replaces that, too', async () => {
  world.group.becomesHealthy = (version) => version !== '2';
  await world.deploy('bad');
  await world.pass(5);
  world.group.rollBack();
  await world.deploy('third');
  await world.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['3', '3,3,3']);
});

test('an alarm that fires before, or has no data, does not keep a rollout from starting, and the answer names it', async () => {
  for (const before of ['ALARM', 'INSUFFICIENT_DATA'] as const) {
    world.renew();
    world.endpoint.alarms.set(ALARM, before);
    expect(await world.deploy('second')).toEqual({
      rollout:
        'version 2 is being rolled out instead of version 1, without mirror-gateway-degraded, which fired already or had no data',
    });
    await world.pass(FINISHED_MINUTES);
    expect(state()).toEqual(['2', '2,2,2']);
  }
});

test('an alarm that fires between the look and the start has it looked at again', async () => {
  world.endpoint.interference = {
    ...sleepless,
    before: (action) => {
      if (action === 'StartInstanceRefresh' && !world.group.active) world.endpoint.alarms.set(ALARM, 'ALARM');
      return undefined;
    },
  };
  expect(await world.deploy('second')).toEqual({
    rollout: expect.stringContaining('without mirror-gateway-degraded') as string,
  });
});

test('a rollout that could not start is started by the schedule', async () => {
  world.endpoint.addVersion('second');
  await world.deliver(LOOK);
  await world.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['2', '2,2,2']);
});

test('a person who cancels has it stay cancelled, and who asks again gets it', async () => {
  await world.deploy('second');
  await world.pass(15);
  world.group.cancel();
  await world.pass(120);
  expect(world.group.refreshes).toHaveLength(1);
  expect(world.group.saved).toBe('1');
  await world.deliver({ start: true });
  await world.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['2', '2,2,2']);
});

test('rollback-instance-refresh returns to the version before', async () => {
  await world.deploy('second');
  await world.pass(15);
  world.group.rollBack();
  await world.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['1', '1,1,1']);
  expect(lines()).toEqual([
    expect.stringMatching(/rolled back: version 2 .* all run version 1 .*; reason: Rollback was requested/),
  ]);
});

test('a version that was made the default one by hand is rolled back to after it was replaced', async () => {
  await world.deploy('second');
  await world.pass(FINISHED_MINUTES);
  world.endpoint.defaultVersion = 1;
  await world.deliver({ start: true });
  await world.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['1', '1,1,1']);
});

test('a call that comes late with an older version does not bring that one', async () => {
  await world.deploy('second');
  await world.deploy('third');
  await world.deliver({ start: '2' });
  await world.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['3', '3,3,3']);
});

test('a launch that EC2 refuses is counted, with its reason', async () => {
  world.group.refusesLaunch = () => 'We currently do not have sufficient c5n.large capacity in eu-central-1a.';
  await world.deploy('second');
  await world.pass(3);
  const failed = world.lines.filter(({ facts }) => facts.LaunchesFailed === 1);
  expect(failed[0]?.message).toMatch(/^a launch failed: We currently do not have sufficient c5n.large capacity/);
  world.group.refusesLaunch = () => undefined;
  await world.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['2', '2,2,2']);
});

test('before a destruction what runs is cancelled, and nothing starts after it', async () => {
  await world.deploy('second');
  await world.pass(5);
  await world.deliver({ tf: { action: 'delete', prev_input: {} } });
  expect(world.group.active).toBeUndefined();
  await world.pass(10);
  expect(world.group.refreshes).toHaveLength(1);
});

test('a topic that refuses does not keep a rollout from starting, and is told later', async () => {
  await world.deploy('second');
  await world.pass(5);
  world.endpoint.interference = {
    ...sleepless,
    before: (action) => (action === 'Publish' ? sleepless.refusal('AuthorizationError', 403) : undefined),
  };
  await world.deploy('third');
  expect(world.group.active?.version).toBe('3');
  world.endpoint.interference = sleepless;
  await world.pass(FINISHED_MINUTES);
  expect(lines()).toHaveLength(2);
});

test.each([
  [{}, 'expected a start'],
  [null, 'expected an object'],
  [{ start: 'latest' }, 'expected true or the number'],
  [{ tf: { action: 'explode' } }, 'expected create, update or delete'],
  [
    { source: 'aws.autoscaling', 'detail-type': 'x', detail: { AutoScalingGroupName: 'other' } },
    'expected "mirror-gateway-xdp-asg"',
  ],
])('%j is refused before AWS is called', async (event, said) => {
  expect(await world.deliver(event)).toEqual({ rollout: expect.stringContaining(said) as string });
  expect(world.endpoint.actions).toEqual([]);
});
