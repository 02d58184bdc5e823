// SPDX-License-Identifier: Apache-2.0
// How a gateway is launched. A change of the engine touches nothing else, but the group then rolls to its new version.
import { LaunchTemplate } from '@cdktf/provider-aws/lib/launch-template';
import { Annotations, type ITerraformDependable, Token } from 'cdktf';
import { Construct } from 'constructs';
import { GatewayImage } from './image';
import { instanceTypeProblem, isRecommended } from '../config/instance-types';
import { UserError } from '../config/user-error';
import { type BundleLocation, buildUserData, describeUserData, type InstanceConfig } from '../user-data/user-data';

export interface GatewayLaunchTemplateProps {
  /** First part of the template's name. */
  readonly baseName: string;
  /** What the gateway does; travels in the user data. */
  readonly config: InstanceConfig;
  /** What the gateway is made of, and what must be there before it can be fetched. */
  readonly bundle: { readonly location: BundleLocation; readonly object: ITerraformDependable };
  readonly instanceType: string;
  readonly instanceProfileName: string;
  readonly securityGroupIds: readonly string[];
  /** Tags of instances and volumes. */
  readonly tags: Readonly<Record<string, string>>;
  /** @default - the current Debian 13 image, with a warning that production should pin it */
  readonly amiId?: string;
}

/**
 * IMDSv2 only and not reachable through a hop, an encrypted gp3 root volume, user data that holds the settings and fetches the bundle.
 * Types without ENA throw; types the project was not sized for carry a warning.
 */
export class GatewayLaunchTemplate extends Construct {
  public readonly resource: LaunchTemplate;
  public readonly templateId: string;
  public readonly arn: string;
  /** A number that changes with the content; no rollback takes $Latest or $Default. */
  public readonly latestVersion: string;

  public constructor(scope: Construct, id: string, props: GatewayLaunchTemplateProps) {
    super(scope, id);
    const { baseName, config, bundle, instanceType, amiId } = props;
    this.refuseUnusable(instanceType);
    const image = new GatewayImage(this, 'image', { instanceType, amiId });
    const template = new LaunchTemplate(this, 'template', {
      name: `${baseName}-xdp`,
      description: describeUserData(config, bundle.location),
      imageId: image.amiId,
      instanceType,
      // EC2 wants base64 here, and the provider does not encode.
      userData: buildUserData(config, bundle.location).toString('base64'),
      updateDefaultVersion: true,
      // Once a minute; a scaling policy on processors would otherwise see them every five
      // (https://docs.aws.amazon.com/autoscaling/ec2/userguide/enable-as-instance-metrics.html).
      monitoring: { enabled: true },
      iamInstanceProfile: { name: props.instanceProfileName },
      vpcSecurityGroupIds: [...props.securityGroupIds],
      // A hop limit of 1 keeps tokens from whatever the gateway forwards. By its tags an instance learns which group it is
      // in, for its metrics.
      metadataOptions: {
        httpEndpoint: 'enabled',
        httpTokens: 'required',
        httpPutResponseHopLimit: 1,
        instanceMetadataTags: 'enabled',
      },
      blockDeviceMappings: [
        {
          deviceName: image.rootDeviceName,
          ebs: { encrypted: 'true', volumeType: 'gp3', deleteOnTermination: 'true' },
        },
      ],
      // Default tags of the provider reach neither instances nor volumes.
      tagSpecifications: ['instance', 'volume'].map((resourceType) => ({ resourceType, tags: { ...props.tags } })),
      dependsOn: [bundle.object],
    });
    this.resource = template;
    this.templateId = template.id;
    this.arn = template.arn;
    this.latestVersion = Token.asString(template.latestVersion);
  }

  private refuseUnusable(instanceType: string): void {
    const problem = instanceTypeProblem(instanceType);
    if (problem)
      throw new UserError(`ec2_instance_type = "${instanceType}": ${problem}; take one with ENA, such as c5n.large`);
    if (isRecommended(instanceType)) return;
    Annotations.of(this).addWarning(
      `ec2_instance_type = "${instanceType}" is neither c5n nor m5n, the types the gateway was sized for: ` +
        'measure its packet rate before relying on it',
    );
  }
}
