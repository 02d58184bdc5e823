// SPDX-License-Identifier: Apache-2.0
// IAM documents as data. Every statement of the stack passes through here, so that one test can walk them all.

export interface Statement {
  readonly Sid?: string;
  /** @default - Allow */
  readonly Effect?: 'Allow' | 'Deny';
  readonly Principal?: { readonly Service: string } | { readonly AWS: string } | '*';
  readonly Action: string | readonly string[];
  readonly Resource?: string | readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;
}

/** The JSON of a policy; statements allow unless they say otherwise. */
export function policyOf(...statements: readonly Statement[]): string {
  const Statement = statements.map((statement) => ({ Effect: 'Allow', ...statement }));
  return JSON.stringify({ Version: '2012-10-17', Statement });
}

/**
 * The trust policy of a role that a service takes on.
 *
 * @param account where the service acts for others too: only on behalf of this account (the "confused deputy" problem)
 */
export function assumedBy(service: string, account?: string): string {
  const Condition = account ? { StringEquals: { 'aws:SourceAccount': account } } : undefined;
  return policyOf({ Principal: { Service: service }, Action: 'sts:AssumeRole', ...(Condition && { Condition }) });
}

/** The partition that a region belongs to, the second field of every ARN. */
export function partitionOf(region: string): string {
  const partitions = { 'cn-': 'aws-cn', 'us-gov-': 'aws-us-gov', 'eusc-': 'aws-eusc' };
  return Object.entries(partitions).find(([prefix]) => region.startsWith(prefix))?.[1] ?? 'aws';
}

/** The domain that the names of a region's services end in. */
export function dnsSuffixOf(region: string): string {
  const suffixes: Record<string, string> = { 'aws-cn': 'amazonaws.com.cn', 'aws-eusc': 'amazonaws.eu' };
  return suffixes[partitionOf(region)] ?? 'amazonaws.com';
}

/**
 * ARN of a group whose name is known before the group is. It has a UUID in the middle that AWS makes up, and a reference
 * to it would close a circle: the group waits for the role that this ARN limits.
 */
export function groupArn(region: string, account: string, groupName: string): string {
  const place = `arn:${partitionOf(region)}:autoscaling:${region}:${account}`;
  return `${place}:autoScalingGroup:*:autoScalingGroupName/${groupName}`;
}
