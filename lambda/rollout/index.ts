// SPDX-License-Identifier: Apache-2.0
// The rollout function: brings the version that Terraform wants to every gateway, and tells how that ended.
//
// WHY A FUNCTION. The AWS provider's instance_refresh first saves the new version in the group and then starts the refresh,
// so that Auto Scaling rolls back to "the configuration that you last saved", the new one; docs/adr/0009-rollouts.md has the
// sources. Here the group ignores its template's versions, and this function calls StartInstanceRefresh with a desired
// configuration: the group stays saved with the old version until the new one runs everywhere, and Auto Scaling saves it then.
//
// WANTED AND SAVED. Wanted is the template's default version, which Terraform sets. Saved is the group's. Where they differ,
// or a gateway runs another version, a rollout is due. Nothing else is stored: decide.ts takes the next step from what is seen.
//
// WHO CALLS.
//   - Terraform, when the template has a new version: { "start": "7" }, and waits for the answer.
//   - A person, to try a version again: { "start": true }.
//   - Auto Scaling's events, when a refresh has ended: what was wanted meanwhile begins.
//   - The schedule, because events are sent on a best-effort basis: what could not start starts now.
//   - Terraform, before it destroys the group: { "tf": { "action": "delete" } }. What runs is cancelled, or the group would
//     go on launching while it is emptied.
// Events and the schedule try a version once. What was rolled back, failed or was cancelled waits for somebody who asks.
//
// ONE AT A TIME. Lambda runs one invocation at once (reserved concurrency), and Auto Scaling refuses a second refresh: both
// answers, "in progress" and "not found", mean that somebody was faster; look again. The token is missing that would make two
// starts one; but a start whose answer is lost is seen in the list.
//
// ALARMS. Auto Scaling refuses a start that names an alarm in ALARM or INSUFFICIENT_DATA. What fires before the new version
// is there says nothing about it, so the start names those that are OK, and its line says which were left out.
//
// MEMORY. Two tags of the template: the last rollout whose outcome was told, and what was saved before the last one. The
// provider ignores them (gateway-stack.ts).
import { AutoScalingClient } from '@aws-sdk/client-auto-scaling';
import { CloudWatchClient } from '@aws-sdk/client-cloudwatch';
import { EC2Client } from '@aws-sdk/client-ec2';
import { SNSClient } from '@aws-sdk/client-sns';
import { Logger } from '@aws-lambda-powertools/logger';
import type { Context as LambdaContext } from 'aws-lambda';
import { SYSTEM_CLOCK } from '../shared/clock';
import { readOnce } from '../shared/environment';
import { Aws } from './aws';
import { configurationOf } from './configuration';
import { type Answer, handle } from './handler';

const logger = new Logger({ serviceName: 'rollout-function' });

// All repetition is in clock.ts.
const client = { maxAttempts: 1 };
const clients = {
  autoScaling: new AutoScalingClient(client),
  cloudWatch: new CloudWatchClient(client),
  ec2: new EC2Client(client),
  sns: new SNSClient(client),
};

const configured = readOnce(configurationOf, logger);

export async function handler(event: unknown, invocation: LambdaContext): Promise<Answer> {
  const configuration = configured();
  logger.addContext(invocation);
  const aws = new Aws(clients, configuration, SYSTEM_CLOCK);
  return handle({ aws, configuration, clock: SYSTEM_CLOCK, log: logger }, event, invocation);
}
