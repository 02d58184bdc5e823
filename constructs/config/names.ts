// SPDX-License-Identifier: Apache-2.0
// What resources are called. Several gateways fit in one account, so every name begins with the stack's own.
import { createHash } from 'node:crypto';

export const DEFAULT_NAME = 'mirror-gateway';

/** An NLB's name is the longest our suffixes make and may have 32 characters. */
export const LONGEST_NAME = 28;

/** First part of every resource name: name_prefix, and environment where there is one. */
export function baseName(config: { readonly name_prefix: string; readonly environment?: string }): string {
  return config.environment ? `${config.name_prefix}-${config.environment}` : config.name_prefix;
}

/** The alarm that people know by its plain name; other stacks than the default one put theirs before it. */
export function rateAlarmName(base: string): string {
  const name = 'xdp-packet-processing-rate';
  return base === DEFAULT_NAME ? name : `${base}-${name}`;
}

/** The log group of the gateways: known by its plain name, with a name behind it for other stacks than the default one. */
export function logGroupName(base: string): string {
  const name = '/aws/ec2/xdp-packet-processor';
  return base === DEFAULT_NAME ? name : `${name}/${base}`;
}

/**
 * The bucket of the bundle. Buckets of all accounts share one name space, and user data can name only what is known at
 * synth: what the stack is called and where it is make it unlike any other.
 */
export function bundleBucketName(stack: { baseName: string; region: string; vpcId: string }): string {
  const whole = [stack.baseName, stack.region, stack.vpcId].join(' ');
  const unique = createHash('sha256').update(whole).digest('hex').slice(0, 12);
  return `${stack.baseName}-bundle-${unique}`;
}
