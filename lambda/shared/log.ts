// SPDX-License-Identifier: Apache-2.0
// What the code asks of a logger, so that a test can read along.

export type Facts = Record<string, unknown>;

export interface Log {
  info(message: string, facts: Facts): void;
  warn(message: string, facts: Facts): void;
  error(message: string, facts: Facts): void;
}
