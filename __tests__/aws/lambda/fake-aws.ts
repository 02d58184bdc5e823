// SPDX-License-Identifier: Apache-2.0
// A VPC with two availability zones, a group that launches gateways into it, and Lambda as far as it matters here: it
// delivers an event, again after a failure, and can kill an invocation in the midst of a call.
import { randomUUID } from 'node:crypto';
import { AutoScalingClient } from '@aws-sdk/client-auto-scaling';
import {
  CreateNetworkInterfaceCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DescribeNetworkInterfacesCommand,
  type EC2Client,
  type NetworkInterface,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { Aws } from '../../../lambda/attach-eni/aws';
import { type Configuration, configurationOf } from '../../../lambda/attach-eni/configuration';
import { handle } from '../../../lambda/attach-eni/handler';
import {
  MAXIMUM_EVENT_AGE_SECONDS,
  MAXIMUM_RETRIES,
  RETRY_DELAYS_MS,
  TIMEOUT_SECONDS,
} from '../../../lambda/attach-eni/timeouts';
import type { Facts, Log } from '../../../lambda/shared/log';
import type { Clock } from '../../../lambda/shared/clock';
import { TAG } from '../../../lambda/attach-eni/tags';
import { clientOf, connection, Endpoint, INVOCATION } from './endpoint';
import { type Moto, startMoto } from '../../../lab/aws/moto';

export const ZONES = ['eu-central-1a', 'eu-central-1b'] as const;
export type Zone = (typeof ZONES)[number];
type Subnets = Readonly<Record<Zone, string>>;

export const GROUP = 'mirror-gateway-xdp-asg';
export const HOOK = 'secondary-eni';
export const HEARTBEAT_SECONDS = 600;

/** How long the function waits for an answer, in real time: longer than moto ever needs. */
const PATIENT_MS = 20_000;
/** Many times what moto needs on an idle machine, and short enough to wait for it in vain many times. */
export const IMPATIENT_MS = 300;
const HURRY = 300;
const RENEWALS_BETWEEN_RESETS = 40;
const SECOND_MS = 1000;

export interface Gateway {
  readonly instance: string;
  readonly token: string;
  readonly event: LaunchEvent;
}

export interface LaunchEvent {
  readonly source: string;
  readonly 'detail-type': string;
  readonly time: string;
  readonly detail: Readonly<Record<string, string>>;
}

export interface Line {
  readonly level: 'info' | 'warn' | 'error';
  readonly message: string;
  readonly facts: Facts;
}

/** How an invocation ended. */
export type End = 'done' | 'crashed' | Error;

interface Network {
  readonly subnets: Subnets;
  readonly secondary: Subnets;
  readonly securityGroup: string;
}

async function createNetwork(port: number): Promise<Network> {
  const ec2 = clientOf(port);
  const { Vpc } = await ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }));
  let number = 0;
  const subnet = async (AvailabilityZone: Zone): Promise<string> => {
    const input = { VpcId: Vpc?.VpcId, AvailabilityZone, CidrBlock: `10.0.${number++}.0/24` };
    return (await ec2.send(new CreateSubnetCommand(input))).Subnet?.SubnetId ?? '';
  };
  const inBoth = async (): Promise<Subnets> => ({
    'eu-central-1a': await subnet('eu-central-1a'),
    'eu-central-1b': await subnet('eu-central-1b'),
  });
  const [subnets, secondary] = [await inBoth(), await inBoth()];
  const input = { GroupName: 'secondary', Description: 'secondary', VpcId: Vpc?.VpcId };
  const group = await ec2.send(new CreateSecurityGroupCommand(input));
  ec2.destroy();
  return { subnets, secondary, securityGroup: group.GroupId ?? '' };
}

function configurationIn({ secondary, securityGroup }: Network): Configuration {
  return configurationOf(environmentOf(securityGroup, Object.values(secondary)));
}

/** Real time, plus all the time that was slept: a pause of five seconds takes a sixtieth of one. */
class Hurried implements Clock {
  constructor(
    private skipped: number,
    readonly callMs = PATIENT_MS,
  ) {}

  now(): number {
    return Date.now() + this.skipped;
  }

  async sleep(milliseconds: number): Promise<void> {
    this.skipped += milliseconds;
    await new Promise((done) => setTimeout(done, milliseconds / HURRY));
  }
}

export class FakeAws {
  readonly lines: Line[] = [];
  readonly ec2: EC2Client;
  configuration: Configuration;
  private renewals = 0;
  private clock: Hurried = new Hurried(0);
  private invocations = 0;
  private readonly deaths = new Map<string, () => void>();

  private constructor(
    private readonly moto: Moto,
    readonly endpoint: Endpoint,
    private readonly callMs: number,
    private network: Network,
  ) {
    this.ec2 = clientOf(endpoint.port);
    this.configuration = configurationIn(network);
    endpoint.onCrash = (invocation) => this.deaths.get(invocation)?.();
  }

  /** @param callMs how long the function waits for an answer, in real time */
  static async create(callMs = PATIENT_MS): Promise<FakeAws> {
    const moto = await startMoto();
    const endpoint = await Endpoint.start(moto.port);
    return new FakeAws(moto, endpoint, callMs, await createNetwork(endpoint.port));
  }

  /** Where instances are launched. */
  get subnets(): Subnets {
    return this.network.subnets;
  }

  /** Where secondary interfaces belong. */
  get secondary(): Subnets {
    return this.network.secondary;
  }

  async destroy(): Promise<void> {
    this.ec2.destroy();
    await this.endpoint.stop();
    await this.moto.stop();
  }

  /** An account as new, except for what may be in EC2: that belongs to another stack from now on. */
  async renew(change: Partial<Configuration> = {}): Promise<void> {
    // The more it holds, the slower moto is.
    if (++this.renewals % RENEWALS_BETWEEN_RESETS === 0) {
      await this.moto.reset();
      this.network = await createNetwork(this.endpoint.port);
    }
    this.endpoint.heal();
    this.endpoint.honoursClientTokens = true;
    this.endpoint.emptyPages = 0;
    this.endpoint.staleListings = 0;
    this.endpoint.calls.length = 0;
    this.endpoint.completed.length = 0;
    this.lines.length = 0;
    this.configuration = { ...configurationIn(this.network), ...change, stack: `stack-${randomUUID()}` };
  }

  now(): number {
    return this.clock.now();
  }

  passTime(milliseconds: number): void {
    this.clock = new Hurried(this.now() + milliseconds - Date.now());
  }

  /** The group launches an instance and waits for the completion of its hook. */
  async launch(zone: Zone = ZONES[0]): Promise<Gateway> {
    const answer = await this.ec2.send(
      new RunInstancesCommand({
        ImageId: 'ami-12345678',
        InstanceType: 'c5n.large',
        MinCount: 1,
        MaxCount: 1,
        SubnetId: this.subnets[zone],
      }),
    );
    const instance = answer.Instances?.[0]?.InstanceId ?? '';
    const token = randomUUID();
    this.endpoint.expectCompletion(token, { group: GROUP, hook: HOOK, instance });
    return { instance, token, event: launchEvent(instance, token, new Date(this.now())) };
  }

  /** One invocation of the function. */
  async deliver(event: unknown): Promise<End> {
    const invocation = String(++this.invocations);
    const clock = new Hurried(this.now() - Date.now(), this.callMs);
    const startedAt = clock.now();
    let dead = false;
    const crash = new Promise<End>((die) => {
      this.deaths.set(invocation, () => {
        dead = true;
        die('crashed');
      });
    });
    const clients = [new AutoScalingClient(connection(this.endpoint.port)), clientOf(this.endpoint.port)] as const;
    for (const { middlewareStack } of clients) label(middlewareStack, invocation, () => dead);
    const [autoScaling, ec2] = clients;
    const { configuration } = this;
    const context = { aws: new Aws(ec2, autoScaling, clock), configuration, clock, log: this.log() };
    const remaining = { getRemainingTimeInMillis: () => TIMEOUT_SECONDS * SECOND_MS - (clock.now() - startedAt) };
    const work = handle(context, event, remaining).then(
      (): End => 'done',
      (error: unknown): End => (error instanceof Error ? error : new Error(String(error))),
    );
    const end = await Promise.race([work, crash]);
    this.passTime(Math.max(0, clock.now() - this.now()));
    this.deaths.delete(invocation);
    await this.endpoint.terminateAbandoned();
    clients.forEach((client) => client.destroy());
    return end;
  }

  /** As Lambda does it: delivers again after a failure, twice at most, later each time, and not what is too old. */
  async deliverUntilDone(event: LaunchEvent): Promise<readonly End[]> {
    const ends: End[] = [];
    for (let attempt = 0; attempt <= MAXIMUM_RETRIES; attempt += 1) {
      if (attempt > 0) this.passTime(RETRY_DELAYS_MS[attempt - 1] ?? 0);
      if (this.now() - Date.parse(event.time) > MAXIMUM_EVENT_AGE_SECONDS * SECOND_MS) break;
      const end = await this.deliver(event);
      ends.push(end);
      if (end === 'done') break;
    }
    return ends;
  }

  /** An interface as the function would have created it, for an instance that may or may not exist. */
  async leftover(
    instance: string,
    zone: Zone,
    ageMs = 0,
    tags: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const { stack, group } = this.configuration;
    const created = new Date(this.now() - ageMs).toISOString();
    const all = { [TAG.stack]: stack, [TAG.group]: group, [TAG.instance]: instance, [TAG.created]: created, ...tags };
    return this.interfaceWith(all, zone);
  }

  /** An empty value leaves the tag out. */
  async interfaceWith(tags: Readonly<Record<string, string>>, zone: Zone): Promise<string> {
    const Tags = Object.entries(tags).flatMap(([Key, Value]) => (Value ? [{ Key, Value }] : []));
    const command = new CreateNetworkInterfaceCommand({
      SubnetId: this.secondary[zone],
      TagSpecifications: [{ ResourceType: 'network-interface', Tags }],
    });
    return (await this.ec2.send(command)).NetworkInterface?.NetworkInterfaceId ?? '';
  }

  /** What EC2 has of this stack. */
  ours(): Promise<readonly NetworkInterface[]> {
    return this.interfaces({ [`tag:${TAG.stack}`]: this.configuration.stack });
  }

  async interfaces(filters: Readonly<Record<string, string>>): Promise<readonly NetworkInterface[]> {
    const Filters = Object.entries(filters).map(([Name, value]) => ({ Name, Values: [value] }));
    return (await this.ec2.send(new DescribeNetworkInterfacesCommand({ Filters }))).NetworkInterfaces ?? [];
  }

  /** The results with which a launch was completed; one, if all is well. */
  resultsOf({ token }: Gateway): readonly string[] {
    return this.endpoint.completed.filter((each) => each.token === token).map(({ result }) => result);
  }

  linesOf(level: Line['level']): readonly string[] {
    return this.lines.filter((line) => line.level === level).map(({ message }) => message);
  }

  private log(): Log {
    const add = (level: Line['level']) => (message: string, facts: Facts) => {
      this.lines.push({ level, message, facts });
    };
    return { info: add('info'), warn: add('warn'), error: add('error') };
  }
}

export function environmentOf(securityGroup: string, subnets: readonly string[]): Record<string, string> {
  return {
    STACK: 'mirror-gateway',
    AUTO_SCALING_GROUP_NAME: GROUP,
    LIFECYCLE_HOOK_NAME: HOOK,
    HEARTBEAT_SECONDS: String(HEARTBEAT_SECONDS),
    SECURITY_GROUP_ID: securityGroup,
    SECONDARY_SUBNET_IDS: subnets.join(','),
    EXTRA_TAGS: '{"Environment":"test"}',
    METRIC_NAMESPACE: 'XDP/PacketProcessing',
  };
}

/** An event of EventBridge, as Auto Scaling sends it. */
export function launchEvent(instance: string, token: string, time: Date): LaunchEvent {
  return {
    source: 'aws.autoscaling',
    'detail-type': 'EC2 Instance-launch Lifecycle Action',
    time: time.toISOString().replace(/\.\d+Z$/, 'Z'),
    detail: {
      LifecycleActionToken: token,
      AutoScalingGroupName: GROUP,
      LifecycleHookName: HOOK,
      EC2InstanceId: instance,
      LifecycleTransition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
      Origin: 'EC2',
      Destination: 'AutoScalingGroup',
    },
  };
}

export const SWEEP = { source: 'aws.events', 'detail-type': 'Scheduled Event', detail: {} };

/** A promise that a dead invocation waits for. */
const NEVER = new Promise<never>(() => undefined);

type Stack = EC2Client['middlewareStack'] | AutoScalingClient['middlewareStack'];

/** Marks each call with its invocation, and lets a dead invocation learn of no answer. */
function label(stack: Stack, invocation: string, isDead: () => boolean): void {
  (stack as EC2Client['middlewareStack']).add(
    (next) => async (call) => {
      if (isDead()) return NEVER;
      (call.request as { headers: Record<string, string> }).headers[INVOCATION] = invocation;
      try {
        const answer = await next(call);
        return isDead() ? NEVER : answer;
      } catch (error) {
        if (isDead()) return NEVER;
        throw error;
      }
    },
    { step: 'finalizeRequest', name: 'label' },
  );
}
