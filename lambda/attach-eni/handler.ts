// SPDX-License-Identifier: Apache-2.0
// From an event to its end: refuse, sweep, or launch and, where that cannot succeed, abandon. What comes from outside, AWS,
// the clock and the log, is handed in.
import { abandon } from './abandon';
import { Delivery } from './delivery';
import { codeOf, explained, OutOfTime, UNKNOWN_INSTANCE } from '../shared/errors';
import { type Launch, taskOf } from './events';
import { type Context, Launching, type Outcome } from './launch';
import { metric } from '../shared/metrics';
import { retryUntil } from '../shared/clock';
import { sweep } from './sweep';

/** What is used of Lambda's context. */
export interface Invocation {
  getRemainingTimeInMillis(): number;
}

async function outcomeOf(launching: Launching, { clock }: Context, { workEnds }: Delivery): Promise<Outcome> {
  try {
    return await retryUntil(clock, workEnds, 'the attachment', () => launching.reconcile());
  } catch (error) {
    // Long enough for a new instance to become known: it lived and is forgotten.
    if (codeOf(error) === UNKNOWN_INSTANCE) return 'gone';
    throw error;
  }
}

/** @throws what hindered the launch */
async function bringUp(context: Context, launch: Launch, delivery: Delivery): Promise<Outcome> {
  const launching = new Launching(context, launch);
  const outcome = await outcomeOf(launching, context, delivery);
  if (outcome === 'gone') return outcome;
  const completed = await retryUntil(context.clock, delivery.workEnds, 'CONTINUE', () => launching.complete());
  context.log.info(completed === 'accepted' ? 'launch completed' : 'launch had been completed before', {});
  return outcome;
}

async function launchOrAbandon(context: Context, launch: Launch, delivery: Delivery): Promise<void> {
  const { log } = context;
  try {
    if ((await bringUp(context, launch, delivery)) === 'ready') return;
    log.info('the instance is gone', {});
  } catch (error) {
    const reason = explained(error);
    if (error instanceof OutOfTime && delivery.willRetry) {
      log.warn(`${launch.instance}: ${reason}; it will be tried again`, { reason });
      throw error;
    }
    const counted = metric(context, 'LaunchesAbandoned', 1);
    log.error(`launch of ${launch.instance} abandoned: ${reason}`, {
      reason,
      final: !(error instanceof OutOfTime),
      ...counted,
    });
  }
  await abandon(context, launch, delivery);
}

/** @throws Error where Lambda should deliver the event again */
export async function handle(context: Context, event: unknown, invocation: Invocation): Promise<void> {
  const task = taskOf(event, context.configuration);
  if ('refused' in task) return context.log.warn(`event refused: ${task.refused}`, {});
  const remainingMs = invocation.getRemainingTimeInMillis();
  if ('sweep' in task) return sweep(context, remainingMs);
  const { launch } = task;
  const delivery = new Delivery(context.clock, launch.time, context.configuration.heartbeatSeconds, remainingMs);
  await launchOrAbandon(context, launch, delivery);
}
