// SPDX-License-Identifier: Apache-2.0
// Where gateways fetch what the user data is too small for: one object in a private bucket of its own.
//
// The object keeps its key when the bundle changes, and the bucket is versioned: a change adds a version, and the old one
// stays for gateways that a rollback launches from an older template. A key for each bundle would not do: with the
// resource of an object the provider deletes all versions of its key.
import { S3Bucket } from '@cdktf/provider-aws/lib/s3-bucket';
import { S3BucketLifecycleConfiguration } from '@cdktf/provider-aws/lib/s3-bucket-lifecycle-configuration';
import { S3BucketOwnershipControls } from '@cdktf/provider-aws/lib/s3-bucket-ownership-controls';
import { S3BucketPolicy } from '@cdktf/provider-aws/lib/s3-bucket-policy';
import { S3BucketPublicAccessBlock } from '@cdktf/provider-aws/lib/s3-bucket-public-access-block';
import { S3BucketServerSideEncryptionConfigurationA } from '@cdktf/provider-aws/lib/s3-bucket-server-side-encryption-configuration';
import { S3BucketVersioningA } from '@cdktf/provider-aws/lib/s3-bucket-versioning';
import { S3Object } from '@cdktf/provider-aws/lib/s3-object';
import type { ITerraformDependable } from 'cdktf';
import { Construct } from 'constructs';
import { buildBundle, type Bundle } from './bundle';
import { skipChecks } from '../checkov';
import { partitionOf, policyOf, type Statement } from '../iam';
import { bundleBucketName } from '../config/names';
import { bundleLocation, type BundleLocation } from './user-data';

/** How long a gateway can still be launched with an older bundle. */
const OLD_VERSIONS_DAYS = 90;

export interface BundleBucketProps {
  /** First part of the bucket's name. */
  readonly baseName: string;
  readonly region: string;
  readonly vpcId: string;
  /** @default - what is in the repository */
  readonly bundle?: Bundle;
}

/** A private, versioned, encrypted bucket that answers to TLS only and goes with the stack; the bundle in it. */
export class BundleBucket extends Construct {
  public readonly location: BundleLocation;
  /** What a gateway must be allowed to find and read its bundle, of any version. */
  public readonly reading: readonly Statement[];
  /** What must be there before a gateway starts. */
  public readonly object: ITerraformDependable;

  public constructor(scope: Construct, id: string, props: BundleBucketProps) {
    super(scope, id);
    const { region, bundle = buildBundle() } = props;
    const name = bundleBucketName(props);
    const arn = `arn:${partitionOf(region)}:s3:::${name}`;
    this.location = bundleLocation(props, bundle.sha256);
    const { key } = this.location;
    this.reading = [
      { Action: 's3:GetObjectVersion', Resource: `${arn}/${key}` },
      { Action: 's3:ListBucketVersions', Resource: arn },
    ];
    const bucket = this.bucket(name);
    const settings = this.settingsOf(bucket.id, arn);
    this.object = new S3Object(this, 'object', {
      bucket: bucket.id,
      key,
      contentBase64: bundle.archive.toString('base64'),
      contentType: 'application/gzip',
      // Encrypted and versioned from the first version on.
      dependsOn: settings,
    });
  }

  private bucket(name: string): S3Bucket {
    const bucket = new S3Bucket(this, 'bucket', { bucket: name, forceDestroy: true });
    return skipChecks(bucket, {
      CKV_AWS_18:
        'it holds source code without a secret, which gateways read once; CloudTrail can record who else does',
      CKV_AWS_144: 'what is in it is made from the repository by every deployment, and read in one region only',
      CKV_AWS_145: 'S3 encrypts it with keys of its own, and there is no secret in it that a key of ours would protect',
      CKV2_AWS_62: 'it changes only when the stack is deployed, and nobody waits for that',
    });
  }

  private settingsOf(bucket: string, arn: string): ITerraformDependable[] {
    const access = new S3BucketPublicAccessBlock(this, 'access', {
      bucket,
      blockPublicAcls: true,
      blockPublicPolicy: true,
      ignorePublicAcls: true,
      restrictPublicBuckets: true,
    });
    const ownership = new S3BucketOwnershipControls(this, 'ownership', {
      bucket,
      rule: { objectOwnership: 'BucketOwnerEnforced' },
    });
    const versioning = new S3BucketVersioningA(this, 'versioning', {
      bucket,
      versioningConfiguration: { status: 'Enabled' },
    });
    const encryption = new S3BucketServerSideEncryptionConfigurationA(this, 'encryption', {
      bucket,
      rule: [{ applyServerSideEncryptionByDefault: { sseAlgorithm: 'AES256' } }],
    });
    new S3BucketLifecycleConfiguration(this, 'lifecycle', {
      bucket,
      rule: [
        {
          id: 'old-versions',
          status: 'Enabled',
          filter: [{}],
          noncurrentVersionExpiration: [{ noncurrentDays: OLD_VERSIONS_DAYS }],
          abortIncompleteMultipartUpload: [{ daysAfterInitiation: 1 }],
        },
      ],
      dependsOn: [versioning],
    });
    const policy = new S3BucketPolicy(this, 'tls', {
      bucket,
      policy: policyOf({
        Effect: 'Deny',
        Principal: '*',
        Action: 's3:*',
        Resource: [arn, `${arn}/*`],
        Condition: { Bool: { 'aws:SecureTransport': 'false' } },
      }),
      // S3 refuses two changes of one bucket's access at a time.
      dependsOn: [access, ownership],
    });
    return [versioning, encryption, policy];
  }
}
