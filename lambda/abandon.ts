// SPDX-License-Identifier: Apache-2.0
// The end of a launch that cannot succeed. ABANDON comes first, cleaning up second: only Auto Scaling knows whether another
// delivery has completed the launch meanwhile, and a gateway in service must not lose its interface to a straggler.
import type { Completion, Interface } from './aws';
import type { Delivery } from './delivery';
import { explained } from './errors';
import type { Launch } from './events';
import { completion, type Context, interfacesFor, isDead } from './launch';
import { type Look, persist } from './pace';

type Verdict = Completion | 'unknown';

/** What happens to the instance decides what may happen to its interfaces. */
interface Fate {
  /** Auto Scaling terminates it, by our word. */
  readonly abandoned: boolean;
  readonly dead: boolean;
}

/** Brings one interface nearer to its end; false when it may stay as it is. */
async function dispose({ aws }: Context, { abandoned, dead }: Fate, { id, available, attachment }: Interface) {
  if (available) return aws.delete(id).then(() => true);
  if (!attachment) return true;
  if (abandoned) return aws.detach(attachment.id).then(() => true);
  // EC2 deletes it with the instance: now, or when its time has come.
  if (attachment.deletedWithInstance) return false;
  if (dead) return aws.detach(attachment.id).then(() => true);
  await aws.deleteWithInstance(id, attachment.id);
  return true;
}

async function lookAtRemains(context: Context, { instance }: Launch, abandoned: boolean): Promise<Look<true>> {
  const interfaces = await interfacesFor(context, instance);
  if (interfaces.length === 0) return { done: true };
  const fate = { abandoned, dead: abandoned || (await isDead(context.aws, instance)) };
  const results = await Promise.allSettled(interfaces.map((each) => dispose(context, fate, each)));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  const moving = results.some((result) => result.status === 'fulfilled' && result.value);
  return moving ? 'changed' : { done: true };
}

async function verdictOf(context: Context, launch: Launch, deadline: number): Promise<Verdict> {
  try {
    const look = async () => ({ done: await completion(context, launch, 'ABANDON') });
    return await persist(context.pace, deadline, 'ABANDON', look);
  } catch (error) {
    context.log.warn('ABANDON failed', { reason: explained(error) });
    return 'unknown';
  }
}

async function cleanUp(context: Context, launch: Launch, abandoned: boolean, deadline: number): Promise<boolean> {
  try {
    const look = () => lookAtRemains(context, launch, abandoned);
    return await persist(context.pace, deadline, 'cleaning up', look);
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
  const { pace, log } = context;
  const half = (pace.now() + delivery.ends) / 2;
  const verdict = await verdictOf(context, launch, half);
  const clean = await cleanUp(context, launch, verdict === 'accepted', delivery.ends);
  log.info('launch given up', { verdict, clean });
  if (verdict !== 'unknown' && clean) return;
  const left = [
    ...(verdict === 'unknown' ? ['the lifecycle hook may wait until it times out'] : []),
    ...(clean ? [] : ['a network interface may be left, the sweeper deletes it']),
  ].join(', ');
  if (delivery.another) throw new Error(`${launch.instance} not given up entirely, trying again: ${left}`);
  log.error(`${launch.instance} not given up entirely: ${left}`, { verdict, clean });
}
