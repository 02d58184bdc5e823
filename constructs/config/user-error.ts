// SPDX-License-Identifier: Apache-2.0
// Errors that people can cause and mend. The message says all there is to know, so main.ts prints it without a stack trace.

/** One or more lines, each naming the thing, the value, what is allowed and the remedy. */
export class UserError extends Error {
  public override readonly name: string = 'UserError';
}
