// SPDX-License-Identifier: Apache-2.0
// The mirror gateway as one stack: which construct gets what. Everything with a reason of its own lives in the constructs.
import { AwsProvider } from '@cdktf/provider-aws/lib/provider';
import { Annotations, TerraformOutput, TerraformStack } from 'cdktf';
import type { Construct } from 'constructs';
import { baseName, maxInstances, type GatewayConfig } from './config';
import { GatewayFleet } from './gateway-fleet';
import { GatewayLaunchTemplate } from './gateway-launch-template';
import { GatewayLoadBalancer } from './gateway-load-balancer';
import { GatewayRole } from './gateway-role';
import { GatewaySecurity } from './gateway-security';
import { keepStateInS3, keepStateLocally } from './state-backend';

export interface GatewayStackProps {
  readonly config: GatewayConfig;
}

/** A fleet of gateways behind an internal NLB, named by name_prefix and environment. State is local without state_bucket. */
export class GatewayStack extends TerraformStack {
  public constructor(scope: Construct, id: string, { config }: GatewayStackProps) {
    super(scope, id);
    const base = baseName(config);
    const tags = tagsOf(config);
    const [subnetIds, vpcId, healthPort] = [config.private_subnet_ids, config.vpc_id, config.health_port];
    this.keepState(config);
    this.warn(config);
    new AwsProvider(this, 'aws', { region: config.region, defaultTags: [{ tags }] });
    const security = new GatewaySecurity(this, 'security', {
      vpcId,
      baseName: base,
      healthPort,
      mirrorSourceCidrs: config.mirror_source_cidrs,
    });
    const role = new GatewayRole(this, 'role', { baseName: base, region: config.region });
    const launchTemplate = new GatewayLaunchTemplate(this, 'launch-template', {
      baseName: base,
      config,
      instanceType: config.ec2_instance_type,
      instanceProfileName: role.instanceProfileName,
      securityGroupIds: [security.gatewayGroupId],
      tags: { ...tags, Name: `${base}-xdp` },
      amiId: config.base_ami,
    });
    const loadBalancer = new GatewayLoadBalancer(this, 'load-balancer', {
      vpcId,
      subnetIds,
      securityGroupId: security.loadBalancerGroupId,
      baseName: base,
      healthPort,
    });
    const fleet = new GatewayFleet(this, 'fleet', {
      name: `${base}-xdp-asg`,
      launchTemplate,
      subnetIds,
      targetGroupArns: [loadBalancer.targetGroupArn],
      minSize: config.min_instances,
      maxSize: maxInstances(config),
      tags: { ...tags, Name: `${base}-xdp` },
    });
    this.output('load_balancer_arn', loadBalancer.loadBalancerArn, 'Target of the mirror sessions');
    this.output('load_balancer_dns_name', loadBalancer.dnsName, 'Name of the load balancer');
    this.output('autoscaling_group_name', fleet.name, 'Group of the gateways');
  }

  private keepState(config: GatewayConfig): void {
    if (!config.state_bucket) return keepStateLocally(this);
    keepStateInS3(this, {
      bucket: config.state_bucket,
      key: config.state_key ?? `${baseName(config)}/terraform.tfstate`,
      region: config.state_region ?? config.region,
    });
  }

  private warn({ egress_mtu, min_packet_size, xdp_engine, xdp_mode }: GatewayConfig): void {
    const annotations = Annotations.of(this);
    if (xdp_engine === 'direct')
      annotations.addWarning('xdp_engine = direct is not in this version: gateways run bridge');
    if (xdp_mode === 'driver')
      annotations.addWarning('xdp_mode = driver has no effect in this version: br0 takes generic mode only');
    if (egress_mtu >= min_packet_size) return;
    annotations.addWarning(
      `egress_mtu = ${egress_mtu} is less than min_packet_size = ${min_packet_size}: datagrams of ${egress_mtu + 1} to ` +
        `${min_packet_size} bytes keep DF and cannot leave; lower min_packet_size to ${egress_mtu}`,
    );
  }

  private output(name: string, value: string, description: string): void {
    new TerraformOutput(this, name, { value, description }).overrideLogicalId(name);
  }
}

function tagsOf({ product, component, environment }: GatewayConfig): Record<string, string> {
  const tags = { Product: product, Component: component };
  return environment ? { ...tags, Environment: environment } : tags;
}
