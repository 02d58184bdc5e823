// SPDX-License-Identifier: Apache-2.0
// Tags of the launch template, which are what the function remembers. The provider is told to leave them alone.

export const TAG_PREFIX = 'mirror-gateway:rollout-';

export const TAG = {
  /** The last rollout whose end was told. */
  told: `${TAG_PREFIX}told`,
  /** What the group was saved with before the last rollout: AWS's list does not say. */
  before: `${TAG_PREFIX}before`,
} as const;
