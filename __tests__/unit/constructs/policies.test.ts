// SPDX-License-Identifier: Apache-2.0
// Every IAM statement of the stack, wherever it stands: none allows more than it names, none denies without a condition, and
// the walk would find one that does.
import { IamRolePolicy } from '@cdktf/provider-aws/lib/iam-role-policy';
import { SqsQueuePolicy } from '@cdktf/provider-aws/lib/sqs-queue-policy';
import { all, type Body, parsed, synth, synthOwn, type Synthesized, VARIANTS } from './synthesized';

interface Found {
  /** Type and attribute. */
  readonly at: string;
  readonly statement: Body;
}

/** The statements of every attribute, of any resource, that holds a policy document. */
function statementsOf(stack: Synthesized): Found[] {
  return Object.entries(stack.resource).flatMap(([type, bodies]) =>
    Object.values(bodies)
      .flatMap((body) => Object.entries(body))
      .filter(([, value]) => typeof value === 'string' && value.includes('"Statement"'))
      .flatMap(([attribute, value]) => {
        const { Statement } = parsed<{ Statement: Body | Body[] }>(value);
        return [Statement].flat().map((statement) => ({ at: `${type}.${attribute}`, statement }));
      }),
  );
}

const KNOWN = ['Sid', 'Effect', 'Principal', 'Action', 'Resource', 'Condition'];

// AWS knows no narrower resource for these (Service Authorization Reference).
const ANYWHERE = /^(?:(?:autoscaling|ec2):Describe[A-Z]\w+|xray:PutTelemetryRecords|xray:PutTraceSegments)$/;

// An execution has an id that SSM makes up, and this role can start one of one document alone.
const OF_EXECUTION = /:automation-execution\/\*$/;

const ONE_SERVICE = /^[a-z0-9-]+\.amazonaws\.com$/;

function listOf(value: unknown): string[] {
  return value === undefined ? [] : ([value].flat() as string[]);
}

function problemsOf({ at, statement }: Found): string[] {
  const { Effect, Principal, Condition } = statement;
  if (Effect === 'Deny') return Condition ? [] : [`${at}: denies whatever the circumstances`];
  const [actions, resources] = [listOf(statement.Action), listOf(statement.Resource)];
  const service = (Principal as Body | undefined)?.Service;
  const trust = actions.includes('sts:AssumeRole');
  // In a key's own policy "*" is that key, and who may publish to what it encrypts is the topic's business.
  const ofKey = at === 'aws_kms_key.policy';
  const mayBeAnything = ofKey || actions.every((action) => ANYWHERE.test(action));
  const wrong: readonly (readonly [boolean, string])[] = [
    [Object.keys(statement).some((key) => !KNOWN.includes(key)), 'says something that nobody checks'],
    [Effect !== 'Allow', 'does not say that it allows'],
    [actions.length === 0, 'names no action'],
    [actions.some((action) => !/^[a-z0-9-]+:[A-Za-z]+$/.test(action)), 'has a wildcard in an action'],
    [resources.includes('*') && !mayBeAnything, 'is good for any resource'],
    [
      resources.some((arn) => arn.endsWith('/*') && !OF_EXECUTION.test(arn)) && !Condition,
      'is good for all resources of a type',
    ],
    [resources.length === 0 && !trust, 'names no resource'],
    [trust && !(typeof service === 'string' && ONE_SERVICE.test(service)), 'trusts other than one service'],
    [JSON.stringify(Principal ?? '').includes('"*"'), 'lets everybody in'],
    [typeof service === 'string' && !trust && !ofKey && !Condition, 'lets a service in on behalf of anybody'],
    [actions.some((action) => action === 'iam:PassRole') && !Condition, 'passes a role to any service'],
  ];
  return wrong.filter(([applies]) => applies).map(([, problem]) => `${at}: ${problem}: ${actions.join(', ')}`);
}

describe.each(VARIANTS)('no statement of the stack with %s', (name, settings) => {
  const stack = synth(settings);
  const found = statementsOf(stack);

  test('allows more than it names', () => {
    expect(found.flatMap(problemsOf)).toEqual([]);
  });

  test('escapes the walk', () => {
    const inKey = name === 'every option on' ? ['aws_kms_key.policy'] : [];
    expect([...new Set(found.map(({ at }) => at))].sort()).toEqual([
      'aws_iam_role.assume_role_policy',
      'aws_iam_role_policy.policy',
      ...inKey,
      'aws_s3_bucket_policy.policy',
      'aws_sqs_queue_policy.policy',
    ]);
    expect(found.length).toBeGreaterThan(18);
    expect(stack.data ?? {}).not.toHaveProperty('aws_iam_policy_document');
  });

  test('comes from a policy of AWS, except Session Manager’s', () => {
    expect(all(stack, 'aws_iam_role_policy_attachment').map(({ policy_arn }) => policy_arn)).toEqual([
      'arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore',
    ]);
    all(stack, 'aws_iam_role').forEach((role) => {
      expect(role).not.toHaveProperty('managed_policy_arns');
      expect(role).not.toHaveProperty('inline_policy');
    });
  });
});

describe('the walk finds a statement that', () => {
  const ARN = 'arn:aws:sqs:eu-central-1:aws:queue';
  const good = { Effect: 'Allow', Action: 'sqs:SendMessage', Resource: ARN };
  const SERVICE = { Service: 'events.amazonaws.com' };

  function problemsWith(statement: Body): string[] {
    const policy = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
    const stack = synthOwn((own) => {
      if ('Principal' in statement) new SqsQueuePolicy(own, 'policy', { queueUrl: 'https://queue.example', policy });
      else new IamRolePolicy(own, 'policy', { role: 'own', policy });
    });
    return statementsOf(stack).flatMap(problemsOf);
  }

  test('is bad, and none that is good', () => {
    expect(problemsWith(good)).toEqual([]);
  });

  const silent = { Action: good.Action, Resource: good.Resource };
  const trust = { Effect: 'Allow', Action: 'sts:AssumeRole' };
  test.each<[Body, string]>([
    [{ ...good, Action: '*' }, 'has a wildcard in an action'],
    [{ ...good, Action: ['sqs:GetQueueUrl', 'sqs:Send*'] }, 'has a wildcard in an action'],
    [{ ...good, Resource: '*' }, 'is good for any resource'],
    [{ ...good, Action: ['ec2:DescribeInstances', 'ec2:RunInstances'], Resource: ['*'] }, 'is good for any resource'],
    [{ ...good, Resource: `${ARN}/*` }, 'is good for all resources of a type'],
    [{ ...good, Effect: 'Deny' }, 'denies whatever the circumstances'],
    [silent, 'does not say that it allows'],
    [{ Effect: 'Allow', Action: 'sqs:SendMessage' }, 'names no resource'],
    [{ Effect: 'Allow', NotAction: 'sqs:SendMessage', Resource: ARN }, 'says something that nobody checks'],
    [{ ...good, Action: 'iam:PassRole' }, 'passes a role to any service'],
    [{ ...good, Principal: '*' }, 'lets everybody in'],
    [{ ...good, Principal: { AWS: '*' } }, 'lets everybody in'],
    [{ ...good, Principal: SERVICE }, 'lets a service in on behalf of anybody'],
    [{ ...trust, Principal: { AWS: ARN } }, 'trusts other than one service'],
    [{ ...trust, Principal: { Service: ['ec2.amazonaws.com', 'ssm.amazonaws.com'] } }, 'trusts other than one service'],
  ])('is %j', (statement, problem) => {
    expect(problemsWith(statement).join('\n')).toContain(problem);
  });
});
