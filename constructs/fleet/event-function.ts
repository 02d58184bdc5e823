// SPDX-License-Identifier: Apache-2.0
// What the stack's functions share: a zip that a plan names by its content, rules that call it, and a queue for events that
// neither EventBridge nor Lambda got through.
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { CloudwatchEventRule } from '@cdktf/provider-aws/lib/cloudwatch-event-rule';
import { CloudwatchEventTarget } from '@cdktf/provider-aws/lib/cloudwatch-event-target';
import type { CloudwatchLogGroup } from '@cdktf/provider-aws/lib/cloudwatch-log-group';
import { LambdaFunction, type LambdaFunctionConfig } from '@cdktf/provider-aws/lib/lambda-function';
import { LambdaPermission } from '@cdktf/provider-aws/lib/lambda-permission';
import { SqsQueue } from '@cdktf/provider-aws/lib/sqs-queue';
import { SqsQueuePolicy } from '@cdktf/provider-aws/lib/sqs-queue-policy';
import { AssetType, type ITerraformDependable, TerraformAsset } from 'cdktf';
import type { Construct } from 'constructs';
import { HANDLER, RUNTIME } from '../../lambda/shared/deployment-package';
import { skipChecks } from '../checkov';
import { policyOf, type Statement } from '../iam';

/** Kept for whoever looks at the queue (SQS, the longest there is). */
const MESSAGE_RETENTION = 1_209_600;
const MEMORY_MIB = 512;

/** Holds the events themselves, ready to be sent again. */
export function failureQueue(scope: Construct, name: string): SqsQueue {
  return new SqsQueue(scope, 'failures', {
    name,
    messageRetentionSeconds: MESSAGE_RETENTION,
    sqsManagedSseEnabled: true,
  });
}

export function letRulesUse(scope: Construct, queue: SqsQueue, rules: readonly CloudwatchEventRule[]): SqsQueuePolicy {
  return new SqsQueuePolicy(scope, 'failures-policy', {
    queueUrl: queue.url,
    policy: policyOf({
      Principal: { Service: 'events.amazonaws.com' },
      Action: 'sqs:SendMessage',
      Resource: queue.arn,
      Condition: { ArnEquals: { 'aws:SourceArn': rules.map((rule) => rule.arn) } },
    }),
  });
}

/** What Lambda does in the function's name. */
export function runtimeStatements(logs: CloudwatchLogGroup, queue: SqsQueue): readonly Statement[] {
  return [
    { Sid: 'Log', Action: ['logs:CreateLogStream', 'logs:PutLogEvents'], Resource: `${logs.arn}:log-stream:*` },
    { Sid: 'KeepFailures', Action: 'sqs:SendMessage', Resource: queue.arn },
    // X-Ray knows no resources for these two (Service Authorization Reference).
    { Sid: 'Trace', Action: ['xray:PutTelemetryRecords', 'xray:PutTraceSegments'], Resource: '*' },
  ];
}

export interface ZippedFunctionProps extends Pick<LambdaFunctionConfig, 'functionName' | 'description' | 'role'> {
  /** The function as a zip file with index.js. */
  readonly packagePath: string;
  readonly timeoutSeconds: number;
  /** Runs at once; more events wait their turn. */
  readonly concurrency: number;
  readonly failures: SqsQueue;
  readonly environment: Readonly<Record<string, string>>;
  readonly dependsOn: ITerraformDependable[];
}

export function zippedFunction(scope: Construct, props: ZippedFunctionProps): LambdaFunction {
  // The hash of the content: an archive's own times would make every synth a change.
  const hash = createHash('sha256').update(fs.readFileSync(props.packagePath));
  const asset = new TerraformAsset(scope, 'bundle', {
    path: props.packagePath,
    type: AssetType.FILE,
    assetHash: hash.copy().digest('hex').slice(0, 32),
  });
  const fn = new LambdaFunction(scope, 'function', {
    functionName: props.functionName,
    description: props.description,
    role: props.role,
    filename: asset.path,
    sourceCodeHash: hash.digest('base64'),
    runtime: RUNTIME,
    architectures: ['arm64'],
    handler: HANDLER,
    timeout: props.timeoutSeconds,
    memorySize: MEMORY_MIB,
    reservedConcurrentExecutions: props.concurrency,
    tracingConfig: { mode: 'Active' },
    // Not an on-failure destination: what lies in this queue is the event itself, ready to be sent again.
    deadLetterConfig: { targetArn: props.failures.arn },
    environment: { variables: { ...props.environment } },
    dependsOn: props.dependsOn,
  });
  return skipChecks(fn, {
    CKV_AWS_117: 'it calls AWS APIs only and reaches nothing in the VPC; inside, it would need a NAT to do its work',
    CKV_AWS_173:
      'its variables are names and ids that the state and the console show anyway; Lambda encrypts them at rest',
    CKV_AWS_272: 'the code is built from the sources beside the stack and pinned by its SHA-256 in the plan',
  });
}

/** When a rule matches. */
export interface Occasion {
  readonly name: string;
  readonly description: string;
  readonly eventPattern?: string;
  readonly scheduleExpression?: string;
}

export interface Delivery {
  readonly queue: SqsQueue;
  readonly maximumAgeSeconds: number;
  readonly maximumRetries: number;
}

/** A rule that calls the function, and what must be there before it does. */
export function calledOn(scope: Construct, id: string, fn: LambdaFunction, occasion: Occasion, delivery: Delivery) {
  const rule = new CloudwatchEventRule(scope, id, { ...occasion });
  const permission = new LambdaPermission(scope, `${id}-permission`, {
    functionName: fn.functionName,
    action: 'lambda:InvokeFunction',
    principal: 'events.amazonaws.com',
    sourceArn: rule.arn,
  });
  const target = new CloudwatchEventTarget(scope, `${id}-target`, {
    rule: rule.name,
    arn: fn.arn,
    retryPolicy: {
      maximumEventAgeInSeconds: delivery.maximumAgeSeconds,
      maximumRetryAttempts: delivery.maximumRetries,
    },
    deadLetterConfig: { arn: delivery.queue.arn },
    dependsOn: [permission],
  });
  return { rule, parts: [permission, target] };
}
