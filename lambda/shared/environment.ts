// SPDX-License-Identifier: Apache-2.0
// Reads a function's settings from the environment variables that the stack writes, checked by hand because a validation
// library would be the larger part of a function's own code.
import type { Logger } from '@aws-lambda-powertools/logger';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What is wrong with a variable, in one line with the remedy. */
export function wrong(name: string, value: string | undefined, allowed: string): Error {
  const found = value === undefined ? 'is not set' : `is ${JSON.stringify(value)}`;
  return new Error(`environment: ${name} ${found}, it must be ${allowed}; deploy the stack again`);
}

/** @throws Error of one line that names the variable, its value and what is allowed */
export function matching(environment: Environment, name: string, pattern: RegExp, allowed: string): string {
  const value = environment[name];
  if (value !== undefined && pattern.test(value)) return value;
  throw wrong(name, value, allowed);
}

/** Reads with the first event rather than while loading: there the runtime would bury the message under its own. */
export function readOnce<Configuration>(
  configurationOf: (environment: Environment) => Configuration,
  logger: Logger,
): () => Configuration {
  let configuration: Configuration | undefined;
  return () => {
    try {
      return (configuration ??= configurationOf(process.env));
    } catch (error) {
      logger.error(error instanceof Error ? error.message : String(error));
      throw error;
    }
  };
}
