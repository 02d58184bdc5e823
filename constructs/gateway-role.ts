// SPDX-License-Identifier: Apache-2.0
// What a gateway may do in AWS: let operators in through Session Manager, which needs neither SSH keys nor an open port.
import { IamInstanceProfile } from '@cdktf/provider-aws/lib/iam-instance-profile';
import { IamRole } from '@cdktf/provider-aws/lib/iam-role';
import { IamRolePolicyAttachment } from '@cdktf/provider-aws/lib/iam-role-policy-attachment';
import { Construct } from 'constructs';

export interface GatewayRoleProps {
  /** First part of the role's name; AWS adds a unique end, as roles of all regions share one name space. */
  readonly baseName: string;
  readonly region: string;
}

const ASSUMED_BY_EC2 = JSON.stringify({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { Service: 'ec2.amazonaws.com' } }],
});

function partitionOf(region: string): string {
  const partitions = { 'cn-': 'aws-cn', 'us-gov-': 'aws-us-gov', 'eusc-': 'aws-eusc' };
  return Object.entries(partitions).find(([prefix]) => region.startsWith(prefix))?.[1] ?? 'aws';
}

/** A role with AmazonSSMManagedInstanceCore and nothing else, and its instance profile. */
export class GatewayRole extends Construct {
  public readonly instanceProfileName: string;
  public readonly roleName: string;

  public constructor(scope: Construct, id: string, { baseName, region }: GatewayRoleProps) {
    super(scope, id);
    const role = new IamRole(this, 'role', {
      namePrefix: `${baseName}-`,
      description: 'Mirror gateways: Session Manager access',
      assumeRolePolicy: ASSUMED_BY_EC2,
    });
    const attachment = new IamRolePolicyAttachment(this, 'session-manager', {
      role: role.name,
      policyArn: `arn:${partitionOf(region)}:iam::aws:policy/AmazonSSMManagedInstanceCore`,
    });
    const profile = new IamInstanceProfile(this, 'profile', {
      namePrefix: `${baseName}-`,
      role: role.name,
      // An instance that boots before its permissions exist registers with Session Manager minutes later.
      dependsOn: [attachment],
    });
    this.roleName = role.name;
    this.instanceProfileName = profile.name;
  }
}
