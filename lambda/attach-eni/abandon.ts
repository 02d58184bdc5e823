// SPDX-License-Identifier: Apache-2.0
// The end of a launch that cannot succeed. ABANDON comes first, cleaning up second: only Auto Scaling knows whether another
// delivery has completed the launch meanwhile, and a gateway in service must not lose its interface to a straggler.
import type { Completion, Interface } from './aws';
import type { Delivery } from './delivery';
import { explained } from '../shared/errors';
import type { Launch } from './events';
import { completion, type Context, interfacesFor, isDead } from './launch';
import { type Progress, retryUntil } from '../shared/clock';

type Verdict = Completion | 'unknown';

/**
 * Brings one interface nearer to its end.
 *
 * @param abandoned whether Auto Scaling terminates the instance by our word, so that it needs no interface any more
 * @returns false when the interface may stay as it is
 */
async function dispose({ aws }: Context, { instance }: Launch, abandoned: boolean, each: Interface): Promise<boolean> {
  const { id, available, attachment } = each;
  if (available) await aws.delete(id);
  else if (attachment && abandoned) await aws.detach(attachment.id);
  // EC2 deletes it with the instance: now, or when its time has come.
  else if (attachment?.deletedWithInstance) return false;
  else if (attachment && (await isDead(aws, instance))) await aws.detach(attachment.id);
  else if (attachment) await aws.deleteWithInstance(id, attachment.id);
  return true;
}

async function reconcileRemains(context: Context, launch: Launch, abandoned: boolean): Promise<Progress<true>> {
  const interfaces = await interfacesFor(context, launch.instance);
  const results = await Promise.allSettled(interfaces.map((each) => dispose(context, launch, abandoned, each)));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  return results.some((result) => result.status === 'fulfilled' && result.value) ? 'changed' : { done: true };
}

async function verdictOf(context: Context, launch: Launch, deadline: number): Promise<Verdict> {
  try {
    const reconcile = async () => ({ done: await completion(context, launch, 'ABANDON') });
    return await retryUntil(context.clock, deadline, 'ABANDON', reconcile);
  } catch (error) {
    context.log.warn('ABANDON failed', { reason: explained(error) });
    return 'unknown';
  }
}

async function cleanUp(context: Context, launch: Launch, abandoned: boolean, deadline: number): Promise<boolean> {
  try {
    const reconcile = () => reconcileRemains(context, launch, abandoned);
    return await retryUntil(context.clock, deadline, 'cleaning up', reconcile);
  } catch (error) {
    context.log.warn('cleaning up failed', { reason: explained(error) });
    return false;
  }
}

/**
 * Completes the launch with ABANDON and removes what was made for it.
 *
 * @throws Error where something is left to do and another delivery will come to do it
 */
export async function abandon(context: Context, launch: Launch, delivery: Delivery): Promise<void> {
  const { clock, log } = context;
  const half = (clock.now() + delivery.ends) / 2;
  const verdict = await verdictOf(context, launch, half);
  const clean = await cleanUp(context, launch, verdict === 'accepted', delivery.ends);
  log.info('launch given up', { verdict, clean });
  if (verdict !== 'unknown' && clean) return;
  const left = [
    ...(verdict === 'unknown' ? ['the lifecycle hook may wait until it times out'] : []),
    ...(clean ? [] : ['a network interface may be left, the sweeper deletes it']),
  ].join(', ');
  if (delivery.willRetry) throw new Error(`${launch.instance} not given up entirely, trying again: ${left}`);
  log.error(`${launch.instance} not given up entirely: ${left}`, { verdict, clean });
}
