// SPDX-License-Identifier: Apache-2.0
// What can go wrong with a call to AWS, and how that looks on the wire.
import type { ServerResponse } from 'node:http';

export type Service = 'ec2' | 'autoscaling';

/** One call that the function made. */
export interface Call {
  readonly service: Service;
  readonly action: string;
  readonly parameters: URLSearchParams;
  /** Which invocation of the function it came from. */
  readonly invocation: string;
}

export const KINDS = ['throttle', 'server error', 'timeout', 'not found', 'crash'] as const;
export type Kind = (typeof KINDS)[number];

/** `before`: AWS never saw the call; `after`: it was carried out, and only the answer is lost. */
export const MOMENTS = ['before', 'after'] as const;
export type Moment = (typeof MOMENTS)[number];

/** An answer that AWS gives instead of doing what it was asked. */
export interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}

export interface Fault {
  readonly kind: Kind;
  readonly moment: Moment;
}

const NOT_FOUND: Readonly<Record<string, string>> = {
  DescribeInstances: 'InvalidInstanceID.NotFound',
  DescribeSubnets: 'InvalidSubnetID.NotFound',
  CreateNetworkInterface: 'InvalidGroup.NotFound',
  DetachNetworkInterface: 'InvalidAttachmentID.NotFound',
};

/** The answer of a fault that has one: a timeout and a crash do not. */
export function refusalOf(kind: Kind, { service, action }: Call): Refusal | undefined {
  const message = `injected into ${action}`;
  if (kind === 'throttle') {
    if (service === 'autoscaling') return { status: 400, code: 'Throttling', message };
    return { status: 503, code: 'RequestLimitExceeded', message };
  }
  if (kind === 'server error') return { status: 500, code: 'InternalError', message };
  if (kind !== 'not found') return undefined;
  if (service === 'autoscaling') return noActiveAction(message);
  return { status: 400, code: NOT_FOUND[action] ?? 'InvalidNetworkInterfaceID.NotFound', message };
}

export function noActiveAction(token: string): Refusal {
  return { status: 400, code: 'ValidationError', message: `No active Lifecycle Action found with token ${token}` };
}

/** Whether the function rightly takes this for a reason to give up: such an answer is never a matter of time. */
export function isFinal(kind: Kind, action: string): boolean {
  return kind === 'not found' && (action === 'DescribeSubnets' || action === 'CreateNetworkInterface');
}

export function refuse(response: ServerResponse, service: Service, { status, code, message }: Refusal): void {
  const error = `<Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error>`;
  const body =
    service === 'ec2'
      ? `<Response><Errors>${error}</Errors><RequestID>injected</RequestID></Response>`
      : `<ErrorResponse>${error}<RequestId>injected</RequestId></ErrorResponse>`;
  response.writeHead(status, { 'content-type': 'text/xml' }).end(`<?xml version="1.0" encoding="UTF-8"?>${body}`);
}
