// SPDX-License-Identifier: Apache-2.0
// Where gateways and functions write. Made by the stack, because a group that AWS makes by itself keeps logs for ever.
import { CloudwatchLogGroup } from '@cdktf/provider-aws/lib/cloudwatch-log-group';
import type { Construct } from 'constructs';
import { skipChecks } from '../checkov';

export interface LogGroupProps {
  readonly name: string;
  /** One of the periods that CloudWatch knows. */
  readonly retentionDays: number;
}

/** A log group that is deleted with the stack. */
export function logGroup(scope: Construct, id: string, { name, retentionDays }: LogGroupProps): CloudwatchLogGroup {
  return skipChecks(new CloudwatchLogGroup(scope, id, { name, retentionInDays: retentionDays }), {
    CKV_AWS_158:
      'CloudWatch encrypts every log group with keys of its own, and these hold counters and states, no payload',
    CKV_AWS_338:
      'operational counters with nothing to audit; log_retention_days keeps them as long as an operator wants',
  });
}
