// SPDX-License-Identifier: Apache-2.0
// The metrics of gateways, and of the function that serves them: the one list behind alarms, dashboard and scaling. An
// alarm on a name, a unit or a set of dimensions that nobody sends waits for ever, so nothing else in the stack spells
// them out. Those of gateways stand in a file that travels to them: what it lists, xdp-monitoring sends.
import { FUNCTION_METRICS, type FunctionMetric, GROUP_DIMENSION } from '../../lambda/shared/metrics';
import list from '../../userdata/metrics.json';

export const METRIC_NAMESPACE = list.namespace;

export type GatewayMetric = keyof typeof list.metrics;
export type MetricName = GatewayMetric | FunctionMetric;

/** Units as CloudWatch spells them (MetricDatum, CloudWatch API reference). */
export const METRICS: Readonly<Record<GatewayMetric, { readonly unit: string; readonly meaning: string }>> =
  list.metrics;

export function unitOf(name: MetricName): string {
  return name in FUNCTION_METRICS ? FUNCTION_METRICS[name as FunctionMetric] : METRICS[name as GatewayMetric].unit;
}

/**
 * Every metric of a gateway is sent once per set, those of the function for the first alone. CloudWatch aggregates nothing
 * over dimensions that were not sent so.
 */
export const DIMENSION_SETS: readonly (readonly string[])[] = list.dimensions;

/** The set of a single gateway: the largest. */
export const GATEWAY_DIMENSIONS: readonly string[] = list.dimensions.reduce((most, set) =>
  set.length > most.length ? set : most,
);

/** The set of a whole group. AWS names its own metrics of a group by the same dimension. */
export function groupDimensions(groupName: string): Record<string, string> {
  return { [GROUP_DIMENSION]: groupName };
}
