// SPDX-License-Identifier: Apache-2.0
// What acts on running gateways: the engine switch that a person uses, and the guard that stops useless replacing.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { REPOSITORY } from '../../../constructs/user-data/bundle';
import type { Statement } from '../../../constructs/iam';
import { bundleFiles, DEPLOY_SCRIPT } from '../../../constructs/user-data/user-data';
import { address, all, type Body, only, parsed, reference, synth } from './synthesized';

const xdp = synth();

describe('the engine switch', () => {
  const document = only(xdp, 'aws_ssm_document', { document_type: 'Command' });
  const content = parsed<{
    schemaVersion: string;
    parameters: Record<string, { allowedValues: string[]; default?: string }>;
    mainSteps: { action: string; inputs: { timeoutSeconds: string; runCommand: string[] } }[];
  }>(document.content);

  test('is a command for instances, in the schema that has steps', () => {
    expect(document).toMatchObject({ document_format: 'JSON', target_type: '/AWS::EC2::Instance' });
    expect(content.schemaVersion).toBe('2.2');
    expect(content.mainSteps.map(({ action }) => action)).toEqual(['aws:runShellScript']);
  });

  test('takes two words, nothing else, and none by itself', () => {
    expect(Object.keys(content.parameters)).toEqual(['Verb']);
    expect(content.parameters.Verb?.allowedValues).toEqual(['rollback', 'attach']);
    expect(content.parameters.Verb).not.toHaveProperty('default');
  });

  test('runs the operator’s script where instances have it, and fails when the switch does', () => {
    const commands = content.mainSteps.flatMap(({ inputs }) => inputs.runCommand);
    expect(commands.join('\n')).toContain(`${DEPLOY_SCRIPT} {{ Verb }}`);
    // SSM reports what the last command of the script returned.
    expect(commands).toHaveLength(1);
    expect(commands[0]).toContain(' && ');
    const [, file = ''] = /^\/opt\/ebpf-xdp-processor\/(.+)$/.exec(DEPLOY_SCRIPT) ?? [];
    expect(bundleFiles().map(({ path: name }) => name)).toContain(file);
  });

  test('knows only verbs that the script has', () => {
    const script = fs.readFileSync(path.join(REPOSITORY, 'userdata/deploy_xdp.sh'), 'utf8');
    const usage = /<<'HELP'\n([^]*?)\nHELP/.exec(script)?.[1] ?? '';
    [...(content.parameters.Verb?.allowedValues ?? []), 'health'].forEach((verb) =>
      expect(usage).toMatch(new RegExp(`^  ${verb}\\b`, 'm')),
    );
  });

  test('comes with the command that rolls every gateway back, whatever one of them answers', () => {
    const stack = synth({ environment: 'staging', region: 'eu-west-1' });
    expect(stack.output.rollback_command?.value).toBe(
      'aws ssm send-command --region eu-west-1 --document-name mirror-gateway-staging-engine ' +
        '--targets Key=tag:aws:autoscaling:groupName,Values=mirror-gateway-staging-xdp-asg ' +
        '--parameters Verb=rollback --max-concurrency 100% --max-errors 100%',
    );
    expect(only(stack, 'aws_ssm_document', { document_type: 'Command' }).name).toBe('mirror-gateway-staging-engine');
    expect(only(stack, 'aws_autoscaling_group').name).toBe('mirror-gateway-staging-xdp-asg');
  });

  test('is there without XDP too, as the way forward', () => {
    expect(all(synth({ enable_xdp: 'false' }), 'aws_ssm_document')).toHaveLength(2);
  });
});

describe('the replacement guard', () => {
  const NAME = 'mirror-gateway-replacement-guard';
  const alarmName = { alarm_name: 'mirror-gateway-replacement-does-not-help' };
  const alarm = only(xdp, 'aws_cloudwatch_metric_alarm', alarmName);
  const rule = only(xdp, 'aws_cloudwatch_event_rule', { name: NAME });
  const target = only(xdp, 'aws_cloudwatch_event_target', {
    rule: reference(xdp, 'aws_cloudwatch_event_rule', 'name', { name: NAME }),
  });
  const automation = only(xdp, 'aws_ssm_document', { document_type: 'Automation' });
  const STARTER = { description: `Mirror gateways: starts ${NAME}` };
  const AUTOMATION = { description: 'Mirror gateways: suspends and resumes ReplaceUnhealthy' };
  const permissionsOf = (name: string) =>
    parsed<{ Statement: Statement[] }>(only(xdp, 'aws_iam_role_policy', { name }).policy).Statement;

  test('suspends replacing while the alarm fires, resumes it after, and touches no other process', () => {
    const call = (name: string, Api: string) => ({
      name,
      action: 'aws:executeAwsApi',
      isEnd: true,
      inputs: {
        Service: 'autoscaling',
        Api,
        AutoScalingGroupName: only(xdp, 'aws_autoscaling_group').name,
        ScalingProcesses: ['ReplaceUnhealthy'],
      },
    });
    expect(parsed(automation.content)).toMatchObject({
      schemaVersion: '0.3',
      assumeRole: reference(xdp, 'aws_iam_role', 'arn', AUTOMATION),
      parameters: { State: { allowedValues: ['ALARM', 'OK'] } },
      mainSteps: [
        {
          action: 'aws:branch',
          inputs: {
            Choices: [{ NextStep: 'suspend', Variable: '{{ State }}', StringEquals: 'ALARM' }],
            Default: 'resume',
          },
        },
        call('suspend', 'SuspendProcesses'),
        call('resume', 'ResumeProcesses'),
      ],
    });
  });

  test('hears of this alarm alone, and of both states', () => {
    expect(parsed(rule.event_pattern)).toEqual({
      source: ['aws.cloudwatch'],
      'detail-type': ['CloudWatch Alarm State Change'],
      resources: [reference(xdp, 'aws_cloudwatch_metric_alarm', 'arn', alarmName)],
      detail: { state: { value: ['ALARM', 'OK'] } },
    });
  });

  test('is started with the state, once its roles have their permissions', () => {
    const document = reference(xdp, 'aws_ssm_document', 'name', { name: NAME });
    expect(target.arn).toMatch(/^arn:aws:ssm:eu-central-1:.+:automation-definition\/.+:\$DEFAULT$/);
    expect(target.arn).toContain(`:automation-definition/${document}:`);
    expect(target).toMatchObject({
      role_arn: reference(xdp, 'aws_iam_role', 'arn', STARTER),
      input_transformer: { input_paths: { state: '$.detail.state.value' }, input_template: '{"State":[<state>]}' },
      depends_on: [
        ...['suspend-and-resume', 'start-automation'].map((name) => address(xdp, 'aws_iam_role_policy', { name })),
        expect.stringMatching(/^aws_sqs_queue_policy\.replacement-guard/),
      ],
    });
  });

  test.each([
    [AUTOMATION, 'ssm.amazonaws.com'],
    [STARTER, 'events.amazonaws.com'],
  ])('lets a service act only for this account: %j', (role, service) => {
    expect(parsed(only(xdp, 'aws_iam_role', role).assume_role_policy)).toEqual({
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Principal: { Service: service },
          Action: 'sts:AssumeRole',
          Condition: { StringEquals: { 'aws:SourceAccount': '${data.aws_caller_identity.account.account_id}' } },
        },
      ],
    });
  });

  test('may suspend and resume this group, and nothing else', () => {
    expect(permissionsOf('suspend-and-resume')).toEqual([
      {
        Effect: 'Allow',
        Action: ['autoscaling:ResumeProcesses', 'autoscaling:SuspendProcesses'],
        Resource:
          'arn:aws:autoscaling:eu-central-1:${data.aws_caller_identity.account.account_id}' +
          ':autoScalingGroup:*:autoScalingGroupName/mirror-gateway-xdp-asg',
      },
    ]);
  });

  test('hands over one role, and only to SSM', () => {
    const passing = permissionsOf('start-automation').filter(({ Action }) => Action === 'iam:PassRole');
    expect(passing).toEqual([
      {
        Effect: 'Allow',
        Action: 'iam:PassRole',
        Resource: reference(xdp, 'aws_iam_role', 'arn', AUTOMATION),
        Condition: { StringEquals: { 'iam:PassedToService': 'ssm.amazonaws.com' } },
      },
    ]);
    // The rollout function passes the gateways' role, and nobody passes another.
    expect(JSON.stringify(xdp.resource).split('iam:PassRole')).toHaveLength(3);
  });

  test('waits longer than a whole replacement takes, so that one dead gateway is replaced', () => {
    const group = only(xdp, 'aws_autoscaling_group');
    const [hook] = group.initial_lifecycle_hook as readonly Body[];
    const replacement = (hook?.heartbeat_timeout as number) + (group.health_check_grace_period as number);
    const someMinutes = 5 * 60;
    expect((alarm.evaluation_periods as number) * (alarm.period as number)).toBeGreaterThan(replacement + someMinutes);
  });

  test('is left alone by the next deployment', () => {
    expect(only(xdp, 'aws_autoscaling_group').lifecycle).toMatchObject({
      ignore_changes: expect.arrayContaining(['suspended_processes']) as unknown,
    });
    expect(only(xdp, 'aws_autoscaling_group')).not.toHaveProperty('suspended_processes');
  });
});
