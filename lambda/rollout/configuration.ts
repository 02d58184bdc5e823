// SPDX-License-Identifier: Apache-2.0
// The function's settings: environment variables that the stack writes.
import { type Environment, matching, wrong } from '../shared/environment';

export interface Configuration {
  readonly stack: string;
  readonly group: string;
  readonly template: string;
  /** Alarms that stop a rollout. */
  readonly alarms: readonly string[];
  /** Who hears of outcomes; empty: only the log does. */
  readonly topic: string;
  readonly metricNamespace: string;
  readonly preferences: Preferences;
}

/** How gateways are replaced. */
export interface Preferences {
  readonly MinHealthyPercentage: number;
  readonly MaxHealthyPercentage: number;
  readonly InstanceWarmup: number;
}

function preferences(environment: Environment): Preferences {
  const text = environment.PREFERENCES;
  try {
    const { MinHealthyPercentage, MaxHealthyPercentage, InstanceWarmup } = JSON.parse(text ?? '') as Preferences;
    const all = { MinHealthyPercentage, MaxHealthyPercentage, InstanceWarmup };
    if (Object.values(all).every((value) => Number.isInteger(value) && value >= 0)) return all;
  } catch {
    // Said below.
  }
  throw wrong('PREFERENCES', text, 'a JSON object of MinHealthyPercentage, MaxHealthyPercentage and InstanceWarmup');
}

/** @throws Error of one line that names the variable, its value and what is allowed */
export function configurationOf(environment: Environment): Configuration {
  const text = (name: string) => matching(environment, name, /\S/, 'a name');
  const alarms = matching(environment, 'ALARM_NAMES', /^[^]*$/, 'names of alarms with commas between');
  return {
    stack: text('STACK'),
    group: text('AUTO_SCALING_GROUP_NAME'),
    template: matching(environment, 'LAUNCH_TEMPLATE_ID', /^lt-[0-9a-z-]+$/, 'the id of a launch template'),
    alarms: alarms.split(',').filter((name) => name !== ''),
    topic: matching(environment, 'TOPIC_ARN', /^(?:arn:[^]+)?$/, 'the ARN of a topic, or empty'),
    metricNamespace: text('METRIC_NAMESPACE'),
    preferences: preferences(environment),
  };
}
