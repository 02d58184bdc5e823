// SPDX-License-Identifier: Apache-2.0
// What may wake the function: a launch of our own group through our own hook, or the sweeper's schedule. Whoever may invoke
// it can send anything, so everything else is told apart before AWS is called.
import type { Configuration } from './configuration';

export interface Launch {
  readonly instance: string;
  /** Names the one lifecycle action that is to be completed. */
  readonly token: string;
  /** When the lifecycle hook began to wait. */
  readonly time: Date;
}

export type Task = { readonly launch: Launch } | { readonly sweep: true } | { readonly refused: string };

type Fields = Readonly<Record<string, unknown>>;

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What arrived, short enough for one line of log. */
function shown(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').slice(0, 100);
}

/** The first of several things that is not as it must be, in words. */
function complaint(checks: readonly (readonly [name: string, value: unknown, expected: RegExp | string])[]) {
  const wrong = checks.find(([, value, expected]) =>
    typeof expected === 'string' ? value !== expected : typeof value !== 'string' || !expected.test(value),
  );
  if (!wrong) return undefined;
  const [name, value, expected] = wrong;
  return `${name} is ${shown(value)}, expected ${typeof expected === 'string' ? shown(expected) : String(expected)}`;
}

function launchOf(event: Fields, { group, hook }: Configuration): Task {
  const detail = event.detail;
  if (!isFields(detail)) return { refused: `detail is ${shown(detail)}, expected an object` };
  const { EC2InstanceId: instance, LifecycleActionToken: token } = detail;
  const time = new Date(String(event.time));
  const refused = complaint([
    ['detail.AutoScalingGroupName', detail.AutoScalingGroupName, group],
    ['detail.LifecycleHookName', detail.LifecycleHookName, hook],
    ['detail.LifecycleTransition', detail.LifecycleTransition, 'autoscaling:EC2_INSTANCE_LAUNCHING'],
    ['detail.EC2InstanceId', instance, /^i-[0-9a-f]{8,17}$/],
    ['detail.LifecycleActionToken', token, /^[\w-]{1,64}$/],
    ['time', event.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/],
  ]);
  if (refused) return { refused };
  if (Number.isNaN(time.getTime())) return { refused: `time is ${shown(event.time)}, expected a date` };
  return { launch: { instance: String(instance), token: String(token), time } };
}

/** What an event asks for; never throws, whatever it is. */
export function taskOf(event: unknown, configuration: Configuration): Task {
  if (!isFields(event)) return { refused: `the event is ${shown(event)}, expected an object` };
  const { source, 'detail-type': type } = event;
  if (source === 'aws.events' && type === 'Scheduled Event') return { sweep: true };
  if (source === 'aws.autoscaling' && type === 'EC2 Instance-launch Lifecycle Action')
    return launchOf(event, configuration);
  return { refused: `source is ${shown(source)} and detail-type ${shown(type)}, expected a launch or a schedule` };
}
