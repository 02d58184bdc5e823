// SPDX-License-Identifier: Apache-2.0
// The tags by which earlier work is found again. They are given while an interface is created, so there is none without.
import type { Tag } from '@aws-sdk/client-ec2';
import type { Configuration } from './configuration';

export const TAG = {
  stack: 'mirror-gateway:stack',
  group: 'mirror-gateway:auto-scaling-group',
  instance: 'mirror-gateway:instance',
  /** EC2 does not tell when an interface was created. */
  created: 'mirror-gateway:created',
} as const;

/**
 * @param created when the instance was launched: every delivery of an event must ask for the same interface, or EC2 takes
 * the requests for different ones
 */
export function tagsOf({ stack, group, extraTags }: Configuration, instance: string, created: Date): Tag[] {
  const tags = {
    ...extraTags,
    Name: `${stack}-secondary`,
    [TAG.stack]: stack,
    [TAG.group]: group,
    [TAG.instance]: instance,
    [TAG.created]: created.toISOString(),
  };
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}
