// SPDX-License-Identifier: Apache-2.0
// Deletes interfaces that a launch left behind: ours by their tags, attached to nothing, and older than any launch takes.
import type { Interface } from './aws';
import { codeOf, explained } from '../shared/errors';
import type { Context } from './launch';
import { EXIT_MS, ORPHAN_AGE_MS } from './timeouts';
import { metric } from '../shared/metrics';
import { retryUntil } from '../shared/clock';
import { TAG } from './tags';

/** `lost` may be tried again, `kept` may not: it is not ours to delete any more. */
type Fate = 'deleted' | 'kept' | 'lost';

function isOrphan({ available, tags }: Interface, now: number): boolean {
  const created = Date.parse(tags[TAG.created] ?? '');
  return available && TAG.instance in tags && now - created > ORPHAN_AGE_MS;
}

async function remove({ aws, clock, log }: Context, { id }: Interface, deadline: number): Promise<Fate> {
  let answerLost = false;
  const reconcile = async () => {
    try {
      // Gone already, after a call of ours whose answer got lost: that call did it.
      const deleted = (await aws.delete(id)) || answerLost;
      return { done: deleted ? ('deleted' as const) : ('kept' as const) };
    } catch (error) {
      // Somebody attached it since we looked.
      if (/InUse|InvalidParameterValue/.test(codeOf(error))) return { done: 'kept' as const };
      answerLost = true;
      throw error;
    }
  };
  try {
    return await retryUntil(clock, deadline, `deleting ${id}`, reconcile);
  } catch (error) {
    log.error(`orphan ${id} not deleted: ${explained(error)}`, { interface: id });
    return 'lost';
  }
}

/** @throws Error where an orphan could not be deleted; the others are */
export async function sweep(context: Context, remainingMs: number): Promise<void> {
  const { aws, configuration, clock, log } = context;
  const deadline = clock.now() + remainingMs - EXIT_MS;
  const ours = { [TAG.stack]: configuration.stack, [TAG.group]: configuration.group };
  const reconcile = async () => ({ done: await aws.interfaces(ours, 'available') });
  const found = await retryUntil(clock, deadline, 'listing interfaces', reconcile);
  const orphans = found.filter((each) => isOrphan(each, clock.now()));
  const deleted: string[] = [];
  let lost = 0;
  for (const orphan of orphans) {
    const fate = await remove(context, orphan, deadline);
    if (fate === 'deleted') deleted.push(orphan.id);
    if (fate === 'lost') lost += 1;
  }
  // Written without orphans too, so that the metric has data.
  log.info('swept', { ...metric(context, 'OrphanedEnisDeleted', deleted.length), interfaces: deleted });
  if (lost > 0) throw new Error(`sweeper: ${lost} of ${orphans.length} orphans not deleted, see the lines above`);
}
