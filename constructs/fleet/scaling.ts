// SPDX-License-Identifier: Apache-2.0
// When the fleet grows and shrinks.
import {
  AutoscalingPolicy,
  type AutoscalingPolicyTargetTrackingConfiguration as Target,
} from '@cdktf/provider-aws/lib/autoscaling-policy';
import { Construct } from 'constructs';
import { groupDimensions, METRIC_NAMESPACE, unitOf } from '../monitoring/metrics';

// Interrupts fill one core before they fill them all, so a mean of all cores must stay well below full.
const CPU_PERCENT = 60;

export interface FleetScalingProps {
  readonly baseName: string;
  readonly groupName: string;
  /** Packets/s that a gateway should carry on average. */
  readonly packetsPerSecond: number;
}

/**
 * Follows packets/s per gateway, and the processors' load: how many packets a gateway can carry depends on its engine, and
 * after a rollback to netfilter the processors are full long before the packets are many. The policy that wants more wins.
 */
export class FleetScaling extends Construct {
  public constructor(scope: Construct, id: string, props: FleetScalingProps) {
    super(scope, id);
    const { baseName, groupName, packetsPerSecond } = props;
    const track = (name: string, target: Target) =>
      new AutoscalingPolicy(this, name, {
        name: `${baseName}-${name}`,
        autoscalingGroupName: groupName,
        policyType: 'TargetTrackingScaling',
        targetTrackingConfiguration: target,
      });
    track('packets', {
      targetValue: packetsPerSecond,
      customizedMetricSpecification: {
        namespace: METRIC_NAMESPACE,
        metricName: 'PacketsPerSecond',
        unit: unitOf('PacketsPerSecond'),
        // Every gateway sends its own rate under the group's name: their mean is the rate per gateway.
        statistic: 'Average',
        metricDimension: Object.entries(groupDimensions(groupName)).map(([name, value]) => ({ name, value })),
      },
    });
    track('processors', {
      targetValue: CPU_PERCENT,
      predefinedMetricSpecification: { predefinedMetricType: 'ASGAverageCPUUtilization' },
    });
  }
}
