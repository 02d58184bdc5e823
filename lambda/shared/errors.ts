// SPDX-License-Identifier: Apache-2.0
// Which failures pass by themselves, which pass soon or never, and what an operator can do about those that stay.

/** How long something that AWS has confirmed may stay unknown to AWS. */
export const RETRY_WINDOW_MS = 20_000;

/** A failure that no repetition mends. The message is the one line an operator reads. */
export class FinalFailure extends Error {
  public override readonly name = 'FinalFailure';
}

/** The time was over before the work was done. It may well succeed in the next delivery. */
export class OutOfTime extends Error {
  public override readonly name = 'OutOfTime';
}

interface Answer {
  readonly name: string;
  readonly message: string;
  readonly status: number | undefined;
}

function answerOf(error: unknown): Answer {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), status: undefined };
  const { $metadata: metadata } = error as { $metadata?: { httpStatusCode?: number } };
  return { name: error.name, message: error.message, status: metadata?.httpStatusCode };
}

const THROTTLED =
  /^(?:Throttl|RequestLimitExceeded|RequestThrottled|TooManyRequests|EC2ThrottledException|ResourceContention|ScalingActivityInProgress)/;

/** Another delivery or AWS itself was faster than what we last saw: look again. */
const RACED =
  /^(?:InvalidNetworkInterfaceID\.NotFound|InvalidAttachmentID\.NotFound|InvalidNetworkInterface\.InUse|Incorrect(?:Instance)?State|IdempotentParameterMismatch)$/;
const RACED_MESSAGE = /\bin use\b|already has an interface attached/i;

/** Not there yet, or never: what was just created spreads through AWS within seconds, permissions included. */
const SETTLING = /^(?:InvalidInstanceID\.NotFound|UnauthorizedOperation|AccessDenied)/;

export const UNKNOWN_INSTANCE = 'InvalidInstanceID.NotFound';

/** The code by which AWS names a failure, for instance `InvalidInstanceID.NotFound`. */
export function codeOf(error: unknown): string {
  // Auto Scaling's shapes have a suffix that its error codes lack (its service model: shape ActiveInstanceRefreshNotFoundFault).
  return answerOf(error).name.replace(/Fault$/, '');
}

function passes(error: unknown): boolean {
  const { name, message, status } = answerOf(error);
  // No status: there was no answer. Then nothing is known, and time or the network is to blame.
  if (status === undefined || status >= 500 || status === 429) return true;
  return THROTTLED.test(name) || RACED.test(name) || (name === 'InvalidParameterValue' && RACED_MESSAGE.test(message));
}

/** Returns for how many milliseconds it is worth repeating what failed like this. */
export function retryWindow(error: unknown): number {
  if (error instanceof FinalFailure) return 0;
  if (SETTLING.test(codeOf(error))) return RETRY_WINDOW_MS;
  return passes(error) ? Infinity : 0;
}

const REMEDIES: readonly (readonly [code: RegExp, remedy: string])[] = [
  [/^InsufficientFreeAddressesInSubnet$/, 'the subnet has no free address: free some or configure another subnet'],
  [/^NetworkInterfaceLimitExceeded$/, "the account's quota of network interfaces is used up: raise it or delete some"],
  [/^AttachmentLimitExceeded$/, 'the instance type takes no second network interface: choose a larger one'],
  [/^(?:UnauthorizedOperation|AccessDenied)/, "the function's role lacks a permission: deploy the stack again"],
  [/^InvalidSubnetID/, 'a configured subnet does not exist: correct secondary_subnet_ids'],
  [/^(?:InvalidGroup|InvalidSecurityGroupID)/, 'the security group does not exist: deploy the stack again'],
];

/** A failure in one line, with what can be done about it where that is known. */
export function explained(error: unknown): string {
  const { name, message } = answerOf(error);
  const line = message.replace(/\s+/g, ' ').trim();
  if (error instanceof FinalFailure || error instanceof OutOfTime) return line;
  const remedy = REMEDIES.find(([code]) => code.test(name))?.[1];
  return [`${name}: ${line}`, ...(remedy ? [remedy] : [])].join('; ');
}
