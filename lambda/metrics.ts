// SPDX-License-Identifier: Apache-2.0
// Metrics of the function: fields of a log line, out of which CloudWatch makes them (embedded metric format), so that they
// need no call and no permission.
import type { Context } from './launch';
import type { Facts } from './log';

/** Units as CloudWatch spells them. Every metric has the one dimension AutoScalingGroupName. */
export const FUNCTION_METRICS = {
  /** Launches given up for a reason that does not pass by itself. */
  LaunchesAbandoned: 'Count',
  /** Interfaces that a launch left behind. */
  OrphanedEnisDeleted: 'Count',
} as const;

export type FunctionMetric = keyof typeof FUNCTION_METRICS;

/** What a log line needs besides its message to count. */
export function metric({ configuration, pace }: Context, name: FunctionMetric, value: number): Facts {
  const definition = {
    Namespace: configuration.metricNamespace,
    Dimensions: [['AutoScalingGroupName']],
    Metrics: [{ Name: name, Unit: FUNCTION_METRICS[name] }],
  };
  return {
    _aws: { Timestamp: pace.now(), CloudWatchMetrics: [definition] },
    AutoScalingGroupName: configuration.group,
    [name]: value,
  };
}
