// SPDX-License-Identifier: Apache-2.0
// How many gateways there are, where, and who replaces one that fails.
import { AutoscalingGroup } from '@cdktf/provider-aws/lib/autoscaling-group';
import type { ITerraformDependable } from 'cdktf';
import { Construct } from 'constructs';
import type { Preferences } from '../../lambda/rollout/configuration';
import type { LaunchHook } from './eni-function';
import type { GatewayLaunchTemplate } from './launch-template';

// A gateway installs some 90 s of packages and builds for seconds; small types and slow mirrors take several times that.
// The clock starts when the launch hook is done, so the wait for the second interface is not in it.
const BUILD_SECONDS = 600;

/** Metrics of the group itself that the dashboard and the alarm on silent gateways need; they cost nothing. */
const GROUP_METRICS = ['GroupDesiredCapacity', 'GroupInServiceInstances', 'GroupPendingInstances'] as const;

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
  /** Seconds an instance has before its health counts, from its launch hook's end. @default 600, which covers the build */
  readonly healthCheckGracePeriod?: number;
  /** What a launch waits for. @default - nothing */
  readonly launchHook?: LaunchHook;
  /** What must be there before the first launch. @default - nothing */
  readonly dependsOn?: ITerraformDependable[];
}

/**
 * Starts at its minimum, keeps the size that scaling or somebody gave it later, and launches a replacement before it stops a
 * gateway. Later versions of the template are rolled out by somebody else, see rollout.ts.
 */
export class GatewayFleet extends Construct {
  /** A reference to the group. */
  public readonly name: string;
  /** As it was given. */
  public readonly groupName: string;
  public readonly group: AutoscalingGroup;
  public readonly rolloutPreferences: Preferences;

  public constructor(scope: Construct, id: string, props: GatewayFleetProps) {
    super(scope, id);
    const { launchTemplate, launchHook, healthCheckGracePeriod = BUILD_SECONDS } = props;
    const group = new AutoscalingGroup(this, 'group', {
      name: props.name,
      minSize: props.minSize,
      maxSize: props.maxSize,
      desiredCapacity: props.minSize,
      vpcZoneIdentifier: [...props.subnetIds],
      targetGroupArns: [...props.targetGroupArns],
      // The load balancer asks /healthz, which knows whether packets can flow; EC2 only knows whether the machine runs.
      // A fleet of which nobody is healthy would be replaced for ever: see replacement-guard.ts.
      healthCheckType: 'ELB',
      healthCheckGracePeriod,
      defaultInstanceWarmup: healthCheckGracePeriod,
      launchTemplate: { id: launchTemplate.templateId, version: launchTemplate.latestVersion },
      // In the group itself, not as a resource of its own: that would come after the first launch, which nobody would serve.
      initialLifecycleHook: launchHook && [launchingHook(launchHook)],
      dependsOn: props.dependsOn,
      // Long enough for a hook that runs out once.
      waitForCapacityTimeout: '25m',
      // One refused launch (no capacity in a zone, a quota) would fail the deploy and taint the group, although the group
      // tries again: https://github.com/hashicorp/terraform-provider-aws/issues/29753.
      ignoreFailedScalingActivities: true,
      // A group of one would otherwise stop its only gateway first.
      instanceMaintenancePolicy: launchFirst(props.minSize),
      enabledMetrics: [...GROUP_METRICS],
      tag: Object.entries(props.tags).map(([key, value]) => ({ key, value, propagateAtLaunch: true })),
      // Changed by scaling, by the rollout function (rollout.ts) and by the replacement guard.
      lifecycle: { ignoreChanges: ['desired_capacity', 'launch_template', 'suspended_processes'] },
    });
    this.name = group.name;
    this.groupName = props.name;
    // A successor counts after its warm-up, if it is healthy then; only then its predecessor goes.
    const { minHealthyPercentage, maxHealthyPercentage } = launchFirst(props.minSize);
    this.rolloutPreferences = {
      MinHealthyPercentage: minHealthyPercentage,
      MaxHealthyPercentage: maxHealthyPercentage,
      InstanceWarmup: healthCheckGracePeriod,
    };
    this.group = group;
  }
}

/** One successor beside a small fleet, a tenth beside a large one: a bad version must not meet all of them at once. */
function launchFirst(minSize: number) {
  return { minHealthyPercentage: 100, maxHealthyPercentage: Math.max(110, 100 + Math.ceil(100 / minSize)) };
}

function launchingHook({ name, heartbeatSeconds }: LaunchHook) {
  return {
    name,
    lifecycleTransition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
    heartbeatTimeout: heartbeatSeconds,
    // A gateway without its second interface forwards nothing: better none than one that takes flows.
    defaultResult: 'ABANDON',
  };
}
