// SPDX-License-Identifier: Apache-2.0
// The runbook's chapter on rollouts, word by word: what a person types there, in this order, and what the fleet does.
import { AutoScalingClient } from '@aws-sdk/client-auto-scaling';
import { follow } from '../../../../constructs/fleet/follow-rollout';
import { missingFrom, type Step, stepsOf } from '../../../../lab/support/procedures';
import { scripts } from '../../../../package.json';
import { FINISHED_MINUTES } from './fixtures';
import { FakeAws, GROUP } from './fake-aws';

const STEPS = stepsOf('operations.md').filter(({ heading }) => heading === 'Roll out');

let aws: FakeAws;
beforeAll(async () => {
  aws = await FakeAws.create();
  aws.renew();
});
afterAll(() => aws.destroy());

function step(index: number): Step {
  const found = STEPS[index];
  if (!found) throw new Error(`docs/operations.md, Roll out: no step ${index}`);
  return found;
}

/** `modify-launch-template` -> `ModifyLaunchTemplate`. */
function camel(words: string): string {
  return words.replace(/(?:^|-)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** A command of the AWS CLI, as the call that it makes. */
async function call(command: string): Promise<string> {
  const [program, service, verb = '', ...rest] = command.split(/\s+/);
  expect(program).toBe('aws');
  const options = Object.fromEntries(
    rest.flatMap((word, index) => (word.startsWith('--') ? [[camel(word.slice(2)), rest[index + 1] ?? '']] : [])),
  );
  if (service === 'lambda') {
    expect({ verb, name: options.FunctionName }).toEqual({ verb: 'invoke', name: 'mirror-gateway-rollout' });
    const payload = (options.Payload ?? '').replaceAll("'", '');
    const url = `${aws.endpoint.url}/2015-03-31/functions/${options.FunctionName}/invocations`;
    return (await fetch(url, { method: 'POST', body: payload })).text();
  }
  const body = new URLSearchParams({ Action: camel(verb), ...options });
  const response = await fetch(aws.endpoint.url, { method: 'POST', body });
  expect(response.status).toBe(200);
  return response.text();
}

async function type({ place, commands }: Step): Promise<string> {
  expect(place).toBe('aws');
  const answers: string[] = [];
  for (const command of commands) answers.push(await call(command));
  return answers.join('\n');
}

const running = () => [aws.group.saved, aws.group.running.join()];

test('npm run rollout follows one to its end, with its progress', async () => {
  const { commands, shows } = step(0);
  expect(commands).toEqual(['npm run rollout']);
  expect(scripts.rollout).toBe('ts-node constructs/fleet/follow-rollout.ts');
  await aws.deploy('second');
  const client = new AutoScalingClient({
    region: 'eu-central-1',
    endpoint: aws.endpoint.url,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  });
  const said: string[] = [];
  const say = (line: string) => said.push(`08:00:00 ${line}`);
  const well = await follow({ client, group: GROUP, say, sleep: () => aws.pass(1) });
  client.destroy();
  expect({ well, missing: missingFrom(said.join('\n'), shows) }).toEqual({ well: true, missing: undefined });
  expect(said).toContain('08:00:00 version 2 is being rolled out: 33 %');
  expect(running()).toEqual(['2', '2,2,2']);
});

test('turned back while it runs, it ends on the version before', async () => {
  await aws.deploy('third');
  await aws.pass(15);
  expect(aws.group.running).toContain('3');
  await type(step(1));
  await aws.pass(FINISHED_MINUTES);
  expect(running()).toEqual(['2', '2,2,2']);
  expect(aws.endpoint.published.at(-1)?.message).toMatch(
    /rolled back: version 3 .* all run version 2 \(second\) again/,
  );
});

test('tried again, it is rolled out', async () => {
  expect(await type(step(2))).toContain('version 3 is being rolled out instead of version 2');
  await aws.pass(FINISHED_MINUTES);
  expect(running()).toEqual(['3', '3,3,3']);
});

test('an older version is rolled out by its number', async () => {
  expect(await type(step(3))).toContain('version 1 is being rolled out instead of version 3');
  await aws.pass(FINISHED_MINUTES);
  expect(running()).toEqual(['1', '1,1,1']);
});

test('there is no other step', () => {
  expect(STEPS).toHaveLength(4);
});
