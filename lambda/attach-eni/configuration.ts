// SPDX-License-Identifier: Apache-2.0
// The function's settings: environment variables that the stack writes.
import { type Environment, matching, wrong } from '../shared/environment';
import { SHORTEST_HEARTBEAT_SECONDS } from './timeouts';

export interface Configuration {
  readonly stack: string;
  readonly group: string;
  readonly hook: string;
  readonly heartbeatSeconds: number;
  readonly securityGroup: string;
  /** Empty: the secondary interface goes where the instance's first one is. */
  readonly subnets: readonly string[];
  readonly extraTags: Readonly<Record<string, string>>;
  readonly metricNamespace: string;
}

/** The longest a lifecycle hook may wait. */
const LONGEST_HEARTBEAT_SECONDS = 172_800;

function heartbeat(environment: Environment): number {
  const name = 'HEARTBEAT_SECONDS';
  const seconds = Number(matching(environment, name, /^\d+$/, 'a number of seconds'));
  if (seconds >= SHORTEST_HEARTBEAT_SECONDS && seconds <= LONGEST_HEARTBEAT_SECONDS) return seconds;
  const range = `from ${SHORTEST_HEARTBEAT_SECONDS} to ${LONGEST_HEARTBEAT_SECONDS}`;
  throw wrong(name, environment[name], range);
}

function isTags(value: unknown): value is Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((each) => typeof each === 'string');
}

function extraTags(environment: Environment): Record<string, string> {
  const text = environment.EXTRA_TAGS;
  try {
    const tags: unknown = JSON.parse(text ?? '');
    if (isTags(tags)) return tags;
  } catch {
    // Said below.
  }
  throw wrong('EXTRA_TAGS', text, 'a JSON object whose values are strings');
}

/** @throws Error of one line that names the variable, its value and what is allowed */
export function configurationOf(environment: Environment): Configuration {
  const text = (name: string) => matching(environment, name, /\S/, 'a name');
  const subnets = matching(
    environment,
    'SECONDARY_SUBNET_IDS',
    /^(?:subnet-[0-9a-f]+(?:,(?!$)|$))*$/,
    'subnet ids with commas between',
  );
  return {
    stack: text('STACK'),
    group: text('AUTO_SCALING_GROUP_NAME'),
    hook: text('LIFECYCLE_HOOK_NAME'),
    heartbeatSeconds: heartbeat(environment),
    securityGroup: matching(environment, 'SECURITY_GROUP_ID', /^sg-[0-9a-f]+$/, 'a security group id'),
    subnets: subnets === '' ? [] : subnets.split(','),
    extraTags: extraTags(environment),
    metricNamespace: text('METRIC_NAMESPACE'),
  };
}
