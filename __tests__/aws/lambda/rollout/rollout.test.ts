// SPDX-License-Identifier: Apache-2.0
// One rollout after another, as the function brings them about: what the group is saved with, what runs, what the topic got.
import { FINISHED_MINUTES, sleepless } from './fixtures';
import { ALARM, LOOK, FakeAws } from './fake-aws';

let aws: FakeAws;
beforeAll(async () => (aws = await FakeAws.create()));
afterAll(() => aws.destroy());
beforeEach(() => void aws.renew());

const lines = () => aws.endpoint.published.map(({ message }) => message);
const state = () => [aws.group.saved, aws.group.running.join()] as const;

test('a good version runs everywhere, then the group is saved with it, and one line says so', async () => {
  expect(await aws.deploy('second')).toEqual({ rollout: 'version 2 is being rolled out instead of version 1' });
  await aws.pass(15);
  expect(aws.group.saved).toBe('1');
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['2', '2,2,2']);
  expect(lines()).toEqual([
    expect.stringMatching(
      /^mirror-gateway: rollout succeeded: version 2 \(second\) has replaced version 1 \(first\) on 3 of 3 gateways in \d+ min$/,
    ),
  ]);
  expect(aws.endpoint.published[0]?.subject).toBe('mirror-gateway: rollout succeeded');
});

test('a version that does not become healthy ends on the previous one, and is not tried again unasked', async () => {
  aws.group.becomesHealthy = (version) => version !== '2';
  await aws.deploy('bad');
  await aws.pass(300);
  expect(state()).toEqual(['1', '1,1,1']);
  expect(aws.group.refreshes).toHaveLength(1);
  expect(lines()).toEqual([
    'mirror-gateway: rollout rolled back: version 2 (bad) had been put on 0 of 3 gateways; all run version 1 (first) again; ' +
      'reason: Instances did not become healthy within one hour.',
  ]);
});

test('a version that fires the rollout’s alarm ends on the previous one', async () => {
  await aws.deploy('degraded');
  await aws.pass(15);
  aws.endpoint.alarms.set(ALARM, 'ALARM');
  await aws.pass(60);
  expect(state()).toEqual(['1', '1,1,1']);
  expect(lines()).toEqual([expect.stringMatching(/rolled back.*CloudWatch alarm mirror-gateway-degraded went into/)]);
});

test('a revert in mid-rollout cancels it and goes at once', async () => {
  await aws.deploy('bad');
  await aws.pass(15);
  expect(aws.group.running).toContain('2');
  expect(await aws.deploy('as the first')).toEqual({
    rollout: expect.stringMatching(/^version 3 is being rolled out/) as string,
  });
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['3', '3,3,3']);
  expect(lines()).toEqual([
    expect.stringMatching(
      /^mirror-gateway: rollout cancelled: version 2 \(bad\) .*; version 3 is wanted now; reason: /,
    ),
    expect.stringMatching(/^mirror-gateway: rollout succeeded: version 3 /),
  ]);
});

test('a revert while a rollback runs replaces that, too', async () => {
  aws.group.becomesHealthy = (version) => version !== '2';
  await aws.deploy('bad');
  await aws.pass(5);
  aws.group.rollBack();
  await aws.deploy('third');
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['3', '3,3,3']);
});

test('an alarm that fires before, or has no data, does not keep a rollout from starting, and the answer names it', async () => {
  for (const before of ['ALARM', 'INSUFFICIENT_DATA'] as const) {
    aws.renew();
    aws.endpoint.alarms.set(ALARM, before);
    expect(await aws.deploy('second')).toEqual({
      rollout:
        'version 2 is being rolled out instead of version 1, without mirror-gateway-degraded, which fired already or had no data',
    });
    await aws.pass(FINISHED_MINUTES);
    expect(state()).toEqual(['2', '2,2,2']);
  }
});

test('an alarm that fires between the look and the start has it looked at again', async () => {
  aws.endpoint.interference = {
    ...sleepless,
    before: (action) => {
      if (action === 'StartInstanceRefresh' && !aws.group.active) aws.endpoint.alarms.set(ALARM, 'ALARM');
      return undefined;
    },
  };
  expect(await aws.deploy('second')).toEqual({
    rollout: expect.stringContaining('without mirror-gateway-degraded') as string,
  });
});

test('a refresh that ends between the look and the cancel is no error: it is looked at again', async () => {
  await aws.deploy('bad');
  await aws.pass(15);
  aws.endpoint.interference = {
    ...sleepless,
    before: (action) => {
      if (action === 'CancelInstanceRefresh' && aws.group.active?.status === 'InProgress') aws.group.cancel();
      return undefined;
    },
  };
  expect(await aws.deploy('good')).toHaveProperty('rollout');
  aws.endpoint.interference = sleepless;
  await aws.pass(2 * FINISHED_MINUTES);
  expect(state()).toEqual(['3', '3,3,3']);
});

test('a refresh that somebody starts between the look and the start is no error either', async () => {
  aws.endpoint.interference = {
    ...sleepless,
    before: (action) => {
      const same = { version: '2', autoRollback: true, skipMatching: true, alarms: [] };
      if (action === 'StartInstanceRefresh' && !aws.group.active) aws.group.start(same);
      return undefined;
    },
  };
  expect(await aws.deploy('second')).toHaveProperty('rollout');
  aws.endpoint.interference = sleepless;
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['2', '2,2,2']);
  expect(aws.group.refreshes).toHaveLength(1);
});

test('a rollout that could not start is started by the schedule', async () => {
  aws.endpoint.addVersion('second');
  await aws.deliver(LOOK);
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['2', '2,2,2']);
});

test('a person who cancels has it stay cancelled, and who asks again gets it', async () => {
  await aws.deploy('second');
  await aws.pass(15);
  aws.group.cancel();
  await aws.pass(120);
  expect(aws.group.refreshes).toHaveLength(1);
  expect(aws.group.saved).toBe('1');
  await aws.deliver({ start: true });
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['2', '2,2,2']);
});

test('rollback-instance-refresh returns to the version before', async () => {
  await aws.deploy('second');
  await aws.pass(15);
  aws.group.rollBack();
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['1', '1,1,1']);
  expect(lines()).toEqual([
    expect.stringMatching(/rolled back: version 2 .* all run version 1 .*; reason: Rollback was requested/),
  ]);
});

test('a version that was made the default one by hand is rolled back to after it was replaced', async () => {
  await aws.deploy('second');
  await aws.pass(FINISHED_MINUTES);
  aws.endpoint.defaultVersion = 1;
  await aws.deliver({ start: true });
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['1', '1,1,1']);
});

test('a call that comes late with an older version does not bring that one', async () => {
  await aws.deploy('second');
  await aws.deploy('third');
  await aws.deliver({ start: '2' });
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['3', '3,3,3']);
});

test('a launch that EC2 refuses is counted, with its reason', async () => {
  aws.group.refusesLaunch = () => 'We currently do not have sufficient c5n.large capacity in eu-central-1a.';
  await aws.deploy('second');
  await aws.pass(3);
  const failed = aws.lines.filter(({ facts }) => facts.LaunchesFailed === 1);
  expect(failed[0]?.message).toMatch(/^a launch failed: We currently do not have sufficient c5n.large capacity/);
  aws.group.refusesLaunch = () => undefined;
  await aws.pass(FINISHED_MINUTES);
  expect(state()).toEqual(['2', '2,2,2']);
});

test('before a destruction what runs is cancelled, and nothing starts after it', async () => {
  await aws.deploy('second');
  await aws.pass(5);
  await aws.deliver({ tf: { action: 'delete', prev_input: {} } });
  expect(aws.group.active).toBeUndefined();
  await aws.pass(10);
  expect(aws.group.refreshes).toHaveLength(1);
});

test('a topic that refuses does not keep a rollout from starting, and is told later', async () => {
  await aws.deploy('second');
  await aws.pass(5);
  aws.endpoint.interference = {
    ...sleepless,
    before: (action) => (action === 'Publish' ? sleepless.refusal('AuthorizationError', 403) : undefined),
  };
  await aws.deploy('third');
  expect(aws.group.active?.version).toBe('3');
  aws.endpoint.interference = sleepless;
  await aws.pass(FINISHED_MINUTES);
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
  expect(await aws.deliver(event)).toEqual({ rollout: expect.stringContaining(said) as string });
  expect(aws.endpoint.actions).toEqual([]);
});
