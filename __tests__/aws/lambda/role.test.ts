// SPDX-License-Identifier: Apache-2.0
// The role in the synthesized stack against the calls that the function is seen to make: nothing missing, nothing to spare.
import { all, synth } from '../../unit/constructs/synthesized';
import { recordedPermissions } from './recorded';

/** What Lambda itself does in the role's name: write logs, keep failed events, trace. */
const RUNTIME = /^(?:logs|sqs|xray):/;

function allowed(): string[] {
  const [policy, ...more] = all(synth(), 'aws_iam_role_policy').filter(
    ({ name }) => name === 'attach-second-interfaces',
  );
  if (!policy || more.length > 0) throw new Error('the stack must have one policy for the function');
  const { Statement } = JSON.parse(policy.policy as string) as { Statement: { Action: string | string[] }[] };
  return [...new Set(Statement.flatMap(({ Action }) => Action))].sort();
}

test('the role allows every call that the function makes, and no other', async () => {
  const needed = [...(await recordedPermissions())].sort();
  expect(needed.length).toBeGreaterThan(8);
  expect(allowed().filter((action) => !RUNTIME.test(action))).toEqual(needed);
});

test('beside them it allows what Lambda does for the function, and no more', () => {
  expect(allowed().filter((action) => RUNTIME.test(action))).toEqual([
    'logs:CreateLogStream',
    'logs:PutLogEvents',
    'sqs:SendMessage',
    'xray:PutTelemetryRecords',
    'xray:PutTraceSegments',
  ]);
});
