// SPDX-License-Identifier: Apache-2.0
// Where alarms go: to a topic that exists, or to a new one for an e-mail address.
import { KmsKey } from '@cdktf/provider-aws/lib/kms-key';
import { SnsTopic } from '@cdktf/provider-aws/lib/sns-topic';
import { SnsTopicSubscription } from '@cdktf/provider-aws/lib/sns-topic-subscription';
import { Construct } from 'constructs';
import { partitionOf, policyOf } from '../iam';

// What an account needs to keep a key of its own; using it to read is not among it.
const KEEPING = [
  'kms:CancelKeyDeletion',
  'kms:DescribeKey',
  'kms:DisableKeyRotation',
  'kms:EnableKeyRotation',
  'kms:GetKeyPolicy',
  'kms:GetKeyRotationStatus',
  'kms:ListResourceTags',
  'kms:PutKeyPolicy',
  'kms:ScheduleKeyDeletion',
  'kms:TagResource',
  'kms:UntagResource',
  'kms:UpdateKeyDescription',
];

export interface AlarmTopicProps {
  readonly baseName: string;
  readonly region: string;
  readonly account: string;
  /** @default - a topic of its own, encrypted */
  readonly topicArn?: string;
  /** Gets every alarm after confirming the subscription that AWS mails. @default - nobody new */
  readonly email?: string;
}

/** A topic, and an address subscribed to it. */
export class AlarmTopic extends Construct {
  public readonly arn: string;
  /** Of the topic that the stack makes. */
  public readonly keyArn?: string;

  public constructor(scope: Construct, id: string, props: AlarmTopicProps) {
    super(scope, id);
    const own = props.topicArn === undefined ? this.ownTopic(props) : undefined;
    this.arn = props.topicArn ?? own?.topic.arn ?? '';
    this.keyArn = own?.key.arn;
    if (props.email) {
      new SnsTopicSubscription(this, 'email', { topicArn: this.arn, protocol: 'email', endpoint: props.email });
    }
  }

  private ownTopic({ baseName, region, account }: AlarmTopicProps) {
    // CloudWatch cannot publish to a topic under the key that AWS manages for SNS.
    const key = new KmsKey(this, 'key', {
      description: `Alarms of ${baseName}`,
      enableKeyRotation: true,
      deletionWindowInDays: 7,
      // In a key's own policy "*" is that key.
      policy: policyOf(
        {
          Sid: 'KeepTheKey',
          Principal: { AWS: `arn:${partitionOf(region)}:iam::${account}:root` },
          Action: KEEPING,
          Resource: '*',
        },
        {
          // Without a condition, as AWS documents it: a key that refuses CloudWatch loses alarms without a word.
          Sid: 'PublishAlarms',
          Principal: { Service: 'cloudwatch.amazonaws.com' },
          Action: ['kms:Decrypt', 'kms:GenerateDataKey'],
          Resource: '*',
        },
        {
          // By the account's own policies, which give this to the rollout function.
          Sid: 'PublishOutcomes',
          Principal: { AWS: `arn:${partitionOf(region)}:iam::${account}:root` },
          Action: ['kms:Decrypt', 'kms:GenerateDataKey'],
          Resource: '*',
          Condition: { StringEquals: { 'kms:ViaService': `sns.${region}.amazonaws.com` } },
        },
      ),
    });
    return { key, topic: new SnsTopic(this, 'topic', { name: `${baseName}-alarms`, kmsMasterKeyId: key.arn }) };
  }
}
