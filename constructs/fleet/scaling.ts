// SPDX-License-Identifier: Apache-2.0
// When the fleet grows and shrinks.
import {
  AutoscalingPolicy,
  type AutoscalingPolicyTargetTrackingConfiguration as Target,
} from '@cdktf/provider-aws/lib/autoscaling-policy';
import { Construct } from 'constructs';
import { type GatewayMetric, groupDimensions, METRIC_NAMESPACE, unitOf } from '../monitoring/metrics';

// Interrupts fill one core before they fill them all, so a mean of all cores must stay well below full.
const CPU_PERCENT = 60;

export interface FleetScalingProps {
  readonly baseName: string;
  readonly groupName: string;
  /** Packets/s that a gateway should carry on average. */
  readonly packetsPerSecond: number;
  /** Bytes/s of mirrored IP packets that a gateway should carry on average. */
  readonly bytesPerSecond: number;
}

/**
 * Follows packets/s and bytes/s per gateway, and the processors' load: large datagrams fill the bandwidth long before they are
 * many; how many packets a gateway can carry depends on its engine, and after a rollback to netfilter the processors are full
 * long before the packets are many. The policy that wants more wins.
 */
export class FleetScaling extends Construct {
  public constructor(scope: Construct, id: string, props: FleetScalingProps) {
    super(scope, id);
    const { baseName, groupName, packetsPerSecond, bytesPerSecond } = props;
    const track = (name: string, target: Target) =>
      new AutoscalingPolicy(this, name, {
        name: `${baseName}-${name}`,
        autoscalingGroupName: groupName,
        policyType: 'TargetTrackingScaling',
        targetTrackingConfiguration: target,
      });
    // Every gateway sends its own rate under the group's name: their mean is the rate per gateway.
    const mean = (metricName: GatewayMetric) => ({
      namespace: METRIC_NAMESPACE,
      metricName,
      unit: unitOf(metricName),
      statistic: 'Average',
      metricDimension: Object.entries(groupDimensions(groupName)).map(([name, value]) => ({ name, value })),
    });
    track('packets', { targetValue: packetsPerSecond, customizedMetricSpecification: mean('PacketsPerSecond') });
    track('bytes', { targetValue: bytesPerSecond, customizedMetricSpecification: mean('BytesPerSecond') });
    track('processors', {
      targetValue: CPU_PERCENT,
      predefinedMetricSpecification: { predefinedMetricType: 'ASGAverageCPUUtilization' },
    });
  }
}
