// SPDX-License-Identifier: Apache-2.0
// The values of command lines, checked.

/** Whoever typed it can mend it; the message says how. */
export class UsageError extends Error {}

export function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new UsageError(`--${name} '${text}': give a whole number from ${least} to ${most}`);
}

export function oneOf<T extends string>(name: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((each) => each === text);
  if (found !== undefined) return found;
  throw new UsageError(`--${name} '${text}': give one of ${allowed.join(', ')}`);
}
