// SPDX-License-Identifier: Apache-2.0
// Metrics of the functions: fields of a log line, out of which CloudWatch makes them (embedded metric format), so that they
// need no call and no permission.
import type { Clock } from './clock';
import type { Facts } from './log';

/** The one dimension of every metric; gateways send theirs under it, too. */
export const GROUP_DIMENSION = 'AutoScalingGroupName';

/** Units as CloudWatch spells them. */
export const FUNCTION_METRICS = {
  /** Launches given up for a reason that does not pass by itself. */
  LaunchesAbandoned: 'Count',
  /** Interfaces that a launch left behind. */
  OrphanedEnisDeleted: 'Count',
  /** Launches that EC2 refused, or that ended before the instance was in service. */
  LaunchesFailed: 'Count',
  RolloutsSucceeded: 'Count',
  RolloutsRolledBack: 'Count',
  RolloutsFailed: 'Count',
  RolloutsCancelled: 'Count',
  /** Done of the rollout that runs; 0 while none does. */
  RolloutPercent: 'Percent',
} as const;

export type FunctionMetric = keyof typeof FUNCTION_METRICS;

/** What a metric takes of a function's context. */
export interface Sender {
  readonly configuration: { readonly group: string; readonly metricNamespace: string };
  readonly clock: Pick<Clock, 'now'>;
}

/** Returns what a log line needs besides its message to count. */
export function metric({ configuration, clock }: Sender, name: FunctionMetric, value: number): Facts {
  const definition = {
    Namespace: configuration.metricNamespace,
    Dimensions: [[GROUP_DIMENSION]],
    Metrics: [{ Name: name, Unit: FUNCTION_METRICS[name] }],
  };
  return {
    _aws: { Timestamp: clock.now(), CloudWatchMetrics: [definition] },
    [GROUP_DIMENSION]: configuration.group,
    [name]: value,
  };
}
