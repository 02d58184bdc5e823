// SPDX-License-Identifier: Apache-2.0
// One Auto Scaling group and its instance refreshes, as AWS documents them; moto has none. Time passes by the minute, when a
// test says so. Sources, all under https://docs.aws.amazon.com/autoscaling/ec2/userguide/:
//   - a desired configuration is saved when the refresh has succeeded; launches meanwhile bring it; errors are retried for an
//     hour; changing the template is refused while a refresh with a desired configuration is active (instance-refresh-overview)
//   - a rollback brings "the configuration that you last saved on the Auto Scaling group before starting"; a start that names
//     an alarm in ALARM or INSUFFICIENT_DATA is an error; an alarm without data halts replacing (instance-refresh-rollback)
//   - events and their names (instance-refresh-eventbridge-events)
// What AWS does not say and is assumed: a group is not deleted while a refresh is active, which is a scaling activity
// (DeleteAutoScalingGroup: ScalingActivityInProgress); a suspended ReplaceUnhealthy does not keep a refresh from replacing.

export type AlarmState = 'OK' | 'ALARM' | 'INSUFFICIENT_DATA';

/** An answer that AWS gives instead of doing what it was asked. */
export class Refused extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status = 400,
  ) {
    super(message);
  }
}

export interface Instance {
  readonly id: string;
  readonly version: string;
  /** Minutes in service. */
  age: number;
}

export interface Refresh {
  readonly id: string;
  status: string;
  /** Undefined: no desired configuration. */
  readonly version: string | undefined;
  readonly rollsBackTo: string;
  readonly autoRollback: boolean;
  readonly skipMatching: boolean;
  readonly alarms: readonly string[];
  readonly started: number;
  ended?: number;
  reason: string;
  percent: number;
  percentOnRollback?: number;
  rollbackReason?: string;
  /** Instances that it need not replace any more. */
  readonly done: Set<string>;
  successor?: Instance;
  /** Minutes without progress. */
  stuck: number;
}

export interface GroupEvent {
  readonly type: string;
  readonly detail: Readonly<Record<string, string>>;
}

/** What a start asks for. */
export interface StartRequest {
  readonly version?: string;
  readonly autoRollback: boolean;
  readonly skipMatching: boolean;
  readonly alarms: readonly string[];
}

const ACTIVE = new Set(['Pending', 'InProgress', 'Cancelling', 'RollbackInProgress']);
const RETRIED_MINUTES = 60;
const WARM_UP_MINUTES = 10;

export class AutoScalingGroup {
  readonly refreshes: Refresh[] = [];
  readonly alarms = new Map<string, AlarmState>();
  /** Not fetched yet. */
  readonly events: GroupEvent[] = [];
  instances: Instance[] = [];
  /** Minutes since the beginning. */
  minute = 0;
  deleted = false;
  /** Whether gateways of a version become healthy. */
  becomesHealthy: (version: string) => boolean = () => true;
  /** Why EC2 refuses a launch. */
  refusesLaunch: () => string | undefined = () => undefined;
  private counter = 0;

  constructor(
    readonly name: string,
    readonly templateId: string,
    public saved: string,
    public desired: number,
    public max: number,
  ) {
    this.instances = Array.from({ length: desired }, () => this.launch(saved));
  }

  get active(): Refresh | undefined {
    return this.refreshes.find(({ status }) => ACTIVE.has(status));
  }

  /** Versions of the gateways that run, sorted. */
  get running(): readonly string[] {
    return this.instances.map(({ version }) => version).sort();
  }

  start({ version, autoRollback, skipMatching, alarms }: StartRequest): Refresh {
    if (this.active) throw new Refused('InstanceRefreshInProgress', 'An Instance Refresh is already in progress.');
    if (autoRollback && version === undefined) {
      throw new Refused('ValidationError', 'AutoRollback cannot be true when DesiredConfiguration is empty.');
    }
    const unfit = alarms.find((name) => this.alarms.get(name) !== 'OK');
    if (unfit) {
      const state = this.alarms.get(unfit) ?? 'missing';
      throw new Refused('ValidationError', `CloudWatch alarm ${unfit} is in state ${state}; it must be OK.`);
    }
    const refresh: Refresh = {
      ...{ id: this.id('refresh'), status: 'Pending', version, rollsBackTo: this.saved, autoRollback, skipMatching },
      ...{ alarms, started: this.minute, reason: '', percent: 0, done: new Set<string>(), stuck: 0 },
    };
    this.refreshes.unshift(refresh);
    return refresh;
  }

  cancel(): Refresh {
    const { active } = this;
    if (!active || active.status === 'Cancelling') {
      throw new Refused('ActiveInstanceRefreshNotFound', 'No in progress or pending Instance Refresh found.');
    }
    active.status = 'Cancelling';
    active.reason = 'Cancelled due to user request.';
    return active;
  }

  rollBack(why = 'Rollback was requested.'): Refresh {
    const { active } = this;
    if (!active || active.status === 'Cancelling' || active.status === 'RollbackInProgress') {
      throw new Refused('ActiveInstanceRefreshNotFound', 'No in progress or pending Instance Refresh found.');
    }
    if (active.version === undefined) {
      throw new Refused('IrreversibleInstanceRefresh', 'The refresh has no desired configuration.');
    }
    active.status = 'RollbackInProgress';
    active.percentOnRollback = active.percent;
    active.rollbackReason = why;
    this.drop(active);
    active.done.clear();
    active.stuck = 0;
    this.tell('Rollback Started', active);
    return active;
  }

  /** UpdateAutoScalingGroup with another version. */
  save(version: string): void {
    if (this.active?.version !== undefined) {
      throw new Refused(
        'ValidationError',
        'An active instance refresh with a desired configuration exists. All configuration options derived from the desired ' +
          'configuration are not available for update while the instance refresh is active.',
      );
    }
    this.saved = version;
  }

  resize(desired: number, max: number): void {
    this.desired = desired;
    this.max = max;
    this.instances.splice(desired);
  }

  delete(): void {
    if (this.active || this.instances.length > 0) {
      throw new Refused('ScalingActivityInProgress', `Group ${this.name} has scaling activities in progress.`);
    }
    this.deleted = true;
  }

  pass(minutes: number): void {
    for (let left = minutes; left > 0; left -= 1) {
      this.minute += 1;
      this.instances.forEach((each) => (each.age += 1));
      const { active } = this;
      if (active) this.advance(active);
    }
  }

  private advance(refresh: Refresh): void {
    switch (refresh.status) {
      case 'Pending':
        refresh.status = 'InProgress';
        return this.tell('Started', refresh);
      case 'Cancelling':
        this.drop(refresh);
        return this.end(refresh, 'Cancelled', 'Cancelled');
      case 'RollbackInProgress':
        return this.replace(refresh, refresh.rollsBackTo);
      default:
        return this.watchAndReplace(refresh);
    }
  }

  private watchAndReplace(refresh: Refresh): void {
    const states = refresh.alarms.map((name) => this.alarms.get(name));
    const fired = refresh.alarms.find((name) => this.alarms.get(name) === 'ALARM');
    if (fired) return this.fail(refresh, `CloudWatch alarm ${fired} went into the ALARM state.`);
    // Nothing is replaced until there are data again.
    if (!states.includes('INSUFFICIENT_DATA')) this.replace(refresh, refresh.version ?? this.saved);
  }

  /** Launches one successor, waits until it has warmed up, stops its predecessor. */
  private replace(refresh: Refresh, version: string): void {
    const matches = refresh.skipMatching || refresh.status === 'RollbackInProgress';
    const due = this.instances.filter(
      ({ id, version: its }) => !refresh.done.has(id) && id !== refresh.successor?.id && !(matches && its === version),
    );
    if (due.length === 0) return this.finish(refresh);
    if (!refresh.successor) return this.launchSuccessor(refresh, version);
    const { successor } = refresh;
    if (successor.age < WARM_UP_MINUTES) return this.wait(refresh);
    this.instances = this.instances.filter(({ id }) => id !== successor.id);
    refresh.successor = undefined;
    if (!this.becomesHealthy(version)) return this.wait(refresh);
    // Only now its predecessor goes.
    const [predecessor] = due;
    this.instances = [...this.instances.filter((each) => each !== predecessor), successor];
    refresh.done.add(successor.id);
    refresh.stuck = 0;
    const left = due.length - 1;
    const done = Math.round((100 * (this.instances.length - left)) / this.instances.length);
    refresh.percent = refresh.status === 'RollbackInProgress' ? 100 - done : done;
  }

  private launchSuccessor(refresh: Refresh, version: string): void {
    const refused = this.refusesLaunch();
    if (refused) {
      this.tellOfGroup('EC2 Instance Launch Unsuccessful', { StatusMessage: refused });
      return this.wait(refresh);
    }
    refresh.successor = this.launch(version);
    this.instances.push(refresh.successor);
  }

  private wait(refresh: Refresh): void {
    refresh.stuck += 1;
    if (refresh.stuck > RETRIED_MINUTES) this.fail(refresh, 'Instances did not become healthy within one hour.');
  }

  private fail(refresh: Refresh, why: string): void {
    if (refresh.status === 'RollbackInProgress') {
      this.drop(refresh);
      refresh.reason = why;
      return this.end(refresh, 'RollbackFailed', 'Rollback Failed');
    }
    refresh.reason = why;
    if (refresh.autoRollback) return void this.rollBack(why);
    this.drop(refresh);
    this.end(refresh, 'Failed', 'Failed');
  }

  private finish(refresh: Refresh): void {
    if (refresh.status === 'RollbackInProgress') return this.end(refresh, 'RollbackSuccessful', 'Rollback Succeeded');
    this.saved = refresh.version ?? this.saved;
    refresh.percent = 100;
    this.end(refresh, 'Successful', 'Succeeded');
  }

  private end(refresh: Refresh, status: string, event: string): void {
    refresh.status = status;
    refresh.ended = this.minute;
    this.tell(event, refresh);
  }

  /** What was launched and is not in place of another yet goes. */
  private drop(refresh: Refresh): void {
    this.instances = this.instances.filter((each) => each !== refresh.successor);
    refresh.successor = undefined;
  }

  private tell(what: string, { id }: Refresh): void {
    this.tellOfGroup(`EC2 Auto Scaling Instance Refresh ${what}`, { InstanceRefreshId: id });
  }

  private tellOfGroup(type: string, detail: Record<string, string>): void {
    this.events.push({ type, detail: { ...detail, AutoScalingGroupName: this.name } });
  }

  private launch(version: string): Instance {
    return { id: this.id('i'), version, age: 0 };
  }

  private id(kind: string): string {
    this.counter += 1;
    return `${kind}-${String(this.counter).padStart(8, '0')}`;
  }
}
