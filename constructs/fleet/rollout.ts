// SPDX-License-Identifier: Apache-2.0
// How a new version of the launch template gets onto the gateways: a function starts and watches Auto Scaling's instance
// refresh, because Terraform's own way of starting one cannot roll back (docs/adr/0009-rollouts.md). What the function
// itself does is in lambda/rollout/index.ts.
import type { CloudwatchLogGroup } from '@cdktf/provider-aws/lib/cloudwatch-log-group';
import { IamRole } from '@cdktf/provider-aws/lib/iam-role';
import { IamRolePolicy } from '@cdktf/provider-aws/lib/iam-role-policy';
import type { LambdaFunction } from '@cdktf/provider-aws/lib/lambda-function';
import { LambdaFunctionEventInvokeConfig } from '@cdktf/provider-aws/lib/lambda-function-event-invoke-config';
import { LambdaInvocation } from '@cdktf/provider-aws/lib/lambda-invocation';
import type { SqsQueue } from '@cdktf/provider-aws/lib/sqs-queue';
import { type ITerraformDependable, TerraformStack } from 'cdktf';
import { Construct } from 'constructs';
import { ENDS, FAILED_LAUNCH } from '../../lambda/rollout/events';
import {
  LOOKS_EVERY_MINUTES,
  MAXIMUM_EVENT_AGE_SECONDS,
  MAXIMUM_RETRIES,
  TIMEOUT_SECONDS,
} from '../../lambda/rollout/timeouts';
import { TAG_PREFIX } from '../../lambda/rollout/tags';
import type { AlarmTopic } from '../monitoring/alarm-topic';
import { logGroup } from '../monitoring/logs';
import { METRIC_NAMESPACE } from '../monitoring/metrics';
import {
  calledOn,
  failureQueue,
  letRulesUse,
  type Occasion,
  runtimeStatements,
  zippedFunction,
} from './event-function';
import type { GatewayFleet } from './fleet';
import { assumedBy, groupArn, partitionOf, policyOf, type Statement } from '../iam';
import type { GatewayLaunchTemplate } from './launch-template';

export interface RolloutProps {
  readonly baseName: string;
  readonly region: string;
  readonly account: string;
  readonly fleet: GatewayFleet;
  readonly launchTemplate: GatewayLaunchTemplate;
  /** Of the instances, which whoever starts a refresh must be allowed to pass. */
  readonly gatewayRoleArn: string;
  /** The function as a zip file with index.js. */
  readonly packagePath: string;
  /** Alarms that turn a rollout back while they fire. */
  readonly alarmNames: readonly string[];
  /** Who hears how a rollout ended. @default - the log alone */
  readonly topic?: AlarmTopic;
  readonly logRetentionDays: number;
}

/** The function, who calls it, and what it may do. */
export class Rollout extends Construct {
  public readonly functionName: string;
  public readonly failureQueueName: string;
  public readonly rules: { readonly news: string; readonly looks: string };

  public constructor(scope: Construct, id: string, props: RolloutProps) {
    super(scope, id);
    this.functionName = `${props.baseName}-rollout`;
    const queue = failureQueue(this, `${this.functionName}-failures`);
    const logs = logGroup(this, 'logs', {
      name: `/aws/lambda/${this.functionName}`,
      retentionDays: props.logRetentionDays,
    });
    const role = this.role(props, logs, queue);
    const fn = zippedFunction(this, {
      functionName: this.functionName,
      description: `Rolls new versions of the launch template out to ${props.fleet.groupName}`,
      role: role.arn,
      packagePath: props.packagePath,
      timeoutSeconds: TIMEOUT_SECONDS,
      // Two at once could each cancel what the other has started.
      concurrency: 1,
      failures: queue,
      environment: environmentOf(props),
      dependsOn: [role.policy, logs],
    });
    const limits = new LambdaFunctionEventInvokeConfig(this, 'limits', {
      functionName: fn.functionName,
      maximumEventAgeInSeconds: MAXIMUM_EVENT_AGE_SECONDS,
      maximumRetryAttempts: MAXIMUM_RETRIES,
    });
    const news = this.calledOn(fn, queue, 'news', {
      description: `Ends of rollouts and failed launches of ${props.fleet.groupName}`,
      eventPattern: JSON.stringify({
        source: ['aws.autoscaling'],
        'detail-type': [...ENDS, FAILED_LAUNCH],
        detail: { AutoScalingGroupName: [props.fleet.groupName] },
      }),
    });
    const looks = this.calledOn(fn, queue, 'looks', {
      description: 'Starts rollouts that could not start, and tells of ends whose event was lost',
      scheduleExpression: `rate(${LOOKS_EVERY_MINUTES} minutes)`,
    });
    const mayFail = letRulesUse(this, queue, [news.rule, looks.rule]);
    this.failureQueueName = queue.name;
    this.rules = { news: news.rule.name, looks: looks.rule.name };
    this.askFor(props, fn.functionName, [limits, mayFail, role.policy, ...news.parts, ...looks.parts]);
    this.sayWhatIsDue(props);
  }

  private role(props: RolloutProps, logs: CloudwatchLogGroup, queue: SqsQueue) {
    const role = new IamRole(this, 'role', {
      namePrefix: `${props.baseName}-`,
      description: 'Mirror gateways: rolls out versions of the launch template',
      assumeRolePolicy: assumedBy('lambda.amazonaws.com'),
    });
    const policy = new IamRolePolicy(this, 'permissions', {
      name: 'roll-out',
      role: role.id,
      policy: policyOf(...rolloutStatements(props), ...runtimeStatements(logs, queue)),
    });
    return { arn: role.arn, policy };
  }

  private calledOn(fn: LambdaFunction, queue: SqsQueue, id: string, occasion: Omit<Occasion, 'name'>) {
    const delivery = { queue, maximumAgeSeconds: MAXIMUM_EVENT_AGE_SECONDS, maximumRetries: MAXIMUM_RETRIES };
    return calledOn(this, id, fn, { name: `${this.functionName}-${id}`, ...occasion }, delivery);
  }

  private askFor(
    { launchTemplate, fleet }: RolloutProps,
    functionName: string,
    dependsOn: ITerraformDependable[],
  ): void {
    const after = [...dependsOn, fleet.group];
    // Made anew by each version, and so left out of the state, to be made by the next deploy, where the function fails. An
    // update that fails is in the state all the same (Terraform's SDK, on which this resource is built).
    new LambdaInvocation(this, 'start', {
      functionName,
      input: JSON.stringify({ start: launchTemplate.latestVersion }),
      lifecycleScope: 'CREATE_ONLY',
      dependsOn: after,
    });
    // Its deletion comes before the group's, and cancels what is being rolled out.
    new LambdaInvocation(this, 'stop', { functionName, input: '{}', lifecycleScope: 'CRUD', dependsOn: after });
  }

  /** A plan without changes says so all the same where the gateways are not what was deployed. */
  private sayWhatIsDue({ fleet, launchTemplate }: RolloutProps): void {
    const saved = `${fleet.group.fqn}.launch_template[0].version`;
    const wanted = `tostring(${launchTemplate.resource.fqn}.latest_version)`;
    TerraformStack.of(this).addOverride('check.rollout', {
      assert: [
        {
          condition: `\${${saved} == ${wanted}}`,
          error_message:
            `version \${${wanted}} is deployed, but the gateways' group is still on version \${${saved}}: ` +
            'it is being rolled out, or was turned back; npm run rollout says which',
        },
      ],
    });
  }
}

function environmentOf(props: RolloutProps): Record<string, string> {
  return {
    STACK: props.baseName,
    AUTO_SCALING_GROUP_NAME: props.fleet.groupName,
    LAUNCH_TEMPLATE_ID: props.launchTemplate.templateId,
    ALARM_NAMES: props.alarmNames.join(','),
    TOPIC_ARN: props.topic?.arn ?? '',
    METRIC_NAMESPACE,
    PREFERENCES: JSON.stringify(props.fleet.rolloutPreferences),
  };
}

function rolloutStatements(props: RolloutProps): readonly Statement[] {
  const { region, account, fleet, launchTemplate, alarmNames } = props;
  const partition = partitionOf(region);
  const alarms = alarmNames.map((name) => `arn:${partition}:cloudwatch:${region}:${account}:alarm:${name}`);
  return [
    {
      // None of these has a narrower resource (Service Authorization Reference).
      Sid: 'Look',
      Action: [
        'autoscaling:DescribeAutoScalingGroups',
        'autoscaling:DescribeInstanceRefreshes',
        'ec2:DescribeLaunchTemplateVersions',
        'ec2:DescribeLaunchTemplates',
      ],
      Resource: '*',
    },
    { Sid: 'LookAtAlarms', Action: 'cloudwatch:DescribeAlarms', Resource: alarms },
    {
      Sid: 'RollOut',
      Action: ['autoscaling:CancelInstanceRefresh', 'autoscaling:StartInstanceRefresh'],
      Resource: groupArn(region, account, fleet.groupName),
    },
    {
      Sid: 'Remember',
      Action: 'ec2:CreateTags',
      Resource: launchTemplate.arn,
      Condition: { 'ForAllValues:StringLike': { 'aws:TagKeys': [`${TAG_PREFIX}*`] } },
    },
    ...launchStatements(props),
    ...(props.topic ? publishStatements(props, props.topic) : []),
  ];
}

/**
 * Auto Scaling tries the launch on behalf of whoever starts a refresh ("Permissions validation for ec2:RunInstances and
 * iam:PassRole", https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html).
 * The function never launches anything itself, and can do so by our template alone.
 */
function launchStatements({ region, account, launchTemplate, gatewayRoleArn }: RolloutProps): readonly Statement[] {
  const ec2 = (resource: string, owner = account) => `arn:${partitionOf(region)}:ec2:${region}:${owner}:${resource}/*`;
  const launched = ['instance', 'network-interface', 'security-group', 'subnet', 'volume'].map((each) => ec2(each));
  const images = [ec2('image', ''), ec2('snapshot', '')];
  return [
    {
      Sid: 'LaunchByOurTemplate',
      Action: 'ec2:RunInstances',
      Resource: [...launched, ...images, launchTemplate.arn],
      Condition: { ArnEquals: { 'ec2:LaunchTemplate': launchTemplate.arn } },
    },
    {
      Sid: 'TagWhileLaunching',
      Action: 'ec2:CreateTags',
      Resource: [ec2('instance'), ec2('volume')],
      Condition: { StringEquals: { 'ec2:CreateAction': 'RunInstances' } },
    },
    {
      Sid: 'PassTheGatewaysRole',
      Action: 'iam:PassRole',
      Resource: gatewayRoleArn,
      Condition: { StringEquals: { 'iam:PassedToService': 'ec2.amazonaws.com' } },
    },
  ];
}

function publishStatements({ region, account }: RolloutProps, topic: AlarmTopic): readonly Statement[] {
  return [
    { Sid: 'Tell', Action: 'sns:Publish', Resource: topic.arn },
    {
      // SNS encrypts in the publisher's name.
      Sid: 'TellEncrypted',
      Action: ['kms:Decrypt', 'kms:GenerateDataKey'],
      Resource: topic.keyArn ?? `arn:${partitionOf(region)}:kms:${region}:${account}:key/*`,
      Condition: { StringEquals: { 'kms:ViaService': `sns.${region}.amazonaws.com` } },
    },
  ];
}
