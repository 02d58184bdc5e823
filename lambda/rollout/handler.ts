// SPDX-License-Identifier: Apache-2.0
// From an event to its end: report what has ended, then take steps until the wanted version runs, is being rolled out, or
// is not ours to try again.
import { explained } from '../shared/errors';
import { metric } from '../shared/metrics';
import { type Progress, retryUntil } from '../shared/clock';
import type { Context } from './context';
import { activeOf, decide, type Seen } from './decide';
import { type Start, taskOf } from './events';
import { EXIT_MS, REPORTING_SHARE, SETTLING_MS } from './timeouts';
import { report } from './report';
import { TAG } from './tags';

/** What is used of Lambda's context. */
export interface Invocation {
  getRemainingTimeInMillis(): number;
}

/** What Terraform, or a person, reads. */
export interface Answer {
  readonly rollout: string;
}

async function observe({ aws, configuration, log, clock }: Context): Promise<Seen> {
  const { wanted } = await aws.template();
  const [group, refreshes] = [await aws.group(), await aws.refreshes()];
  const active = activeOf(refreshes);
  const sender = { configuration, clock };
  log.info('looked', {
    wanted,
    saved: group?.saved,
    active,
    ...metric(sender, 'RolloutPercent', active?.percent ?? 0),
  });
  return { group, wanted, refreshes };
}

/** One rollout, step by step. */
class Rollout {
  private asked: boolean;
  private readonly since: number;

  constructor(
    private readonly context: Context,
    private readonly start: Start | undefined,
  ) {
    this.asked = start !== undefined;
    this.since = context.clock.now();
  }

  async reconcile(): Promise<Progress<string>> {
    const seen = await observe(this.context);
    const { wanted } = seen;
    if (this.lagsBehind(wanted)) return 'waiting';
    const step = decide(seen, this.asked);
    if (step.next === 'nothing') return { done: step.why };
    // Nobody waits for an event's end: the end of the cancelled one is another event.
    if (step.next === 'wait') return this.start ? 'waiting' : { done: step.why };
    if (step.next === 'cancel') return this.cancel(step.refresh.version, wanted);
    return this.begin(seen);
  }

  private lagsBehind(wanted: string): boolean {
    const { version = 0 } = this.start ?? {};
    return Number(wanted) < version && this.context.clock.now() - this.since < SETTLING_MS;
  }

  private async cancel(version: string | undefined, wanted: string): Promise<Progress<string>> {
    const done = await this.context.aws.cancel();
    this.context.log.info('rollout cancelled in favour of another', { version, wanted, done });
    return 'changed';
  }

  private async begin({ group, wanted }: Seen): Promise<Progress<string>> {
    const { aws, configuration, log } = this.context;
    const alarms = await aws.quietAlarms();
    const from = group?.saved ?? '';
    await aws.remember({ [TAG.before]: from });
    if ((await aws.start(wanted, alarms)) === 'raced') return 'changed';
    // What ends at once is not tried again by this invocation.
    this.asked = false;
    const unwatched = configuration.alarms.filter((name) => !alarms.includes(name));
    log.info('rollout started', { from, to: wanted, alarms, unwatched });
    const without = unwatched.length > 0 ? `, without ${unwatched.join(', ')}, which fired already or had no data` : '';
    return { done: `version ${wanted} is being rolled out instead of version ${from}${without}` };
  }
}

async function stop(context: Context): Promise<Progress<string>> {
  const { refreshes } = await observe(context);
  const active = activeOf(refreshes);
  if (!active) return { done: 'nothing is being rolled out' };
  if (active.status === 'Cancelling') return 'waiting';
  await context.aws.cancel();
  return 'changed';
}

/** Goes on where reporting fails: a rollout must not wait for a topic. */
async function tried(context: Context, deadline: number): Promise<Error | undefined> {
  try {
    await report(context, deadline);
    return undefined;
  } catch (error) {
    const line = `outcome of a rollout not reported: ${explained(error)}`;
    context.log.error(line, {});
    return new Error(line);
  }
}

/** @throws Error where Lambda should deliver the event again, or Terraform should fail */
export async function handle(context: Context, event: unknown, invocation: Invocation): Promise<Answer> {
  const { clock, log, configuration } = context;
  const task = taskOf(event, configuration);
  if ('refused' in task) {
    log.warn(`event refused: ${task.refused}`, {});
    return { rollout: `refused: ${task.refused}` };
  }
  if ('failedLaunch' in task) {
    log.error(`a launch failed: ${task.failedLaunch}`, metric(context, 'LaunchesFailed', 1));
    return { rollout: 'noted' };
  }
  const remainingMs = invocation.getRemainingTimeInMillis() - EXIT_MS;
  const deadline = clock.now() + remainingMs;
  if ('stop' in task) return { rollout: await retryUntil(clock, deadline, 'cancelling', () => stop(context)) };
  const unreported = await tried(context, clock.now() + remainingMs * REPORTING_SHARE);
  const start = 'start' in task ? task.start : undefined;
  const rollout = new Rollout(context, start);
  const line = await retryUntil(clock, deadline, 'the rollout', () => rollout.reconcile());
  log.info(line, {});
  if (unreported && !start) throw unreported;
  return { rollout: line };
}
