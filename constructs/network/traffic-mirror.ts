// SPDX-License-Identifier: Apache-2.0
// What is copied: datagrams to one UDP port, from the interfaces named, into the load balancer's VXLAN.
import { DataAwsNetworkInterfaces } from '@cdktf/provider-aws/lib/data-aws-network-interfaces';
import { Ec2TrafficMirrorFilter } from '@cdktf/provider-aws/lib/ec2-traffic-mirror-filter';
import { Ec2TrafficMirrorFilterRule } from '@cdktf/provider-aws/lib/ec2-traffic-mirror-filter-rule';
import { Ec2TrafficMirrorSession } from '@cdktf/provider-aws/lib/ec2-traffic-mirror-session';
import { Ec2TrafficMirrorTarget } from '@cdktf/provider-aws/lib/ec2-traffic-mirror-target';
import { Fn, type ITerraformDependable, Op } from 'cdktf';
import { Construct } from 'constructs';
import { MIRROR_PACKET_LENGTH } from '../config/limits';

const UDP = 17;
const DIRECTIONS = ['egress', 'ingress'] as const;

export interface TrafficMirrorProps {
  readonly baseName: string;
  readonly loadBalancerArn: string;
  /** Networks whose datagrams are copied. @default - every sender's */
  readonly filterCidrs?: readonly string[];
  /** UDP destination port of the datagrams that are copied. */
  readonly targetPort: number;
  /** VXLAN network id of all sessions, which the gateways expect. */
  readonly vni: number;
  /** Interfaces whose traffic is copied. @default - none; sessions made elsewhere name the target */
  readonly sourceInterfaceIds?: readonly string[];
  /** Rank of these sessions among those of one interface, 1 to 32766: it copies a packet to the lowest that wants it. */
  readonly sessionNumber: number;
  /** Groups of the gateways' own interfaces, which must not be copied. */
  readonly gatewayGroupIds: readonly string[];
  /** What must be there before the first copy: the way behind the load balancer. */
  readonly dependsOn?: ITerraformDependable[];
}

/** A target, a filter for one port in both directions, and one session per source. A gateway as a source fails the plan. */
export class TrafficMirror extends Construct {
  public readonly targetId: string;
  public readonly filterId: string;

  public constructor(scope: Construct, id: string, props: TrafficMirrorProps) {
    super(scope, id);
    const { baseName, loadBalancerArn, filterCidrs = [], sourceInterfaceIds = [] } = props;
    const tags = { Name: baseName };
    this.targetId = new Ec2TrafficMirrorTarget(this, 'target', {
      description: 'Mirror gateways',
      networkLoadBalancerArn: loadBalancerArn,
      tags,
    }).id;
    this.filterId = new Ec2TrafficMirrorFilter(this, 'filter', {
      description: `UDP datagrams to port ${props.targetPort}`,
      tags,
    }).id;
    const senders = filterCidrs.length > 0 ? filterCidrs : ['0.0.0.0/0'];
    senders.forEach((cidr, index) => this.accept(cidr, index, props.targetPort));
    if (sourceInterfaceIds.length > 0) this.mirror(sourceInterfaceIds, props);
  }

  // Named by place, as its number is: a list that changes must not make two rules compete for one number.
  private accept(sourceCidrBlock: string, index: number, port: number): void {
    for (const trafficDirection of DIRECTIONS) {
      new Ec2TrafficMirrorFilterRule(this, `${trafficDirection}-${index}`, {
        description: `UDP from ${sourceCidrBlock} to port ${port}, ${trafficDirection}`,
        trafficMirrorFilterId: this.filterId,
        trafficDirection,
        // Directions count their rules apart.
        ruleNumber: 100 + index,
        ruleAction: 'accept',
        protocol: UDP,
        sourceCidrBlock,
        destinationCidrBlock: '0.0.0.0/0',
        destinationPortRange: { fromPort: port, toPort: port },
      });
    }
  }

  private mirror(interfaceIds: readonly string[], props: TrafficMirrorProps): void {
    const gateways = new DataAwsNetworkInterfaces(this, 'gateway-interfaces', {
      filter: [{ name: 'group-id', values: [...props.gatewayGroupIds] }],
    });
    for (const networkInterfaceId of interfaceIds) {
      new Ec2TrafficMirrorSession(this, networkInterfaceId, {
        description: `Datagrams of ${networkInterfaceId} for the mirror gateways`,
        networkInterfaceId,
        sessionNumber: props.sessionNumber,
        trafficMirrorTargetId: this.targetId,
        trafficMirrorFilterId: this.filterId,
        // Without a number AWS draws one for each session, and no gateway would know it.
        virtualNetworkId: props.vni,
        packetLength: MIRROR_PACKET_LENGTH,
        tags: { Name: `${props.baseName}-${networkInterfaceId}` },
        dependsOn: props.dependsOn,
        lifecycle: {
          precondition: [
            {
              condition: Op.not(Fn.contains(gateways.ids, networkInterfaceId)),
              errorMessage:
                `mirror_source_eni_ids: ${networkInterfaceId} is an interface of a gateway of ${props.baseName}, which ` +
                'cannot mirror itself; remove it.',
            },
          ],
        },
      });
    }
  }
}
