// SPDX-License-Identifier: Apache-2.0
// What a gateway may do in AWS: fetch its bundle, let operators in through Session Manager, which needs neither SSH keys nor
// an open port, and write its metrics and logs to one group.
import { IamInstanceProfile } from '@cdktf/provider-aws/lib/iam-instance-profile';
import { IamRole } from '@cdktf/provider-aws/lib/iam-role';
import { IamRolePolicy } from '@cdktf/provider-aws/lib/iam-role-policy';
import { IamRolePolicyAttachment } from '@cdktf/provider-aws/lib/iam-role-policy-attachment';
import { Construct } from 'constructs';
import { assumedBy, partitionOf, policyOf, type Statement } from '../iam';

export interface GatewayRoleProps {
  /** First part of the role's name; AWS adds a unique end, as roles of all regions share one name space. */
  readonly baseName: string;
  readonly region: string;
  /** The group that gateways write to. */
  readonly logGroupArn: string;
  /** What it takes to fetch the bundle. */
  readonly bundleReading: readonly Statement[];
}

/** A role with AmazonSSMManagedInstanceCore and leave to read the bundle and write to one log group; its instance profile. */
export class GatewayRole extends Construct {
  public readonly instanceProfileName: string;
  public readonly arn: string;

  public constructor(scope: Construct, id: string, props: GatewayRoleProps) {
    super(scope, id);
    const { baseName, region, logGroupArn, bundleReading } = props;
    const role = new IamRole(this, 'role', {
      namePrefix: `${baseName}-`,
      description: 'Mirror gateways: bundle, Session Manager access, metrics and logs',
      assumeRolePolicy: assumedBy('ec2.amazonaws.com'),
    });
    const attachment = new IamRolePolicyAttachment(this, 'session-manager', {
      role: role.name,
      policyArn: `arn:${partitionOf(region)}:iam::aws:policy/AmazonSSMManagedInstanceCore`,
    });
    // Metrics travel as log events (embedded metric format), those of memory and disk included, so this is all that the
    // CloudWatch agent needs: it puts no metric by itself and asks for no tag.
    const writing = new IamRolePolicy(this, 'logs', {
      name: 'write-logs',
      role: role.id,
      policy: policyOf({
        Action: ['logs:CreateLogStream', 'logs:DescribeLogStreams', 'logs:PutLogEvents'],
        Resource: [logGroupArn, `${logGroupArn}:log-stream:*`],
      }),
    });
    const reading = new IamRolePolicy(this, 'bundle', {
      name: 'read-bundle',
      role: role.id,
      policy: policyOf(...bundleReading),
    });
    const profile = new IamInstanceProfile(this, 'profile', {
      namePrefix: `${baseName}-`,
      role: role.name,
      // An instance that boots before its permissions exist registers with Session Manager minutes later.
      dependsOn: [attachment, writing, reading],
    });
    this.instanceProfileName = profile.name;
    this.arn = role.arn;
  }
}
