// SPDX-License-Identifier: Apache-2.0
// Who may talk to whom: mirror sources to the load balancer, the load balancer to the gateways, the gateways to package
// mirrors and the AWS APIs, their second interfaces to the IPsec VM. Nothing else passes, and nothing is open to everybody
// unless management_cidrs says so.
import { DataAwsPrefixList } from '@cdktf/provider-aws/lib/data-aws-prefix-list';
import { DataAwsVpc } from '@cdktf/provider-aws/lib/data-aws-vpc';
import { SecurityGroup } from '@cdktf/provider-aws/lib/security-group';
import {
  VpcSecurityGroupEgressRule,
  type VpcSecurityGroupEgressRuleConfig,
} from '@cdktf/provider-aws/lib/vpc-security-group-egress-rule';
import {
  VpcSecurityGroupIngressRule,
  type VpcSecurityGroupIngressRuleConfig,
} from '@cdktf/provider-aws/lib/vpc-security-group-ingress-rule';
import type { ITerraformDependable } from 'cdktf';
import { Construct } from 'constructs';
import { VXLAN_PORT } from '../config/limits';

const HTTP = 80;
const HTTPS = 443;

export interface GatewaySecurityProps {
  readonly vpcId: string;
  /** First part of both groups' names. */
  readonly baseName: string;
  readonly region: string;
  readonly healthPort: number;
  /** Where the second interface may send to, and nowhere else. */
  readonly ipsecVm: { readonly ip: string; readonly port: number };
  /** Who may send VXLAN. @default - the primary CIDR block of the VPC */
  readonly mirrorSourceCidrs?: readonly string[];
  /** Where gateways find package mirrors and AWS APIs, beside the VPC and S3. @default - nowhere */
  readonly managementCidrs?: readonly string[];
}

interface Port {
  readonly ipProtocol: 'udp' | 'tcp';
  readonly fromPort: number;
  readonly toPort: number;
}

const port = (ipProtocol: Port['ipProtocol'], number: number): Port => ({
  ipProtocol,
  fromPort: number,
  toPort: number,
});

/** A group for the load balancer, which can never gain one later, one for the gateways, one for their second interfaces. */
export class GatewaySecurity extends Construct {
  public readonly loadBalancerGroupId: string;
  public readonly gatewayGroupId: string;
  public readonly secondaryGroupId: string;
  /** What a gateway needs from its first second on, to install packages and to be found healthy. */
  public readonly rules: ITerraformDependable[] = [];

  public constructor(scope: Construct, id: string, props: GatewaySecurityProps) {
    super(scope, id);
    const vpcCidr = new DataAwsVpc(this, 'vpc', { id: props.vpcId }).cidrBlock;
    this.loadBalancerGroupId = this.group('load-balancer', props, 'Mirrored traffic on its way to the gateways');
    this.gatewayGroupId = this.group('gateway', props, 'Primary interfaces of the mirror gateways');
    this.secondaryGroupId = this.group('secondary', props, 'Second interfaces of the mirror gateways');
    this.admitMirrorSources(props.mirrorSourceCidrs ?? [], vpcCidr);
    this.connectLoadBalancer('vxlan', port('udp', VXLAN_PORT), 'Mirrored traffic');
    this.connectLoadBalancer('health', port('tcp', props.healthPort), 'Health checks');
    this.letGatewaysManage(props, vpcCidr);
    this.egress('redirected', {
      securityGroupId: this.secondaryGroupId,
      description: 'Redirected datagrams to the IPsec VM',
      cidrIpv4: `${props.ipsecVm.ip}/32`,
      ...port('udp', props.ipsecVm.port),
    });
  }

  private group(id: string, { vpcId, baseName }: GatewaySecurityProps, description: string): string {
    const name = `${baseName}-${id}`;
    return new SecurityGroup(this, id, { name, description, vpcId, tags: { Name: name } }).id;
  }

  private ingress(id: string, rule: VpcSecurityGroupIngressRuleConfig): void {
    this.rules.push(new VpcSecurityGroupIngressRule(this, id, rule));
  }

  private egress(id: string, rule: VpcSecurityGroupEgressRuleConfig): void {
    this.rules.push(new VpcSecurityGroupEgressRule(this, id, rule));
  }

  private admitMirrorSources(cidrs: readonly string[], vpcCidr: string): void {
    const admit = (id: string, cidrIpv4: string) =>
      this.ingress(id, {
        securityGroupId: this.loadBalancerGroupId,
        description: 'Mirrored traffic (VXLAN) from mirror sources',
        cidrIpv4,
        ...port('udp', VXLAN_PORT),
      });
    if (cidrs.length === 0) admit('from-vpc', vpcCidr);
    cidrs.forEach((cidr) => admit(`from-${cidr.replace('/', '-')}`, cidr));
  }

  // The NLB keeps the mirror source's address, yet naming its group admits what came through it, and only that.
  private connectLoadBalancer(id: string, through: Port, description: string): void {
    this.egress(`${id}-to-gateway`, {
      securityGroupId: this.loadBalancerGroupId,
      description,
      referencedSecurityGroupId: this.gatewayGroupId,
      ...through,
    });
    this.ingress(`${id}-from-load-balancer`, {
      securityGroupId: this.gatewayGroupId,
      description,
      referencedSecurityGroupId: this.loadBalancerGroupId,
      ...through,
    });
  }

  // The VPC's resolver, its clock and IMDS need no rule.
  private letGatewaysManage({ region, managementCidrs = [] }: GatewaySecurityProps, vpcCidr: string): void {
    const out = (id: string, number: number, to: { cidrIpv4: string } | { prefixListId: string }) =>
      this.egress(id, {
        securityGroupId: this.gatewayGroupId,
        description: number === HTTP ? 'Package mirrors' : 'AWS APIs and package mirrors',
        ...to,
        ...port('tcp', number),
      });
    // A gateway endpoint of S3 keeps S3's public addresses; the agents' packages come from there.
    const s3 = new DataAwsPrefixList(this, 's3', { name: `com.amazonaws.${region}.s3` });
    out('https-to-s3', HTTPS, { prefixListId: s3.id });
    for (const number of [HTTP, HTTPS]) {
      out(`${number}-to-vpc`, number, { cidrIpv4: vpcCidr });
      managementCidrs.forEach((cidr) => out(`${number}-to-${cidr.replace('/', '-')}`, number, { cidrIpv4: cidr }));
    }
  }
}
