// SPDX-License-Identifier: Apache-2.0
// One launch: look at the instance and its interfaces, take the one next step towards "attached as it must be", look again.
// Nothing is remembered between deliveries, so it does not matter where an earlier one stopped.
import { createHash } from 'node:crypto';
import type { Aws, Completion, Instance, Interface } from './aws';
import type { Configuration } from './configuration';
import { codeOf, FinalFailure, RETRY_WINDOW_MS, UNKNOWN_INSTANCE } from '../shared/errors';
import type { Launch } from './events';
import type { Log } from '../shared/log';
import type { Progress, Clock } from '../shared/clock';
import { TAG, tagsOf } from './tags';

/** `gone`: the instance died, there is nothing left to attach to. */
export type Outcome = 'ready' | 'gone';

export interface Context {
  readonly aws: Aws;
  readonly configuration: Configuration;
  readonly clock: Clock;
  readonly log: Log;
}

const DEAD = new Set(['shutting-down', 'terminated']);
/** Only then does EC2 attach an interface. */
const ATTACHABLE = new Set(['running', 'stopped']);

/** Whether the instance is dying or unknown to EC2. */
export async function isDead(aws: Aws, id: string): Promise<boolean> {
  try {
    return DEAD.has((await aws.instance(id)).state);
  } catch (error) {
    if (codeOf(error) === UNKNOWN_INSTANCE) return true;
    throw error;
  }
}

/** The interfaces that were made for an instance, whatever became of them; not those that now serve another one. */
export async function interfacesFor({ aws, configuration }: Context, instance: string): Promise<readonly Interface[]> {
  const found = await aws.interfaces({ [TAG.stack]: configuration.stack, [TAG.instance]: instance });
  return found.filter(({ attachment }) => !attachment || attachment.instance === instance);
}

export function completion({ aws, configuration }: Context, { token }: Launch, result: 'CONTINUE' | 'ABANDON') {
  return aws.complete({
    AutoScalingGroupName: configuration.group,
    LifecycleHookName: configuration.hook,
    LifecycleActionToken: token,
    LifecycleActionResult: result,
  });
}

export class Launching {
  /** An instance that takes an interface is read again only after something failed; all calls of a region share a limit. */
  private usable: Instance | undefined;
  /** What this delivery created: listings may lack it for a while. */
  private created: { readonly id: string; readonly at: number } | undefined;
  /** Counts up when the interface that a client token stands for is of no use any more. */
  private generation = 0;

  constructor(
    private readonly context: Context,
    private readonly launch: Launch,
  ) {}

  /** Reads the state once and takes the next step. */
  async reconcile(): Promise<Progress<Outcome>> {
    const instance = this.usable ?? (await this.context.aws.instance(this.launch.instance));
    this.usable = undefined;
    if (DEAD.has(instance.state)) return { done: 'gone' };
    const seen = await this.step(instance);
    if (ATTACHABLE.has(instance.state)) this.usable = instance;
    return seen;
  }

  private async step(instance: Instance): Promise<Progress<Outcome>> {
    const interfaces = await interfacesFor(this.context, this.launch.instance);
    const attached = interfaces.find(({ attachment }) => attachment);
    if (attached) return this.finish(attached, interfaces);
    this.refuseUnknownSecond(instance, interfaces);
    return this.bringIn(instance, interfaces);
  }

  /** Tells Auto Scaling that the gateway is complete. */
  async complete(): Promise<Progress<Completion>> {
    return { done: await completion(this.context, this.launch, 'CONTINUE') };
  }

  private refuseUnknownSecond({ second }: Instance, interfaces: readonly Interface[]): void {
    if (second === undefined || second === this.created?.id || interfaces.some(({ id }) => id === second)) return;
    throw new FinalFailure(
      `device index 1 of ${this.launch.instance} is taken by ${second}, which is not ours; ` +
        'remove the second network interface from the launch template',
    );
  }

  private async bringIn(instance: Instance, interfaces: readonly Interface[]): Promise<Progress<Outcome>> {
    const { aws } = this.context;
    // Deliveries that run side by side choose the same one; should they not, device index 1 takes only one of theirs.
    const chosen = interfaces.find(({ available }) => available);
    if (!chosen) return interfaces.length > 0 ? 'waiting' : this.create(instance);
    if (chosen.checksSourceAndDestination) await aws.disableSourceDestCheck(chosen.id);
    if (!ATTACHABLE.has(instance.state)) return 'waiting';
    await aws.attach(chosen.id, this.launch.instance);
    return 'changed';
  }

  private async finish(attached: Interface, interfaces: readonly Interface[]): Promise<Progress<Outcome>> {
    const { id, attachment, checksSourceAndDestination } = attached;
    const { aws } = this.context;
    if (checksSourceAndDestination) await aws.disableSourceDestCheck(id);
    if (!attachment?.deletedWithInstance) await aws.deleteWithInstance(id, attachment?.id ?? '');
    if (checksSourceAndDestination || !attachment?.deletedWithInstance) return 'changed';
    if (!attachment.attached) return 'waiting';
    const spare = interfaces.filter(({ available }) => available);
    for (const each of spare) await aws.delete(each.id);
    return spare.length > 0 ? 'changed' : { done: 'ready' };
  }

  private async create(instance: Instance): Promise<Progress<Outcome>> {
    const { aws, configuration, clock, log } = this.context;
    if (this.created) {
      if (clock.now() - this.created.at < RETRY_WINDOW_MS) return 'waiting';
      // It was deleted under us. Its token would only bring back its id.
      this.nextGeneration();
    }
    const subnet = await this.subnetFor(instance);
    const tags = tagsOf(configuration, this.launch.instance, this.launch.time);
    try {
      const id = await aws.create(subnet, configuration.securityGroup, tags, this.clientToken());
      this.created = { id, at: clock.now() };
      log.info('interface created', { interface: id, subnet, zone: instance.zone });
    } catch (error) {
      // Created by a delivery before the settings changed, and deleted since, or it would have been found.
      if (codeOf(error) === 'IdempotentParameterMismatch') this.nextGeneration();
      throw error;
    }
    return 'changed';
  }

  private nextGeneration(): void {
    this.generation += 1;
    this.created = undefined;
  }

  /** The same for every delivery of the event, so that EC2 itself makes one interface of two simultaneous requests. */
  private clientToken(): string {
    return createHash('sha256').update(`${this.launch.token}/${this.generation}`).digest('hex');
  }

  private async subnetFor({ zone, subnet }: Instance): Promise<string> {
    const { aws, configuration, log } = this.context;
    const { subnets } = configuration;
    if (subnets.length === 0) return subnet;
    const zones = await aws.zones(subnets);
    const [fitting, ...others] = subnets.filter((id) => zones.get(id) === zone);
    if (others.length > 0)
      log.warn('several subnets in one zone: the first is used', { zone, subnet: fitting, others });
    if (fitting) return fitting;
    const known = subnets.map((id) => `${id} in ${zones.get(id) ?? 'no zone'}`).join(', ');
    throw new FinalFailure(
      `no subnet for ${zone}, where ${this.launch.instance} is, among ${known}; ` +
        'add one of that zone to secondary_subnet_ids, or take its subnet out of private_subnet_ids',
    );
  }
}
