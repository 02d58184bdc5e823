// SPDX-License-Identifier: Apache-2.0
// How every gateway gets its second interface: a launch waits in a lifecycle hook, the hook's event calls a function, the
// function attaches the interface and lets the launch go on. What the function itself does is in lambda/attach-eni/index.ts.
//
// Two layers can lose an event, and both end in one queue that an alarm watches: EventBridge may fail to deliver (the
// rule's dead-letter queue), and the function may fail (its own, after Lambda's retries). Either way the hook runs out and
// the group launches another instance.
import type { CloudwatchLogGroup } from '@cdktf/provider-aws/lib/cloudwatch-log-group';
import { IamRole } from '@cdktf/provider-aws/lib/iam-role';
import { IamRolePolicy } from '@cdktf/provider-aws/lib/iam-role-policy';
import type { LambdaFunction } from '@cdktf/provider-aws/lib/lambda-function';
import { LambdaFunctionEventInvokeConfig } from '@cdktf/provider-aws/lib/lambda-function-event-invoke-config';
import type { SqsQueue } from '@cdktf/provider-aws/lib/sqs-queue';
import type { ITerraformDependable } from 'cdktf';
import { Construct } from 'constructs';
import { MAXIMUM_EVENT_AGE_SECONDS, MAXIMUM_RETRIES, TIMEOUT_SECONDS } from '../../lambda/attach-eni/timeouts';
import { assumedBy, groupArn, partitionOf, policyOf, type Statement } from '../iam';
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

/** How long a launch waits, in seconds. */
const HEARTBEAT = 600;
/** How long EventBridge tries to deliver an event. With the event's age in Lambda and the last run, it ends before the
 * heartbeat does. */
const DELIVERY_AGE = 120;

/** Runs at once: as many as gateways may launch at once, within what an account spares. More events wait their turn. */
const CONCURRENCY = [5, 50] as const;

/** The hook of the group whose launches the function serves. */
export interface LaunchHook {
  readonly name: string;
  readonly heartbeatSeconds: number;
}

export interface EniFunctionProps {
  readonly baseName: string;
  readonly region: string;
  readonly account: string;
  /** Name of the group of gateways, which may not exist yet. */
  readonly groupName: string;
  /** The function as a zip file with index.js. */
  readonly packagePath: string;
  /** Security group of the second interfaces. */
  readonly securityGroupId: string;
  /** Where gateways run. */
  readonly subnetIds: readonly string[];
  /** Where second interfaces are made, one subnet per zone. @default - in the gateway's own subnet */
  readonly secondarySubnetIds?: readonly string[];
  /** Further tags of the interfaces. */
  readonly tags: Readonly<Record<string, string>>;
  readonly logRetentionDays: number;
  /** Largest number of gateways, all of which may launch at once. */
  readonly largestFleet: number;
}

/** Function, rule, sweep, queue and the least permissions for them. Interfaces it may touch carry the tag mirror-gateway:stack. */
export class EniFunction extends Construct {
  public readonly hook: LaunchHook;
  public readonly functionName: string;
  public readonly failureQueueName: string;
  public readonly rules: { readonly launches: string; readonly sweep: string };
  /** What must be there before the first launch, or its event finds nobody. */
  public readonly listeners: ITerraformDependable[];

  public constructor(scope: Construct, id: string, props: EniFunctionProps) {
    super(scope, id);
    this.functionName = `${props.baseName}-eni`;
    this.hook = { name: `${props.baseName}-second-interface`, heartbeatSeconds: HEARTBEAT };
    const queue = failureQueue(this, `${this.functionName}-failures`);
    const logs = logGroup(this, 'logs', {
      name: `/aws/lambda/${this.functionName}`,
      retentionDays: props.logRetentionDays,
    });
    const role = this.role(props, logs, queue);
    const fn = zippedFunction(this, {
      functionName: this.functionName,
      description: `Attaches the second interface to each gateway of ${props.groupName}`,
      role: role.arn,
      packagePath: props.packagePath,
      timeoutSeconds: TIMEOUT_SECONDS,
      concurrency: Math.min(Math.max(props.largestFleet, CONCURRENCY[0]), CONCURRENCY[1]),
      failures: queue,
      environment: this.environment(props),
      dependsOn: [role.policy, logs],
    });
    const limits = new LambdaFunctionEventInvokeConfig(this, 'limits', {
      functionName: fn.functionName,
      maximumEventAgeInSeconds: MAXIMUM_EVENT_AGE_SECONDS,
      maximumRetryAttempts: MAXIMUM_RETRIES,
    });
    const launches = this.calledOn(fn, queue, 'launches', {
      description: `Launches of ${props.groupName} that wait for their second interface`,
      eventPattern: JSON.stringify({
        source: ['aws.autoscaling'],
        'detail-type': ['EC2 Instance-launch Lifecycle Action'],
        detail: { AutoScalingGroupName: [props.groupName], LifecycleHookName: [this.hook.name] },
      }),
    });
    const sweeps = this.calledOn(fn, queue, 'sweep', {
      description: 'Deletes second interfaces that nobody has used for an hour',
      scheduleExpression: 'rate(1 hour)',
    });
    const mayFail = letRulesUse(this, queue, [launches.rule, sweeps.rule]);
    this.failureQueueName = queue.name;
    this.rules = { launches: launches.rule.name, sweep: sweeps.rule.name };
    this.listeners = [limits, ...launches.parts, role.policy, mayFail];
  }

  private role(props: EniFunctionProps, logs: CloudwatchLogGroup, queue: SqsQueue) {
    const role = new IamRole(this, 'role', {
      namePrefix: `${props.baseName}-`,
      description: 'Mirror gateways: attaches second interfaces',
      assumeRolePolicy: assumedBy('lambda.amazonaws.com'),
    });
    const statements = [...interfaceStatements(props), ...runtimeStatements(logs, queue)];
    const policy = new IamRolePolicy(this, 'permissions', {
      name: 'attach-second-interfaces',
      role: role.id,
      policy: policyOf(...statements),
    });
    return { arn: role.arn, policy };
  }

  private calledOn(fn: LambdaFunction, queue: SqsQueue, id: string, occasion: Omit<Occasion, 'name'>) {
    const delivery = { queue, maximumAgeSeconds: DELIVERY_AGE, maximumRetries: MAXIMUM_RETRIES };
    return calledOn(this, id, fn, { name: `${this.functionName}-${id}`, ...occasion }, delivery);
  }

  private environment(props: EniFunctionProps): Record<string, string> {
    return {
      STACK: props.baseName,
      AUTO_SCALING_GROUP_NAME: props.groupName,
      LIFECYCLE_HOOK_NAME: this.hook.name,
      HEARTBEAT_SECONDS: String(this.hook.heartbeatSeconds),
      SECURITY_GROUP_ID: props.securityGroupId,
      SECONDARY_SUBNET_IDS: (props.secondarySubnetIds ?? []).join(','),
      EXTRA_TAGS: JSON.stringify(props.tags),
      METRIC_NAMESPACE,
    };
  }
}

/** What the function does to interfaces: make them in our subnets and with our tag, then touch only what carries it. */
function interfaceStatements(props: EniFunctionProps): readonly Statement[] {
  const { region, account, baseName, groupName } = props;
  const ec2 = (resource: string) => `arn:${partitionOf(region)}:ec2:${region}:${account}:${resource}`;
  const subnets = props.secondarySubnetIds?.length ? props.secondarySubnetIds : props.subnetIds;
  return [
    {
      // EC2 has no narrower resource for any Describe call (Service Authorization Reference).
      Sid: 'Look',
      Action: ['ec2:DescribeInstances', 'ec2:DescribeNetworkInterfaces', 'ec2:DescribeSubnets'],
      Resource: '*',
    },
    {
      Sid: 'MakeInOurSubnets',
      Action: 'ec2:CreateNetworkInterface',
      Resource: [...subnets.map((subnet) => ec2(`subnet/${subnet}`)), ec2(`security-group/${props.securityGroupId}`)],
    },
    {
      Sid: 'MakeWithOurTag',
      Action: 'ec2:CreateNetworkInterface',
      Resource: ec2('network-interface/*'),
      Condition: { StringEquals: { 'aws:RequestTag/mirror-gateway:stack': baseName } },
    },
    {
      Sid: 'TagWhileMaking',
      Action: 'ec2:CreateTags',
      Resource: ec2('network-interface/*'),
      Condition: { StringEquals: { 'ec2:CreateAction': 'CreateNetworkInterface' } },
    },
    {
      Sid: 'TouchOurInterfaces',
      Action: [
        'ec2:AttachNetworkInterface',
        'ec2:DeleteNetworkInterface',
        'ec2:DetachNetworkInterface',
        'ec2:ModifyNetworkInterfaceAttribute',
      ],
      Resource: ec2('network-interface/*'),
      Condition: { StringEquals: { 'aws:ResourceTag/mirror-gateway:stack': baseName } },
    },
    {
      Sid: 'TouchOurInstances',
      Action: ['ec2:AttachNetworkInterface', 'ec2:DetachNetworkInterface', 'ec2:ModifyNetworkInterfaceAttribute'],
      Resource: ec2('instance/*'),
      Condition: { StringEquals: { 'aws:ResourceTag/aws:autoscaling:groupName': groupName } },
    },
    {
      Sid: 'LetLaunchesGoOn',
      Action: 'autoscaling:CompleteLifecycleAction',
      Resource: groupArn(region, account, groupName),
    },
  ];
}
