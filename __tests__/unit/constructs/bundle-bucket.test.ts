// SPDX-License-Identifier: Apache-2.0
// Where gateways fetch what they are made of: who gets at it, what stays of it, and what waits for it.
import { buildBundle, bundleFiles, unpackBundle } from '../../../constructs/user-data/bundle';
import { BundleBucket } from '../../../constructs/user-data/bundle-bucket';
import { unpackUserData } from '../../../constructs/user-data/user-data';
import { address, type Body, only, parsed, synth, synthOwn } from './synthesized';

const stack = synth();
const bucket = `\${${address(stack, 'aws_s3_bucket')}.id}`;
const name = only(stack, 'aws_s3_bucket').bucket as string;

test('the object is what the user data names, in place and by its hash', () => {
  const object = only(stack, 'aws_s3_object');
  const archive = Buffer.from(object.content_base64 as string, 'base64');
  expect(unpackBundle(archive)).toEqual(bundleFiles());
  const { bundleEnv } = unpackUserData(Buffer.from(only(stack, 'aws_launch_template').user_data as string, 'base64'));
  expect(bundleEnv).toContain(`BUCKET_URL=https://${name}.s3.eu-central-1.amazonaws.com\n`);
  expect(bundleEnv).toContain(`KEY=${String(object.key)}\nSHA256=${buildBundle().sha256}\n`);
});

test('gateways are launched only after it is there, and with leave to read it', () => {
  expect(only(stack, 'aws_launch_template').depends_on).toEqual([address(stack, 'aws_s3_object')]);
  expect(only(stack, 'aws_iam_instance_profile').depends_on).toContain(
    address(stack, 'aws_iam_role_policy', { name: 'read-bundle' }),
  );
});

test('another bundle is another version of the same object: its key would take the old versions along', () => {
  const objectOf = (content: string) => {
    const bundle = buildBundle([{ path: 'userdata/packages.txt', mode: 0o644, content: Buffer.from(content) }]);
    const props = { baseName: 'own', region: 'eu-central-1', vpcId: 'vpc-01234567', bundle };
    return synthOwn((own) => new BundleBucket(own, 'bundle', props)).resource.aws_s3_object;
  };
  const differences = (one: Body = {}, other: Body = {}) => Object.keys(one).filter((key) => one[key] !== other[key]);
  const [one, other] = ['one', 'other'].map((content) => Object.entries(objectOf(content) ?? {})[0]);
  expect(one?.[0]).toBe(other?.[0]);
  expect(differences(one?.[1], other?.[1]).filter((key) => key !== 'depends_on')).toEqual(['content_base64']);
});

test('old versions stay for a rollback, and not for ever', () => {
  expect(only(stack, 'aws_s3_bucket_versioning')).toMatchObject({
    bucket,
    versioning_configuration: { status: 'Enabled' },
  });
  expect(only(stack, 'aws_s3_bucket_lifecycle_configuration').rule).toEqual([
    {
      id: 'old-versions',
      status: 'Enabled',
      filter: [{}],
      noncurrent_version_expiration: [{ noncurrent_days: 90 }],
      abort_incomplete_multipart_upload: [{ days_after_initiation: 1 }],
    },
  ]);
});

test('nobody else gets at it: private, encrypted, owned, and deaf without TLS', () => {
  expect(only(stack, 'aws_s3_bucket_public_access_block')).toMatchObject({
    bucket,
    block_public_acls: true,
    block_public_policy: true,
    ignore_public_acls: true,
    restrict_public_buckets: true,
  });
  expect(only(stack, 'aws_s3_bucket_ownership_controls').rule).toEqual({ object_ownership: 'BucketOwnerEnforced' });
  expect(only(stack, 'aws_s3_bucket_server_side_encryption_configuration').rule).toEqual([
    { apply_server_side_encryption_by_default: { sse_algorithm: 'AES256' } },
  ]);
  expect(parsed(only(stack, 'aws_s3_bucket_policy').policy)).toEqual({
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Deny',
        Principal: '*',
        Action: 's3:*',
        Resource: [`arn:aws:s3:::${name}`, `arn:aws:s3:::${name}/*`],
        Condition: { Bool: { 'aws:SecureTransport': 'false' } },
      },
    ],
  });
});

test('the first version is encrypted and versioned as the later ones are', () => {
  expect(only(stack, 'aws_s3_object').depends_on).toEqual(
    expect.arrayContaining(
      ['aws_s3_bucket_versioning', 'aws_s3_bucket_server_side_encryption_configuration'].map((type) =>
        address(stack, type),
      ),
    ),
  );
});

test('the bucket goes with the stack, old versions and all', () => {
  expect(only(stack, 'aws_s3_bucket').force_destroy).toBe(true);
});

describe('the name of the bucket', () => {
  const nameOf = (settings: Body) => only(synth(settings), 'aws_s3_bucket').bucket as string;

  test('is the same every time, and one that S3 takes', () => {
    expect(nameOf({})).toBe(name);
    expect(name).toMatch(/^mirror-gateway-bundle-[0-9a-f]{12}$/);
    expect(nameOf({ name_prefix: 'a'.repeat(28) }).length).toBeLessThanOrEqual(63);
  });

  test('is another one for another stack, region or VPC', () => {
    const others = [{ environment: 'other' }, { region: 'eu-west-1' }, { vpc_id: 'vpc-0123456789abcdeff' }];
    const names = [name, ...others.map(nameOf)];
    expect(new Set(names.map((each) => each.slice(-12))).size).toBe(names.length);
  });

  test.each([
    ['eu-west-1', 'amazonaws.com', 'aws'],
    ['cn-north-1', 'amazonaws.com.cn', 'aws-cn'],
    ['us-gov-west-1', 'amazonaws.com', 'aws-us-gov'],
    ['eusc-de-east-1', 'amazonaws.eu', 'aws-eusc'],
  ])('in %s is looked up where that region has its names', (region, suffix, partition) => {
    const there = synth({ region });
    const { bundleEnv } = unpackUserData(Buffer.from(only(there, 'aws_launch_template').user_data as string, 'base64'));
    expect(bundleEnv).toContain(`.s3.${region}.${suffix}\n`);
    const policy = only(there, 'aws_iam_role_policy', { name: 'read-bundle' }).policy as string;
    expect(policy).toContain(`"arn:${partition}:s3:::`);
  });
});
