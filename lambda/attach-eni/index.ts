// SPDX-License-Identifier: Apache-2.0
// The ENI function: every gateway that the Auto Scaling group launches gets its secondary interface, and none leaks.
//
// WHY A FUNCTION. A launch template can carry a second interface, but only in the subnet of the first one, and it cannot
// switch off the source/destination check, without which EC2 drops what a gateway forwards: the datagrams keep the addresses
// of the mirrored hosts. So somebody has to call EC2 while the instance waits.
//
// LIFECYCLE. The group's launch hook holds a new instance in Pending:Wait and emits an event; EventBridge invokes this
// function asynchronously. It
//   1. reads the instance: its availability zone, its state, what is at device index 1;
//   2. finds interfaces of earlier deliveries by their tags (stack, instance);
//   3. creates one if there is none, in the configured subnet of the instance's zone, or in the instance's own subnet;
//   4. switches its source/destination check off, on the interface: with two of them EC2 refuses it on the instance;
//   5. attaches it at device index 1, once the instance is running (or stopped): EC2 refuses earlier;
//   6. has EC2 delete it with the instance, which only the attachment can be told, not the creation or the attach call;
//   7. reads all of it back, deletes spare interfaces, and completes the lifecycle action with CONTINUE.
// launch.ts does so as a loop of "look, take the one next step, look again". Every step follows from what is seen, so a
// delivery can die anywhere and the next one goes on from there.
//
// IDEMPOTENCY. EventBridge and Lambda deliver at least once, side by side too. Three things make that harmless:
//   - Tags are given in the create call: there is never an interface that cannot be found again.
//   - The client token of that call derives from the lifecycle action: EC2 answers two deliveries with one interface.
//   - Device index 1 of an instance holds one interface. Where two exist all the same, the one that is attached wins, and
//     only then are the others deleted, by whoever sees them.
// Completing twice is no error: "No active Lifecycle Action found" means that the launch is decided, and not by us.
//
// FAILURES (errors.ts tells them apart; clock.ts repeats).
//   - Throttling, 5xx, timeouts, and answers that say somebody was faster: look again with growing pauses, until work must
//     end, 30 s before the invocation does and 45 s before the hook does.
//   - Unknown instance, missing permission: both may be seconds old and not yet known everywhere. 20 s, then they are true.
//     An instance that is dying or stays unknown is no error: the launch is given up without complaint.
//   - Everything else is final: no subnet in the zone, no free address, a quota, an interface that is not ours at index 1.
// Out of time, but not final: what exists is kept and the function throws, so that Lambda delivers the event again. An event
// does not say which delivery is the last one. Its age does: Lambda waits one minute, then two, and drops events older than
// five (delivery.ts). When no other delivery is sure to come, the failure is final.
// Final: one line says why and what to do; the action is completed with ABANDON; what was made is detached and deleted. In
// this order (abandon.ts): a straggler must not take the interface from a gateway that another delivery has put into service,
// and whether that happened is known only to Auto Scaling. If its answer is that nobody waits any more, interfaces that are
// attached stay, set to be deleted with the instance.
//
// WHAT REMAINS. A function that is killed in its last delivery can leave an interface: attached, then it goes with the
// instance or becomes available when that is terminated; or available. The hook then times out with its default result,
// ABANDON. A scheduled event makes this function sweep (sweep.ts): interfaces with our tags, available, older than an hour.
//
// GOTCHAS.
//   - ABANDON makes the group try again, for ever. A final failure that hits every launch is a launch loop, and Lambda counts
//     no error for it: the metric LaunchesAbandoned does, and an alarm of the stack watches it.
//   - Listings lag behind: an interface just created may be missing (wait for it), one just deleted still listed (then the
//     second deletion fails with NotFound, which is fine). Pages may be empty although another one follows.
//   - The stack must deploy the rule, its target, the permission and the role before the group: the first launch's event
//     would find no listener, and the hook would wait in vain.
//   - EC2 does not tell when an interface was created. A tag does, with the time of the launch: a time of its own would make
//     every delivery's create call a different one to EC2.
import { AutoScalingClient } from '@aws-sdk/client-auto-scaling';
import { EC2Client } from '@aws-sdk/client-ec2';
import { Logger } from '@aws-lambda-powertools/logger';
import type { Context as LambdaContext } from 'aws-lambda';
import { Aws } from './aws';
import { configurationOf } from './configuration';
import { handle } from './handler';
import { SYSTEM_CLOCK } from '../shared/clock';
import { readOnce } from '../shared/environment';

const logger = new Logger({ serviceName: 'eni-function' });

// All repetition is in clock.ts.
const client = { maxAttempts: 1 };
const aws = new Aws(new EC2Client(client), new AutoScalingClient(client), SYSTEM_CLOCK);

const configured = readOnce(configurationOf, logger);

export async function handler(event: unknown, invocation: LambdaContext): Promise<void> {
  const configuration = configured();
  logger.addContext(invocation);
  const log = logger.createChild({ persistentKeys: { instance: instanceIn(event) } });
  await handle({ aws, configuration, clock: SYSTEM_CLOCK, log }, event, invocation);
}

/** For the log only, so that all lines of a launch are found by its instance. */
function instanceIn(event: unknown): string | undefined {
  const { detail } = (event ?? {}) as { detail?: { EC2InstanceId?: unknown } | null };
  return typeof detail?.EC2InstanceId === 'string' ? detail.EC2InstanceId : undefined;
}
