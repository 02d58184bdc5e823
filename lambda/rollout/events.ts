// SPDX-License-Identifier: Apache-2.0
// What may wake the function: Terraform or a person who asks for a rollout, Terraform before a destruction, the end of an
// instance refresh, a launch that failed, or the schedule. Everything else is told apart before AWS is called.
import type { Configuration } from './configuration';

/** `version`: the template's version that Terraform has just written; a person names none. */
export interface Start {
  readonly version: number | undefined;
}

export type Task =
  | { readonly start: Start }
  | { readonly stop: true }
  | { readonly look: true }
  | { readonly failedLaunch: string }
  | { readonly refused: string };

type Fields = Readonly<Record<string, unknown>>;

/** Names of events in https://docs.aws.amazon.com/eventbridge/latest/ref/events-ref-autoscaling.html. */
export const ENDS = ['Succeeded', 'Failed', 'Cancelled', 'Rollback Succeeded', 'Rollback Failed'].map(
  (end) => `EC2 Auto Scaling Instance Refresh ${end}`,
);
export const FAILED_LAUNCH = 'EC2 Instance Launch Unsuccessful';

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What arrived, short enough for one line of log. */
function shown(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').slice(0, 100);
}

function startOf(start: unknown): Task {
  if (start === true) return { start: { version: undefined } };
  const version = typeof start === 'string' && /^\d{1,9}$/.test(start) ? Number(start) : 0;
  if (version > 0) return { start: { version } };
  return { refused: `start is ${shown(start)}, expected true or the number of a version` };
}

/** What Terraform does with its resource: only its end means something here. */
function endOf({ action }: Fields): Task {
  if (action === 'delete') return { stop: true };
  if (action === 'create' || action === 'update') return { look: true };
  return { refused: `tf.action is ${shown(action)}, expected create, update or delete` };
}

function ofGroup({ 'detail-type': type, detail }: Fields, { group }: Configuration): Task {
  const fields = isFields(detail) ? detail : {};
  if (fields.AutoScalingGroupName !== group) {
    return {
      refused: `detail.AutoScalingGroupName is ${shown(fields.AutoScalingGroupName)}, expected ${shown(group)}`,
    };
  }
  if (type === FAILED_LAUNCH) {
    const { StatusMessage: reason } = fields;
    return { failedLaunch: typeof reason === 'string' ? reason : 'no reason given' };
  }
  return ENDS.includes(String(type)) ? { look: true } : { refused: `detail-type is ${shown(type)}` };
}

/** What an event asks for; never throws, whatever it is. */
export function taskOf(event: unknown, configuration: Configuration): Task {
  if (!isFields(event)) return { refused: `the event is ${shown(event)}, expected an object` };
  const { source, 'detail-type': type, start, tf } = event;
  if (source === 'aws.events' && type === 'Scheduled Event') return { look: true };
  if (source === 'aws.autoscaling') return ofGroup(event, configuration);
  if (start !== undefined) return startOf(start);
  if (isFields(tf)) return endOf(tf);
  return { refused: `the event is ${shown(event)}, expected a start, an end, a schedule or news of the group` };
}
