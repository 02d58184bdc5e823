// SPDX-License-Identifier: Apache-2.0
// The metrics of gateways, and of the function that serves them: the one list behind alarms, dashboard and scaling. An
// alarm on a name, a unit or a set of dimensions that nobody sends waits for ever, so nothing else in the stack spells
// them out.
import { FUNCTION_METRICS, type FunctionMetric } from '../lambda/metrics';

export const METRIC_NAMESPACE = 'XDP/PacketProcessing';

/** Units as CloudWatch spells them (MetricDatum, CloudWatch API reference). */
export const METRICS = {
  PacketsPerSecond: 'Count/Second',
  PacketsModifiedPerSecond: 'Count/Second',
  BytesPerSecond: 'Bytes/Second',
  /** 1 while the XDP program is on its interface, 0 otherwise. */
  XdpAttached: 'Count',
  StandbyPacketsPerSecond: 'Count/Second',
  NfqueuePacketsPerSecond: 'Count/Second',
  NfqueueDropsPerSecond: 'Count/Second',
  MalformedPacketsPerSecond: 'Count/Second',
  /** Packets that the instance type's allowance cost since the last sample (ethtool -S, pps_allowance_exceeded). */
  PpsAllowanceExceeded: 'Count',
} as const;

export type MetricName = keyof typeof METRICS | FunctionMetric;

export function unitOf(name: MetricName): string {
  return { ...METRICS, ...FUNCTION_METRICS }[name];
}

/**
 * Every metric of a gateway is sent once per set, those of the function for the first alone. CloudWatch aggregates nothing
 * over dimensions that were not sent so.
 */
export const DIMENSION_SETS = [['AutoScalingGroupName'], ['AutoScalingGroupName', 'InstanceId']] as const;
