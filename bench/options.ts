// SPDX-License-Identifier: Apache-2.0
// What a command line says, held to what is allowed. Errors name the option, what it was given and what to give.

export class UsageError extends Error {}

const given = (name: string, text?: string): string =>
  text === undefined ? `--${name} is missing` : `--${name} '${text}'`;

export function whole(name: string, text: string | undefined, least: number, most: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text ?? '') && value >= least && value <= most) return value;
  throw new UsageError(`${given(name, text)}: give a whole number from ${least} to ${most}`);
}

export function decimal(name: string, text: string | undefined, least: number, most: number): number {
  const value = Number(text);
  if (/^\d*\.?\d+$/.test(text ?? '') && value >= least && value <= most) return value;
  throw new UsageError(`${given(name, text)}: give a number from ${least} to ${most}`);
}

export function oneOf<T extends string>(name: string, text: string | undefined, allowed: readonly T[]): T {
  const found = allowed.find((each) => each === text);
  if (found !== undefined) return found;
  throw new UsageError(`${given(name, text)}: give one of ${allowed.join(', ')}`);
}
