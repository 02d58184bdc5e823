// SPDX-License-Identifier: Apache-2.0
// How many gateways there are, where, and who replaces one that fails.
import { AutoscalingGroup } from '@cdktf/provider-aws/lib/autoscaling-group';
import { Construct } from 'constructs';
import type { GatewayLaunchTemplate } from './gateway-launch-template';

// A gateway installs some 90 s of packages and builds for seconds; small types and slow mirrors take several times that,
// and its second interface may take ten minutes more.
const BUILD_SECONDS = 1200;

export interface GatewayFleetProps {
  readonly name: string;
  readonly launchTemplate: Pick<GatewayLaunchTemplate, 'templateId' | 'latestVersion'>;
  readonly subnetIds: readonly string[];
  readonly targetGroupArns: readonly string[];
  /** Smallest size, and the size the group starts with. */
  readonly minSize: number;
  readonly maxSize: number;
  /** Tags of the group and its instances. */
  readonly tags: Readonly<Record<string, string>>;
  /** Seconds an instance has before its health counts. @default 1200, which covers the build and the wait for the second interface */
  readonly healthCheckGracePeriod?: number;
}

/** Starts at its minimum, keeps the size somebody gave it later, launches a replacement before it stops a gateway. */
export class GatewayFleet extends Construct {
  public readonly name: string;

  public constructor(scope: Construct, id: string, props: GatewayFleetProps) {
    super(scope, id);
    const { launchTemplate, minSize, maxSize, healthCheckGracePeriod = BUILD_SECONDS } = props;
    const group = new AutoscalingGroup(this, 'group', {
      name: props.name,
      minSize,
      maxSize,
      desiredCapacity: minSize,
      vpcZoneIdentifier: [...props.subnetIds],
      targetGroupArns: [...props.targetGroupArns],
      // Not ELB: while nothing attaches the second interface no gateway is healthy to the load balancer, and the group
      // would replace them all for ever. An NLB without a healthy target sends to all of them.
      healthCheckType: 'EC2',
      healthCheckGracePeriod,
      launchTemplate: { id: launchTemplate.templateId, version: launchTemplate.latestVersion },
      // A group of one would otherwise stop its only gateway first.
      instanceMaintenancePolicy: { minHealthyPercentage: 100, maxHealthyPercentage: 200 },
      instanceRefresh: {
        strategy: 'Rolling',
        preferences: {
          minHealthyPercentage: 100,
          maxHealthyPercentage: 200,
          instanceWarmup: String(healthCheckGracePeriod),
        },
      },
      tag: Object.entries(props.tags).map(([key, value]) => ({ key, value, propagateAtLaunch: true })),
      lifecycle: { ignoreChanges: ['desired_capacity'] },
    });
    this.name = group.name;
  }
}
