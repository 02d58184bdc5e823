// SPDX-License-Identifier: Apache-2.0
// Every call to AWS that the function can make, one method each; the role allows exactly these. Answers are cut down to what
// is used, so that the rest of the code has no optional fields to doubt.
import {
  type AutoScalingClient,
  CompleteLifecycleActionCommand,
  type CompleteLifecycleActionCommandInput,
} from '@aws-sdk/client-auto-scaling';
import {
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  DeleteNetworkInterfaceCommand,
  DescribeInstancesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSubnetsCommand,
  DetachNetworkInterfaceCommand,
  type EC2Client,
  type Filter,
  ModifyNetworkInterfaceAttributeCommand,
  type NetworkInterface,
  type Tag,
} from '@aws-sdk/client-ec2';
import { codeOf, UNKNOWN_INSTANCE } from '../shared/errors';
import type { Clock } from '../shared/clock';

export interface Instance {
  /** `pending`, `running`, `shutting-down` and so on. */
  readonly state: string;
  readonly zone: string;
  readonly subnet: string;
  /** The interface at device index 1, whoever attached it. */
  readonly second: string | undefined;
}

export interface Attachment {
  readonly id: string;
  readonly instance: string;
  readonly attached: boolean;
  readonly deletedWithInstance: boolean;
}

export interface Interface {
  readonly id: string;
  readonly available: boolean;
  readonly checksSourceAndDestination: boolean;
  readonly attachment: Attachment | undefined;
  readonly tags: Readonly<Record<string, string>>;
}

/** `inactive`: nobody waits for this lifecycle action any more. */
export type Completion = 'accepted' | 'inactive';

const NO_ACTION = /no active lifecycle action/i;

/** The device index of the secondary interface. */
export const SECOND = 1;

function interfaceOf({ NetworkInterfaceId, Status, SourceDestCheck, Attachment, TagSet }: NetworkInterface): Interface {
  const attachment = Attachment?.AttachmentId && {
    id: Attachment.AttachmentId,
    instance: Attachment.InstanceId ?? '',
    attached: Attachment.Status === 'attached',
    deletedWithInstance: Attachment.DeleteOnTermination === true,
  };
  return {
    id: NetworkInterfaceId ?? '',
    available: Status === 'available' && !attachment,
    checksSourceAndDestination: SourceDestCheck !== false,
    attachment: attachment || undefined,
    tags: Object.fromEntries((TagSet ?? []).map(({ Key, Value }) => [Key ?? '', Value ?? ''])),
  };
}

export class Aws {
  constructor(
    private readonly ec2: EC2Client,
    private readonly autoScaling: AutoScalingClient,
    private readonly clock: Clock,
  ) {}

  /** @throws an error with the code UNKNOWN_INSTANCE where EC2 does not know it yet, or has forgotten it */
  async instance(id: string): Promise<Instance> {
    const answer = await this.ec2.send(new DescribeInstancesCommand({ InstanceIds: [id] }), this.limit());
    const found = answer.Reservations?.[0]?.Instances?.[0];
    if (!found) throw Object.assign(new Error(`the answer lacks ${id}`), { name: UNKNOWN_INSTANCE });
    const second = found.NetworkInterfaces?.find(({ Attachment }) => Attachment?.DeviceIndex === SECOND);
    return {
      state: found.State?.Name ?? '',
      zone: found.Placement?.AvailabilityZone ?? '',
      subnet: found.SubnetId ?? '',
      second: second?.NetworkInterfaceId,
    };
  }

  /** The availability zone of each subnet. */
  async zones(subnets: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const answer = await this.ec2.send(new DescribeSubnetsCommand({ SubnetIds: [...subnets] }), this.limit());
    return new Map(
      (answer.Subnets ?? []).map(({ SubnetId, AvailabilityZone }) => [SubnetId ?? '', AvailabilityZone ?? '']),
    );
  }

  /** All interfaces that carry these tags, and have this status if one is given; in the order of their ids. */
  async interfaces(tags: Readonly<Record<string, string>>, status?: string): Promise<readonly Interface[]> {
    const filters: Filter[] = Object.entries(tags).map(([key, value]) => ({ Name: `tag:${key}`, Values: [value] }));
    if (status) filters.push({ Name: 'status', Values: [status] });
    const found: NetworkInterface[] = [];
    let next: string | undefined;
    // A page may be empty although another one follows.
    do {
      const command = new DescribeNetworkInterfacesCommand({ Filters: filters, NextToken: next });
      const answer = await this.ec2.send(command, this.limit());
      found.push(...(answer.NetworkInterfaces ?? []));
      next = answer.NextToken;
    } while (next);
    return found.map(interfaceOf).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** @param token the same one asks for the same interface, however often it is sent */
  async create(subnet: string, securityGroup: string, tags: Tag[], token: string): Promise<string> {
    const command = new CreateNetworkInterfaceCommand({
      ClientToken: token,
      SubnetId: subnet,
      Groups: [securityGroup],
      Description: 'Secondary interface of a mirror gateway',
      TagSpecifications: [{ ResourceType: 'network-interface', Tags: tags }],
    });
    const answer = await this.ec2.send(command, this.limit());
    return answer.NetworkInterface?.NetworkInterfaceId ?? '';
  }

  async attach(id: string, instance: string): Promise<void> {
    const input = { NetworkInterfaceId: id, InstanceId: instance, DeviceIndex: SECOND };
    await this.ec2.send(new AttachNetworkInterfaceCommand(input), this.limit());
  }

  async disableSourceDestCheck(id: string): Promise<void> {
    const input = { NetworkInterfaceId: id, SourceDestCheck: { Value: false } };
    await this.ec2.send(new ModifyNetworkInterfaceAttributeCommand(input), this.limit());
  }

  async deleteWithInstance(id: string, attachment: string): Promise<void> {
    const input = { NetworkInterfaceId: id, Attachment: { AttachmentId: attachment, DeleteOnTermination: true } };
    await this.ec2.send(new ModifyNetworkInterfaceAttributeCommand(input), this.limit());
  }

  async detach(attachment: string): Promise<void> {
    await this.ec2.send(new DetachNetworkInterfaceCommand({ AttachmentId: attachment }), this.limit());
  }

  /** False: it is gone already. */
  async delete(id: string): Promise<boolean> {
    try {
      await this.ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: id }), this.limit());
      return true;
    } catch (error) {
      if (codeOf(error) === 'InvalidNetworkInterfaceID.NotFound') return false;
      throw error;
    }
  }

  async complete(input: CompleteLifecycleActionCommandInput): Promise<Completion> {
    try {
      await this.autoScaling.send(new CompleteLifecycleActionCommand(input), this.limit());
      return 'accepted';
    } catch (error) {
      const inactive = codeOf(error) === 'ValidationError' && NO_ACTION.test(String(error));
      if (inactive) return 'inactive';
      throw error;
    }
  }

  private limit(): { abortSignal: AbortSignal } {
    return { abortSignal: AbortSignal.timeout(this.clock.callMs) };
  }
}
