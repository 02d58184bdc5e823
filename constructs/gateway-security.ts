// SPDX-License-Identifier: Apache-2.0
// Who may talk to whom: mirror sources to the load balancer, the load balancer to the gateways, the gateways to Debian's
// mirrors and the AWS APIs. Nothing else passes, and nothing is open to the internet.
import { DataAwsVpc } from '@cdktf/provider-aws/lib/data-aws-vpc';
import { SecurityGroup } from '@cdktf/provider-aws/lib/security-group';
import { VpcSecurityGroupEgressRule } from '@cdktf/provider-aws/lib/vpc-security-group-egress-rule';
import { VpcSecurityGroupIngressRule } from '@cdktf/provider-aws/lib/vpc-security-group-ingress-rule';
import { Construct } from 'constructs';

/** UDP port of VXLAN, and so of VPC traffic mirroring. */
export const VXLAN_PORT = 4789;

export interface GatewaySecurityProps {
  readonly vpcId: string;
  /** First part of both groups' names. */
  readonly baseName: string;
  readonly healthPort: number;
  /** @default - the primary CIDR block of the VPC */
  readonly mirrorSourceCidrs?: readonly string[];
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

/** A group for the load balancer, which can never gain one later, and a group for the gateways. */
export class GatewaySecurity extends Construct {
  public readonly loadBalancerGroupId: string;
  public readonly gatewayGroupId: string;

  public constructor(scope: Construct, id: string, props: GatewaySecurityProps) {
    super(scope, id);
    this.loadBalancerGroupId = this.group('load-balancer', props, 'Mirrored traffic on its way to the gateways');
    this.gatewayGroupId = this.group('gateway', props, 'Primary interfaces of the mirror gateways');
    this.admitMirrorSources(props);
    this.connectLoadBalancer('vxlan', port('udp', VXLAN_PORT), 'Mirrored traffic');
    this.connectLoadBalancer('health', port('tcp', props.healthPort), 'Health checks');
    this.letOut('http', 80, "Debian's package mirrors");
    this.letOut('https', 443, 'AWS APIs and package mirrors');
  }

  private group(id: string, { vpcId, baseName }: GatewaySecurityProps, description: string): string {
    const name = `${baseName}-${id}`;
    return new SecurityGroup(this, id, { name, description, vpcId, tags: { Name: name } }).id;
  }

  private admitMirrorSources({ mirrorSourceCidrs = [], vpcId }: GatewaySecurityProps): void {
    const admit = (id: string, cidrIpv4: string) =>
      new VpcSecurityGroupIngressRule(this, id, {
        securityGroupId: this.loadBalancerGroupId,
        description: 'Mirrored traffic (VXLAN) from mirror sources',
        cidrIpv4,
        ...port('udp', VXLAN_PORT),
      });
    if (mirrorSourceCidrs.length === 0) admit('from-vpc', new DataAwsVpc(this, 'vpc', { id: vpcId }).cidrBlock);
    mirrorSourceCidrs.forEach((cidr) => admit(`from-${cidr.replace('/', '-')}`, cidr));
  }

  // The NLB keeps the mirror source's address, yet naming its group admits what came through it, and only that.
  private connectLoadBalancer(id: string, through: Port, description: string): void {
    new VpcSecurityGroupEgressRule(this, `${id}-to-gateway`, {
      securityGroupId: this.loadBalancerGroupId,
      description,
      referencedSecurityGroupId: this.gatewayGroupId,
      ...through,
    });
    new VpcSecurityGroupIngressRule(this, `${id}-from-load-balancer`, {
      securityGroupId: this.gatewayGroupId,
      description,
      referencedSecurityGroupId: this.loadBalancerGroupId,
      ...through,
    });
  }

  private letOut(id: string, number: number, description: string): void {
    new VpcSecurityGroupEgressRule(this, `${id}-out`, {
      securityGroupId: this.gatewayGroupId,
      description,
      cidrIpv4: '0.0.0.0/0',
      ...port('tcp', number),
    });
  }
}
