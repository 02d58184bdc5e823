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
import { BundleBucket } from './user-data/bundle-bucket';
import { GatewayDashboard } from './monitoring/dashboard';
import { GatewayFleet } from './fleet/fleet';
import { GatewayLaunchTemplate } from './fleet/launch-template';
import { GatewayLoadBalancer } from './network/load-balancer';
import { logGroup } from './monitoring/logs';
import { GatewayRole } from './fleet/role';
import { GatewaySecurity } from './network/security';
import { baseName, logGroupName, rateAlarmName } from './config/names';
import { scalingTarget } from './config/rates';
import { ReplacementGuard } from './fleet/replacement-guard';
import { keepStateInS3, keepStateLocally } from './config/state-backend';
import { TrafficMirror } from './network/traffic-mirror';

export interface GatewayStackProps {
  readonly config: GatewayConfig;
  /** The ENI function as a zip file. */
  readonly eniPackagePath: string;
}

interface Watched {
  readonly baseName: string;
  readonly groupName: string;
  readonly loadBalancer: GatewayLoadBalancer['metricDimensions'];
  readonly functionName: string;
  readonly failureQueueName: string;
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
    new AwsProvider(this, 'aws', { region: config.region, defaultTags: [{ tags: tagsOf(config) }] });
    this.account = new DataAwsCallerIdentity(this, 'account').accountId;

    const logs = logGroup(this, 'logs', { name: logGroupName(this.base), retentionDays: config.log_retention_days });
    const security = this.security();
    const launchTemplate = this.launchTemplate(logs.arn, security);
    const loadBalancer = this.loadBalancer(security);
    const eniFunction = this.eniFunction(security);
    const watched = {
      baseName: this.base,
      groupName: this.groupName,
      loadBalancer: loadBalancer.metricDimensions,
      functionName: eniFunction.functionName,
      failureQueueName: eniFunction.failureQueueName,
    };
    const alarms = this.alarms(watched);
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
      rolloutAlarmNames: alarms.rolloutAlarmNames,
    });
    this.scaling(fleet, alarms);
    const mirror = this.mirror(loadBalancer, fleet, security);
    const { region } = config;
    const dashboard = new GatewayDashboard(this, 'dashboard', { ...watched, region, logGroupName: logs.name });
    const engineSwitch = new EngineSwitch(this, 'engine-switch', {
      baseName: this.base,
      region,
      groupName: this.groupName,
    });

    this.warn(config);
    this.output('load_balancer_arn', loadBalancer.loadBalancerArn, 'Network load balancer of the gateways');
    this.output('load_balancer_dns_name', loadBalancer.dnsName, 'Name of the load balancer');
    this.output('mirror_target_id', mirror.targetId, 'Target for mirror sessions made elsewhere');
    this.output('mirror_filter_id', mirror.filterId, 'Filter for mirror sessions made elsewhere');
    this.output('autoscaling_group_name', fleet.name, 'Group of the gateways');
    this.output('dashboard_url', dashboard.url, 'Where to look first');
    this.output('rollback_command', engineSwitch.rollbackCommand, 'Puts all gateways on netfilter, in place');
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

  /** With the bundle that its user data names, and the role that may read it. */
  private launchTemplate(logGroupArn: string, security: GatewaySecurity): GatewayLaunchTemplate {
    const { config } = this.props;
    const { region, vpc_id: vpcId } = config;
    const bundle = new BundleBucket(this, 'bundle', { baseName: this.base, region, vpcId });
    const role = new GatewayRole(this, 'role', {
      baseName: this.base,
      region,
      logGroupArn,
      bundleReading: bundle.reading,
    });
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

  private alarms(watched: Watched): GatewayAlarms {
    const { config } = this.props;
    const notifies = config.alarm_topic_arn ?? config.alarm_email;
    const topic =
      notifies &&
      new AlarmTopic(this, 'alarm-topic', {
        baseName: this.base,
        region: config.region,
        account: this.account,
        topicArn: config.alarm_topic_arn,
        email: config.alarm_email,
      });
    return new GatewayAlarms(this, 'alarms', {
      ...watched,
      rateAlarmName: rateAlarmName(this.base),
      enableXdp: config.enable_xdp,
      packetsPerSecond: config.pps_alarm_threshold,
      topicArn: topic ? topic.arn : undefined,
    });
  }

  /** What makes the fleet grow and shrink, and what stops it from replacing gateways in vain. */
  private scaling(fleet: GatewayFleet, alarms: GatewayAlarms): void {
    const { config } = this.props;
    new FleetScaling(this, 'scaling', {
      baseName: this.base,
      groupName: fleet.name,
      packetsPerSecond: scalingTarget(config),
    });
    new ReplacementGuard(this, 'replacement-guard', {
      baseName: this.base,
      region: config.region,
      account: this.account,
      groupName: this.groupName,
      alarm: alarms.replacementDoesNotHelp,
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

  private output(name: string, value: string, description: string): void {
    new TerraformOutput(this, name, { value, description }).overrideLogicalId(name);
  }
}

function tagsOf({ product, component, environment }: GatewayConfig): Record<string, string> {
  const tags = { Product: product, Component: component };
  return environment ? { ...tags, Environment: environment } : tags;
}
