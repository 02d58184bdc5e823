// SPDX-License-Identifier: Apache-2.0
// Keeps an all-unhealthy fleet from being replaced for ever.
//
// The group replaces a gateway that the load balancer finds unhealthy. That mends one broken machine, but not a cause that
// all of them share: a wrong setting, a security group, an image. Each replacement would fail like the one before, and the
// group would launch and terminate until somebody notices. So, in order:
//   1. Nothing is terminated before its successor runs (instance maintenance policy, 100 % to 200 %), and a load balancer
//      without a healthy target sends to all of them: whatever can still forward, does.
//   2. Nobody healthy for longer than one whole replacement takes means that replacing does not help. Then this guard's
//      alarm fires, EventBridge starts an SSM automation, and that suspends the group's process ReplaceUnhealthy. The
//      gateways stay as they are, to be looked at, and launches for growth or rollouts go on.
//   3. As soon as one gateway is healthy again the alarm clears and the process is resumed.
// A single gateway that dies is thus replaced once before the guard acts, which is what a fleet of one needs.
import { CloudwatchEventRule } from '@cdktf/provider-aws/lib/cloudwatch-event-rule';
import { CloudwatchEventTarget } from '@cdktf/provider-aws/lib/cloudwatch-event-target';
import type { CloudwatchMetricAlarm } from '@cdktf/provider-aws/lib/cloudwatch-metric-alarm';
import { IamRole } from '@cdktf/provider-aws/lib/iam-role';
import { IamRolePolicy } from '@cdktf/provider-aws/lib/iam-role-policy';
import { SsmDocument } from '@cdktf/provider-aws/lib/ssm-document';
import { Construct } from 'constructs';
import { assumedBy, groupArn, partitionOf, policyOf } from '../iam';
import { failureQueue, letRulesUse } from './event-function';

const PROCESS = 'ReplaceUnhealthy';

export interface ReplacementGuardProps {
  readonly baseName: string;
  readonly region: string;
  readonly account: string;
  readonly groupName: string;
  /** Fires when replacing has not helped, and clears when a gateway is healthy. */
  readonly alarm: CloudwatchMetricAlarm;
}

/** How long EventBridge tries to start the automation: what an alarm said longer ago may not be so any more. */
const DELIVERY_AGE = 900;
const DELIVERY_RETRIES = 10;

/** Suspends the group's ReplaceUnhealthy while the alarm fires, and resumes it after. */
export class ReplacementGuard extends Construct {
  public readonly ruleName: string;
  public readonly failureQueueName: string;

  public constructor(scope: Construct, id: string, props: ReplacementGuardProps) {
    super(scope, id);
    const { baseName, region, account, alarm } = props;
    const name = `${baseName}-replacement-guard`;
    const roles = this.roles(props, name);
    const document = new SsmDocument(this, 'document', {
      name,
      documentType: 'Automation',
      documentFormat: 'JSON',
      content: JSON.stringify(automation(props.groupName, roles.automation.arn)),
    });
    const rule = new CloudwatchEventRule(this, 'rule', {
      name,
      description: `Suspends or resumes ${PROCESS} of ${props.groupName}`,
      eventPattern: JSON.stringify({
        source: ['aws.cloudwatch'],
        'detail-type': ['CloudWatch Alarm State Change'],
        resources: [alarm.arn],
        detail: { state: { value: ['ALARM', 'OK'] } },
      }),
    });
    const queue = failureQueue(this, `${name}-failures`);
    const mayFail = letRulesUse(this, queue, [rule]);
    this.ruleName = rule.name;
    this.failureQueueName = queue.name;
    new CloudwatchEventTarget(this, 'target', {
      rule: rule.name,
      arn: `arn:${partitionOf(region)}:ssm:${region}:${account}:automation-definition/${document.name}:$DEFAULT`,
      roleArn: roles.starter.arn,
      inputTransformer: { inputPaths: { state: '$.detail.state.value' }, inputTemplate: '{"State":[<state>]}' },
      retryPolicy: { maximumEventAgeInSeconds: DELIVERY_AGE, maximumRetryAttempts: DELIVERY_RETRIES },
      deadLetterConfig: { arn: queue.arn },
      dependsOn: [...roles.policies, mayFail],
    });
  }

  /** One role starts the automation, the other is what the automation may do. */
  private roles({ baseName, region, account, groupName }: ReplacementGuardProps, documentName: string) {
    const role = (id: string, service: string, description: string) =>
      new IamRole(this, id, {
        namePrefix: `${baseName}-`,
        description,
        assumeRolePolicy: assumedBy(service, account),
      });
    const automation = role('automation', 'ssm.amazonaws.com', `Mirror gateways: suspends and resumes ${PROCESS}`);
    const starter = role('starter', 'events.amazonaws.com', `Mirror gateways: starts ${documentName}`);
    const ssm = (resource: string) => `arn:${partitionOf(region)}:ssm:${region}:${account}:${resource}`;
    // Which of these SSM asks for has changed: the Service Authorization Reference has the definition, AWS's examples the
    // document and the execution
    // (https://docs.aws.amazon.com/systems-manager/latest/userguide/automation-setup-identity-based-policies.html).
    const started = [
      `automation-definition/${documentName}:*`,
      `document/${documentName}`,
      'automation-execution/*',
    ].map(ssm);
    const policies = [
      new IamRolePolicy(this, 'automation-permissions', {
        name: 'suspend-and-resume',
        role: automation.id,
        policy: policyOf({
          Action: ['autoscaling:ResumeProcesses', 'autoscaling:SuspendProcesses'],
          Resource: groupArn(region, account, groupName),
        }),
      }),
      new IamRolePolicy(this, 'starter-permissions', {
        name: 'start-automation',
        role: starter.id,
        policy: policyOf(
          { Action: 'ssm:StartAutomationExecution', Resource: started },
          {
            Action: 'iam:PassRole',
            Resource: automation.arn,
            Condition: { StringEquals: { 'iam:PassedToService': 'ssm.amazonaws.com' } },
          },
        ),
      }),
    ];
    return { automation, starter, policies };
  }
}

function automation(groupName: string, assumeRole: string) {
  const call = (name: string, Api: string) => ({
    name,
    action: 'aws:executeAwsApi',
    isEnd: true,
    inputs: { Service: 'autoscaling', Api, AutoScalingGroupName: groupName, ScalingProcesses: [PROCESS] },
  });
  return {
    schemaVersion: '0.3',
    description: `While no gateway is healthy although it was replaced: no more replacing (${PROCESS})`,
    assumeRole,
    parameters: { State: { type: 'String', description: 'State of the alarm', allowedValues: ['ALARM', 'OK'] } },
    mainSteps: [
      {
        name: 'choose',
        action: 'aws:branch',
        inputs: {
          Choices: [{ NextStep: 'suspend', Variable: '{{ State }}', StringEquals: 'ALARM' }],
          Default: 'resume',
        },
      },
      call('suspend', 'SuspendProcesses'),
      call('resume', 'ResumeProcesses'),
    ],
  };
}
