// SPDX-License-Identifier: Apache-2.0
// Tells the topic how rollouts ended, each once as a rule: the template carries a tag with the last one that was told. An
// invocation that dies between telling and tagging has it told twice.
import { metric } from '../shared/metrics';
import { type Progress, retryUntil } from '../shared/clock';
import type { Context } from './context';
import { hasEnded, type Refresh } from './decide';
import { outcomeOf } from './outcome';
import { TAG } from './tags';

/** Ended and not told, the oldest first. Where nothing was ever told, the latest only: older ones are history. */
function untold(refreshes: readonly Refresh[], last: string | undefined): readonly Refresh[] {
  const ended = refreshes.filter(hasEnded);
  const known = ended.findIndex(({ id }) => id === last);
  return ended.slice(0, known < 0 ? 1 : known).reverse();
}

/** Repeats what fails for a while. */
export async function report(context: Context, deadline: number): Promise<void> {
  const published = new Set<string>();
  await retryUntil(context.clock, deadline, 'reporting', () => tellOne(context, published));
}

async function tellOne(context: Context, published: Set<string>): Promise<Progress<true>> {
  const { aws, configuration, log } = context;
  const [{ wanted, tags }, refreshes] = [await aws.template(), await aws.refreshes()];
  const [refresh] = untold(refreshes, tags[TAG.told]);
  if (!refresh) return { done: true };
  if (!published.has(refresh.id)) {
    const { saved = '', size = 0 } = (await aws.group()) ?? {};
    const before = tags[TAG.before];
    const versions = [refresh.version, before, saved].filter((version) => version !== undefined && version !== '');
    const descriptions = await aws.descriptions([...new Set(versions as string[])]);
    const around = { stack: configuration.stack, size, before, saved, wanted, descriptions };
    const { subject, line, metric: name } = outcomeOf(refresh, around);
    await aws.publish(subject, line);
    published.add(refresh.id);
    log.info(line, { refresh: refresh.id, ...metric(context, name, 1) });
  }
  await aws.remember({ [TAG.told]: refresh.id });
  return 'changed';
}
