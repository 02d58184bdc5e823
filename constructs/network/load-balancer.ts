// SPDX-License-Identifier: Apache-2.0
// Where mirror sessions send to: an internal NLB that spreads VXLAN flows over the healthy gateways.
import { Lb } from '@cdktf/provider-aws/lib/lb';
import { LbListener } from '@cdktf/provider-aws/lib/lb-listener';
import { LbTargetGroup } from '@cdktf/provider-aws/lib/lb-target-group';
import type { ITerraformDependable } from 'cdktf';
import { Construct } from 'constructs';
import { skipChecks } from '../checkov';
import { VXLAN_PORT } from '../config/limits';

export interface GatewayLoadBalancerProps {
  readonly vpcId: string;
  readonly subnetIds: readonly string[];
  readonly securityGroupId: string;
  /** First part of the names; at most 28 characters, as the result may have 32. */
  readonly baseName: string;
  readonly healthPort: number;
  /** Whether AWS refuses to delete it. @default true; a destroy then needs a deployment with false first */
  readonly deletionProtection?: boolean;
}

/** UDP 4789 in, the same port of an instance out, health asked by HTTP; zones help each other. */
export class GatewayLoadBalancer extends Construct {
  public readonly loadBalancerArn: string;
  public readonly dnsName: string;
  public readonly targetGroupArn: string;
  /** The values of CloudWatch's dimensions LoadBalancer and TargetGroup. */
  public readonly metricDimensions: { readonly LoadBalancer: string; readonly TargetGroup: string };
  /** What forwards; without it, whatever is sent to the load balancer is lost. */
  public readonly listener: ITerraformDependable;

  public constructor(scope: Construct, id: string, props: GatewayLoadBalancerProps) {
    super(scope, id);
    const { vpcId, subnetIds, securityGroupId, baseName, healthPort, deletionProtection = true } = props;
    const balancer = new Lb(this, 'balancer', {
      name: `${baseName}-nlb`,
      loadBalancerType: 'network',
      internal: true,
      subnets: [...subnetIds],
      securityGroups: [securityGroupId],
      // A fleet may be smaller than the number of zones: without this, sources of a zone without a gateway lose all.
      enableCrossZoneLoadBalancing: true,
      enableDeletionProtection: deletionProtection,
    });
    skipChecks(balancer, {
      CKV_AWS_91: 'an NLB writes access logs for TLS listeners only, and this one has a UDP listener',
    });
    const targets = new LbTargetGroup(this, 'targets', {
      name: `${baseName}-tg`,
      targetType: 'instance',
      protocol: 'UDP',
      port: VXLAN_PORT,
      vpcId,
      // A flow stays on its gateway as long as it sends: a gateway that leaves must hand its flows over.
      connectionTermination: true,
      deregistrationDelay: '120',
      // UDP itself cannot be checked, and nothing answers TCP on the traffic port.
      healthCheck: {
        protocol: 'HTTP',
        path: '/healthz',
        port: String(healthPort),
        matcher: '200',
        interval: 10,
        timeout: 5,
        healthyThreshold: 2,
        unhealthyThreshold: 3,
      },
    });
    this.listener = new LbListener(this, 'vxlan', {
      loadBalancerArn: balancer.arn,
      protocol: 'UDP',
      port: VXLAN_PORT,
      defaultAction: [{ type: 'forward', targetGroupArn: targets.arn }],
    });
    this.loadBalancerArn = balancer.arn;
    this.dnsName = balancer.dnsName;
    this.targetGroupArn = targets.arn;
    this.metricDimensions = { LoadBalancer: balancer.arnSuffix, TargetGroup: targets.arnSuffix };
  }
}
