// SPDX-License-Identifier: Apache-2.0
// The mirror gateway as one stack: which construct gets what. Everything with a reason of its own lives in the constructs.
import { DataAwsCallerIdentity } from '@cdktf/provider-aws/lib/data-aws-caller-identity';
import { AwsProvider } from '@cdktf/provider-aws/lib/provider';
import { Annotations, TerraformOutput, TerraformStack } from 'cdktf';
import type { Construct } from 'constructs';
import { AlarmTopic } from './monitoring/alarm-topic';
import type { GatewayConfig } from './config/keys';
import { maxInstances } from './config/rules';
import { type ConstructId, warningsFor } from './config/warnings';
import { EngineSwitch } from './fleet/engine-switch';
import { EniFunction } from './fleet/eni-function';
import { FleetScaling } from './fleet/scaling';
import { GatewayAlarms } from './monitoring/alarms';
import { MachineryAlarms } from './monitoring/machinery-alarms';
import { BundleBucket } from './user-data/bundle-bucket';
import { GatewayDashboard } from './monitoring/dashboard';
import { GatewayFleet } from './fleet/fleet';
import { GatewayLaunchTemplate } from './fleet/launch-template';
import { GatewayLoadBalancer } from './network/load-balancer';
import { logGroup } from './monitoring/logs';
import { GatewayRole } from './fleet/role';
import { GatewaySecurity } from './network/security';
import { baseName, logGroupName, rateAlarmName } from './config/names';
import { scalingBytes, scalingTarget } from './config/rates';
import { TAG_PREFIX } from '../lambda/rollout/tags';
import { Rollout, type RolloutProps } from './fleet/rollout';
import { ReplacementGuard } from './fleet/replacement-guard';
import { keepStateInS3, keepStateLocally } from './config/state-backend';
import { TrafficMirror } from './network/traffic-mirror';

export interface GatewayStackProps {
  readonly config: GatewayConfig;
  /** The ENI function as a zip file. */
  readonly eniPackagePath: string;
  /** The rollout function as a zip file. */
  readonly rolloutPackagePath: string;
}

interface Watched {
  readonly baseName: string;
  readonly groupName: string;
  readonly loadBalancer: GatewayLoadBalancer['metricDimensions'];
  readonly functionName: string;
  readonly failureQueueName: string;
}

/** What acts on the fleet. */
interface Machinery {
  readonly eniFunction: EniFunction;
  readonly rollout: Rollout;
  readonly guard: ReplacementGuard;
}

/** Gateways behind an internal NLB and all that watches and feeds them, named by name_prefix and environment. */
export class GatewayStack extends TerraformStack {
  private readonly base: string;
  private readonly groupName: string;
  private readonly account: string;

  public constructor(
    scope: Construct,
    id: string,
    private readonly props: GatewayStackProps,
  ) {
    super(scope, id);
    const { config } = props;
    this.base = baseName(config);
    this.groupName = `${this.base}-xdp-asg`;
    this.keepState(config);
    // The rollout function remembers by tags of the template, which are not the configuration's to remove.
    const ignoreTags = [{ keyPrefixes: [TAG_PREFIX] }];
    new AwsProvider(this, 'aws', { region: config.region, defaultTags: [{ tags: tagsOf(config) }], ignoreTags });
    this.account = new DataAwsCallerIdentity(this, 'account').accountId;

    const logs = logGroup(this, 'logs', { name: logGroupName(this.base), retentionDays: config.log_retention_days });
    const security = this.security();
    const { region, vpc_id: vpcId } = config;
    const bundle = new BundleBucket(this, 'bundle', { baseName: this.base, region, vpcId });
    const role = this.role(logs.arn, bundle);
    const launchTemplate = this.launchTemplate(bundle, role, security);
    const loadBalancer = this.loadBalancer(security);
    const eniFunction = this.eniFunction(security);
    const watched = {
      baseName: this.base,
      groupName: this.groupName,
      loadBalancer: loadBalancer.metricDimensions,
      functionName: eniFunction.functionName,
      failureQueueName: eniFunction.failureQueueName,
    };
    const topic = this.alarmTopic();
    const alarms = this.alarms(watched, topic);
    const fleet = new GatewayFleet(this, 'fleet', {
      name: this.groupName,
      launchTemplate,
      subnetIds: config.private_subnet_ids,
      targetGroupArns: [loadBalancer.targetGroupArn],
      minSize: config.min_instances,
      maxSize: maxInstances(config),
      tags: this.instanceTags(),
      launchHook: eniFunction.hook,
      dependsOn: [...eniFunction.listeners, loadBalancer.listener, ...security.rules],
    });
    const rollout = this.rollout({ fleet, launchTemplate, gatewayRoleArn: role.arn, topic }, alarms);
    this.scaling(fleet);
    const guard = this.replacementGuard(alarms);
    this.machineryAlarms({ eniFunction, rollout, guard }, topic);
    const mirror = this.mirror(loadBalancer, fleet, security);
    const dashboard = this.dashboard(watched, logs.name);

    this.warn(config);
    this.outputs(loadBalancer, mirror, fleet, dashboard);
  }

  private security(): GatewaySecurity {
    const { config } = this.props;
    return new GatewaySecurity(this, 'security', {
      vpcId: config.vpc_id,
      baseName: this.base,
      region: config.region,
      healthPort: config.health_port,
      ipsecVm: { ip: config.aws_ipsec_vm_ip, port: config.aws_ipsec_vm_port },
      mirrorSourceCidrs: config.mirror_source_cidrs,
      managementCidrs: config.management_cidrs,
    });
  }

  private role(logGroupArn: string, bundle: BundleBucket): GatewayRole {
    return new GatewayRole(this, 'role', {
      baseName: this.base,
      region: this.props.config.region,
      logGroupArn,
      bundleReading: bundle.reading,
    });
  }

  private launchTemplate(bundle: BundleBucket, role: GatewayRole, security: GatewaySecurity): GatewayLaunchTemplate {
    const { config } = this.props;
    return new GatewayLaunchTemplate(this, 'launch-template', {
      baseName: this.base,
      config,
      bundle,
      instanceType: config.ec2_instance_type,
      instanceProfileName: role.instanceProfileName,
      securityGroupIds: [security.gatewayGroupId],
      tags: this.instanceTags(),
      amiId: config.base_ami,
    });
  }

  private loadBalancer(security: GatewaySecurity): GatewayLoadBalancer {
    const { config } = this.props;
    return new GatewayLoadBalancer(this, 'load-balancer', {
      vpcId: config.vpc_id,
      subnetIds: config.private_subnet_ids,
      securityGroupId: security.loadBalancerGroupId,
      baseName: this.base,
      healthPort: config.health_port,
      deletionProtection: config.deletion_protection,
    });
  }

  private eniFunction(security: GatewaySecurity): EniFunction {
    const { config, eniPackagePath } = this.props;
    return new EniFunction(this, 'eni-function', {
      baseName: this.base,
      region: config.region,
      account: this.account,
      groupName: this.groupName,
      packagePath: eniPackagePath,
      securityGroupId: security.secondaryGroupId,
      subnetIds: config.private_subnet_ids,
      secondarySubnetIds: config.secondary_subnet_ids,
      tags: tagsOf(config),
      logRetentionDays: config.log_retention_days,
      largestFleet: maxInstances(config),
    });
  }

  private alarmTopic(): AlarmTopic | undefined {
    const { config } = this.props;
    const notifies = config.alarm_topic_arn ?? config.alarm_email;
    if (!notifies) return undefined;
    return new AlarmTopic(this, 'alarm-topic', {
      baseName: this.base,
      region: config.region,
      account: this.account,
      topicArn: config.alarm_topic_arn,
      email: config.alarm_email,
    });
  }

  private alarms(watched: Watched, topic: AlarmTopic | undefined): GatewayAlarms {
    const { config } = this.props;
    return new GatewayAlarms(this, 'alarms', {
      ...watched,
      rateAlarmName: rateAlarmName(this.base),
      enableXdp: config.enable_xdp,
      packetsPerSecond: config.pps_alarm_threshold,
      topicArn: topic?.arn,
    });
  }

  private rollout(
    parts: Pick<RolloutProps, 'fleet' | 'launchTemplate' | 'gatewayRoleArn' | 'topic'>,
    alarms: GatewayAlarms,
  ): Rollout {
    const { config, rolloutPackagePath } = this.props;
    return new Rollout(this, 'rollout', {
      ...parts,
      baseName: this.base,
      region: config.region,
      account: this.account,
      packagePath: rolloutPackagePath,
      alarmNames: alarms.rolloutAlarmNames,
      logRetentionDays: config.log_retention_days,
    });
  }

  private scaling(fleet: GatewayFleet): void {
    const { config } = this.props;
    new FleetScaling(this, 'scaling', {
      baseName: this.base,
      groupName: fleet.name,
      packetsPerSecond: scalingTarget(config),
      bytesPerSecond: scalingBytes(config),
    });
  }

  private replacementGuard(alarms: GatewayAlarms): ReplacementGuard {
    return new ReplacementGuard(this, 'replacement-guard', {
      baseName: this.base,
      region: this.props.config.region,
      account: this.account,
      groupName: this.groupName,
      alarm: alarms.replacementDoesNotHelp,
    });
  }

  private machineryAlarms({ eniFunction, rollout, guard }: Machinery, topic: AlarmTopic | undefined): void {
    new MachineryAlarms(this, 'machinery-alarms', {
      baseName: this.base,
      groupName: this.groupName,
      topicArn: topic?.arn,
      rolloutFunctionName: rollout.functionName,
      queues: {
        [rollout.failureQueueName]: {
          id: 'rollout-events-undelivered',
          what: 'News of a rollout got lost; within five minutes the function looks by itself.',
        },
        [guard.failureQueueName]: {
          id: 'guard-events-undelivered',
          what: 'The replacement guard could not act: unhealthy gateways go on being replaced, or are not replaced any more.',
        },
      },
      rules: {
        'eni-launches': { name: eniFunction.rules.launches, consequence: 'launches get no second interface' },
        'eni-sweep': { name: eniFunction.rules.sweep, consequence: 'second interfaces that nobody uses stay' },
        'rollout-news': { name: rollout.rules.news, consequence: 'outcomes of rollouts are told late' },
        'rollout-looks': {
          name: rollout.rules.looks,
          consequence: 'a rollout that could not start does not start later',
        },
        'replacement-guard': { name: guard.ruleName, consequence: 'replacing is neither suspended nor resumed' },
      },
    });
  }

  private mirror(loadBalancer: GatewayLoadBalancer, fleet: GatewayFleet, security: GatewaySecurity): TrafficMirror {
    const { config } = this.props;
    return new TrafficMirror(this, 'mirror', {
      baseName: this.base,
      loadBalancerArn: loadBalancer.loadBalancerArn,
      filterCidrs: config.mirror_filter_cidrs,
      targetPort: config.target_port,
      vni: config.vni,
      sourceInterfaceIds: config.mirror_source_eni_ids,
      sessionNumber: config.mirror_session_number,
      gatewayGroupIds: [security.gatewayGroupId, security.secondaryGroupId],
      // Destroyed before the gateways, made after them.
      dependsOn: [loadBalancer.listener, fleet.group],
    });
  }

  private dashboard(watched: Watched, logs: string): GatewayDashboard {
    const { region } = this.props.config;
    return new GatewayDashboard(this, 'dashboard', { ...watched, region, logGroupName: logs });
  }

  private instanceTags(): Record<string, string> {
    return { ...tagsOf(this.props.config), Name: `${this.base}-xdp` };
  }

  private keepState(config: GatewayConfig): void {
    if (!config.state_bucket) return keepStateLocally(this);
    keepStateInS3(this, {
      bucket: config.state_bucket,
      key: config.state_key ?? `${baseName(config)}/terraform.tfstate`,
      region: config.state_region ?? config.region,
    });
  }

  private warn(config: GatewayConfig): void {
    const place = (at: ConstructId): Construct => this.node.findChild(at);
    warningsFor(config).forEach(({ at, text, isNote }) => {
      const annotations = Annotations.of(place(at));
      if (isNote) annotations.addInfo(text);
      else annotations.addWarning(text);
    });
  }

  private outputs(
    loadBalancer: GatewayLoadBalancer,
    mirror: TrafficMirror,
    fleet: GatewayFleet,
    dashboard: GatewayDashboard,
  ): void {
    const engineSwitch = new EngineSwitch(this, 'engine-switch', {
      baseName: this.base,
      region: this.props.config.region,
      groupName: this.groupName,
    });
    this.output('load_balancer_arn', loadBalancer.loadBalancerArn, 'Network load balancer of the gateways');
    this.output('load_balancer_dns_name', loadBalancer.dnsName, 'Name of the load balancer');
    this.output('mirror_target_id', mirror.targetId, 'Target for mirror sessions made elsewhere');
    this.output('mirror_filter_id', mirror.filterId, 'Filter for mirror sessions made elsewhere');
    this.output('autoscaling_group_name', fleet.name, 'Group of the gateways');
    this.output('dashboard_url', dashboard.url, 'Where to look first');
    this.output('rollback_command', engineSwitch.rollbackCommand, 'Puts all gateways on netfilter, in place');
  }

  private output(name: string, value: string, description: string): void {
    new TerraformOutput(this, name, { value, description }).overrideLogicalId(name);
  }
}

function tagsOf({ product, component, environment }: GatewayConfig): Record<string, string> {
  const tags = { Product: product, Component: component };
  return environment ? { ...tags, Environment: environment } : tags;
}
