// SPDX-License-Identifier: Apache-2.0
// The image gateways boot from: pinned by id, or the current Debian 13 of the instance type's architecture.
import { DataAwsAmi } from '@cdktf/provider-aws/lib/data-aws-ami';
import { DataAwsSsmParameter } from '@cdktf/provider-aws/lib/data-aws-ssm-parameter';
import { Annotations } from 'cdktf';
import { Construct } from 'constructs';
import { architectureOf } from '../config/instance-types';

export interface GatewayImageProps {
  readonly instanceType: string;
  /** @default - the current Debian 13 image, with a warning that production should pin it */
  readonly amiId?: string;
}

/** By default Debian 13, looked up at every plan. The image must be of the instance type's architecture, or the plan fails. */
export class GatewayImage extends Construct {
  public readonly amiId: string;
  /** The image's own name for its root device, which differs between Debian and Ubuntu. */
  public readonly rootDeviceName: string;

  public constructor(scope: Construct, id: string, { instanceType, amiId }: GatewayImageProps) {
    super(scope, id);
    this.amiId = amiId ?? this.currentDebian(instanceType);
    const expected = architectureOf(instanceType) === 'arm64' ? 'arm64' : 'x86_64';
    const ami = new DataAwsAmi(this, 'ami', {
      filter: [{ name: 'image-id', values: [this.amiId] }],
      // A pinned image keeps working after its publisher has marked it as old.
      includeDeprecated: true,
      lifecycle: {
        postcondition: [
          {
            condition: `\${self.architecture == "${expected}"}`,
            errorMessage: `base_ami must be an ${expected} image, because ec2_instance_type = "${instanceType}" is ${expected}.`,
          },
        ],
      },
    });
    this.rootDeviceName = ami.rootDeviceName;
  }

  private currentDebian(instanceType: string): string {
    const name = `/aws/service/debian/release/13/latest/${architectureOf(instanceType)}`;
    Annotations.of(this).addWarning(
      `base_ami is not set: the image is whatever ${name} names at the time of each plan, and a republished image ` +
        'replaces the fleet; pin base_ami in production',
    );
    // Debian's parameter is public: nothing to hide, and a hidden value would hide the image's id in every diff.
    return new DataAwsSsmParameter(this, 'debian', { name }).insecureValue;
  }
}
