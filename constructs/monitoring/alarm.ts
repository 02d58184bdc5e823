// SPDX-License-Identifier: Apache-2.0
// One alarm, as all of the stack are: it says when it fires and when it clears, to the same topic.
import {
  CloudwatchMetricAlarm,
  type CloudwatchMetricAlarmConfig,
} from '@cdktf/provider-aws/lib/cloudwatch-metric-alarm';
import type { Construct } from 'constructs';

const MINUTE = 60;

export type Rule = Omit<CloudwatchMetricAlarmConfig, 'alarmName' | 'alarmActions' | 'okActions' | 'alarmDescription'>;

export interface Alarmed {
  readonly baseName: string;
  /** Where alarms go when they fire and when they clear. @default - nowhere; they only show */
  readonly topicArn?: string;
}

/** @param alarmDescription what to look at first */
export function alarm(
  scope: Construct,
  { baseName, topicArn }: Alarmed,
  alarmName: string,
  alarmDescription: string,
  rule: Rule,
): CloudwatchMetricAlarm {
  const actions = topicArn ? [topicArn] : undefined;
  return new CloudwatchMetricAlarm(scope, alarmName.replace(`${baseName}-`, ''), {
    alarmName,
    alarmDescription,
    ...rule,
    alarmActions: actions,
    okActions: actions,
  });
}

export function above(threshold: number) {
  return { comparisonOperator: 'GreaterThanThreshold', threshold };
}

/** For so many minutes without a break. */
export function lasting(minutes: number) {
  return { period: MINUTE, evaluationPeriods: minutes, datapointsToAlarm: minutes };
}
