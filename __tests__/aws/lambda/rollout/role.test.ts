// SPDX-License-Identifier: Apache-2.0
// The rollout function's role against the calls that the function is seen to make, and against what Auto Scaling asks for.
import { all, synth } from '../../../unit/constructs/synthesized';
import { FINISHED_MINUTES } from './fixtures';
import { FakeAws } from './fake-aws';

/** What Lambda itself does in the role's name. */
const RUNTIME = /^(?:logs|sqs|xray):/;
/** Checked by Auto Scaling before a start, and by SNS and KMS before a message. */
const CHECKED = ['ec2:RunInstances', 'iam:PassRole', 'kms:Decrypt', 'kms:GenerateDataKey'];

const SERVICES: Readonly<Record<string, RegExp>> = {
  autoscaling: /AutoScalingGroups|InstanceRefresh/,
  cloudwatch: /Alarms/,
  ec2: /LaunchTemplate|Tags/,
  sns: /Publish/,
};

function permissionFor(action: string): string {
  const [service] = Object.entries(SERVICES).find(([, pattern]) => pattern.test(action)) ?? ['?'];
  return `${service}:${action}`;
}

test('the role allows every call that the function makes, what is checked on its behalf, and no other', async () => {
  const aws = await FakeAws.create();
  aws.renew();
  await aws.deploy('second');
  await aws.pass(5);
  await aws.deploy('third');
  await aws.pass(FINISHED_MINUTES);
  const made = new Set(aws.endpoint.actions.map(permissionFor));
  await aws.destroy();
  const topic = 'arn:aws:sns:eu-central-1:111122223333:oncall';
  const [policy] = all(synth({ alarm_topic_arn: topic }), 'aws_iam_role_policy').filter(
    ({ name }) => name === 'roll-out',
  );
  const { Statement } = JSON.parse(String(policy?.policy)) as { Statement: { Action: string | string[] }[] };
  const allowed = [...new Set(Statement.flatMap(({ Action }) => Action))].filter((action) => !RUNTIME.test(action));
  expect(allowed.sort()).toEqual([...made, ...CHECKED].sort());
});
