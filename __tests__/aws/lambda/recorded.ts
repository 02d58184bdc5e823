// SPDX-License-Identifier: Apache-2.0
// Which permissions the function needs, found out by watching it: a launch that succeeds, one that fails after the
// attachment, and a sweep make every call that it can make.
import type { Call } from './faults';
import { FakeAws, SWEEP, ZONES } from './fake-aws';

const HOUR_MS = 3_600_000;

/** The permissions that one call needs, as IAM spells them. */
function permissionsOf({ service, action, parameters }: Call): readonly string[] {
  // Tags in a create call need a permission of their own.
  const tags = action === 'CreateNetworkInterface' && parameters.has('TagSpecification.1.Tag.1.Key');
  return [`${service}:${action}`, ...(tags ? ['ec2:CreateTags'] : [])];
}

/** Everything the function's role must allow, for instance `ec2:DescribeInstances`; starts moto for that. */
export async function recordedPermissions(): Promise<ReadonlySet<string>> {
  const aws = await FakeAws.create();
  try {
    await aws.deliver((await aws.launch()).event);
    aws.endpoint.inject((call) =>
      call.parameters.has('Attachment.AttachmentId')
        ? { status: 400, code: 'OperationNotPermitted', message: '' }
        : undefined,
    );
    await aws.deliver((await aws.launch(ZONES[1])).event);
    aws.endpoint.heal();
    await aws.leftover('i-0123456789abcdef0', ZONES[0], 2 * HOUR_MS);
    await aws.deliver(SWEEP);
    return new Set(aws.endpoint.calls.flatMap(permissionsOf));
  } finally {
    await aws.destroy();
  }
}
