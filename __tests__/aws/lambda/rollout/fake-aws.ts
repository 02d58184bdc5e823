// SPDX-License-Identifier: Apache-2.0
// The rollout function in front of AWS's stand-in (lab/aws/rollout-endpoint.ts), with Lambda and EventBridge as far as they
// matter here: news of the group and the schedule wake the function, failures are delivered again, an invocation can die in
// the midst of a call. Time passes when it is slept or let pass, and never by itself.
import { AutoScalingClient } from '@aws-sdk/client-auto-scaling';
import { CloudWatchClient } from '@aws-sdk/client-cloudwatch';
import { EC2Client } from '@aws-sdk/client-ec2';
import { SNSClient } from '@aws-sdk/client-sns';
import { AwsQueryProtocol } from '@aws-sdk/core/protocols';
import type { AutoScalingGroup } from '../../../../lab/aws/auto-scaling';
import { RolloutEndpoint } from '../../../../lab/aws/rollout-endpoint';
import type { Facts, Log } from '../../../../lambda/shared/log';
import type { Clock } from '../../../../lambda/shared/clock';
import { Aws, type Clients } from '../../../../lambda/rollout/aws';
import type { Configuration } from '../../../../lambda/rollout/configuration';
import { type Answer, handle } from '../../../../lambda/rollout/handler';
import { LOOKS_EVERY_MINUTES, MAXIMUM_RETRIES, TIMEOUT_SECONDS } from '../../../../lambda/rollout/timeouts';

// The function runs on Node.js 24; these tests also where the SDK warns of the end of an older one.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';

export const GROUP = 'mirror-gateway-xdp-asg';
export const ALARM = 'mirror-gateway-degraded';
const MINUTE_MS = 60_000;
const INVOCATION = 'x-test-invocation';

export const CONFIGURATION: Configuration = {
  stack: 'mirror-gateway',
  group: GROUP,
  template: 'lt-stand-in',
  alarms: [ALARM],
  topic: 'arn:aws:sns:eu-central-1:111122223333:oncall',
  metricNamespace: 'XDP/PacketProcessing',
  preferences: { MinHealthyPercentage: 100, MaxHealthyPercentage: 150, InstanceWarmup: 600 },
};

export const LOOK = { source: 'aws.events', 'detail-type': 'Scheduled Event', detail: {} };

/** How an invocation ended. */
export type End = Answer | 'crashed' | Error;

export interface Line {
  readonly level: string;
  readonly message: string;
  readonly facts: Facts;
}

/** An invocation that is under way. */
interface Running {
  readonly id: string;
  dead: boolean;
  die: () => void;
}

export class FakeAws {
  readonly lines: Line[] = [];
  configuration = CONFIGURATION;
  /** How long the function waits for an answer, in real time. */
  callMs = 5_000;
  private skippedMs = 0;
  private passedMs = 0;
  private invocations = 0;
  private current: Running | undefined;
  private readonly clients: Clients;

  private constructor(readonly endpoint: RolloutEndpoint) {
    const connection = {
      region: 'eu-central-1',
      endpoint: this.endpoint.url,
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
      maxAttempts: 1,
    };
    this.clients = {
      autoScaling: new AutoScalingClient(connection),
      // The SDK would speak another protocol, which the stand-in does not know.
      cloudWatch: new CloudWatchClient({ ...connection, protocol: AwsQueryProtocol }),
      ec2: new EC2Client(connection),
      sns: new SNSClient(connection),
    };
    for (const { middlewareStack } of Object.values(this.clients)) label(middlewareStack, () => this.current);
  }

  static async create(): Promise<FakeAws> {
    const aws = new FakeAws(await RolloutEndpoint.start());
    aws.endpoint.invoke = (_, payload) => aws.deliver(payload).then(answered);
    return aws;
  }

  destroy(): Promise<void> {
    const { autoScaling, cloudWatch, ec2, sns } = this.clients;
    [autoScaling, cloudWatch, ec2, sns].forEach((client) => client.destroy());
    return this.endpoint.stop();
  }

  get group(): AutoScalingGroup {
    return this.endpoint.theGroup();
  }

  renew(gateways = 3): AutoScalingGroup {
    this.lines.length = 0;
    this.configuration = CONFIGURATION;
    return this.endpoint.renew(gateways, [ALARM]);
  }

  /** As Terraform does it: a version, and the call of the function. */
  async deploy(description: string): Promise<End> {
    const version = this.endpoint.addVersion(description);
    return this.deliver({ start: String(version) });
  }

  /** The invocation that is under way ends here. */
  crash(): void {
    this.current?.die();
  }

  /** One invocation. */
  async deliver(event: unknown): Promise<End> {
    const running: Running = { id: String(++this.invocations), dead: false, die: () => undefined };
    const crash = new Promise<End>((die) => {
      running.die = () => {
        running.dead = true;
        die('crashed');
      };
    });
    // Lambda runs one at a time.
    this.current = running;
    const startedAt = this.clock().now();
    const aws = new Aws(this.clients, this.configuration, this.clock());
    const context = { aws, configuration: this.configuration, clock: this.clock(), log: this.log() };
    const remaining = {
      getRemainingTimeInMillis: () => TIMEOUT_SECONDS * 1000 - (this.clock().now() - startedAt),
    };
    const work = handle(context, event, remaining).catch((error: unknown): End =>
      error instanceof Error ? error : new Error(String(error)),
    );
    return Promise.race([work, crash]);
  }

  /** As Lambda does it with events: again after a failure, twice at most. */
  async deliverUntilDone(event: unknown): Promise<readonly End[]> {
    const ends: End[] = [];
    for (let attempt = 0; attempt <= MAXIMUM_RETRIES; attempt += 1) {
      const end = await this.deliver(event);
      ends.push(end);
      if (end !== 'crashed' && !(end instanceof Error)) break;
    }
    return ends;
  }

  /** Lets time pass: the group goes on, its news reach the function, and so does the schedule. */
  async pass(minutes: number): Promise<void> {
    for (let minute = 1; minute <= minutes; minute += 1) {
      this.skippedMs += MINUTE_MS;
      this.letGroupCatchUp();
      await this.deliverNews();
      if (minute % LOOKS_EVERY_MINUTES === 0) await this.deliverUntilDone(LOOK);
    }
  }

  async deliverNews(): Promise<void> {
    const { group } = this.endpoint;
    for (const { type, detail } of group?.events.splice(0) ?? []) {
      await this.deliverUntilDone({ source: 'aws.autoscaling', 'detail-type': type, detail });
    }
  }

  private letGroupCatchUp(): void {
    const minutes = Math.floor((this.skippedMs - this.passedMs) / MINUTE_MS);
    this.passedMs += minutes * MINUTE_MS;
    const { group } = this.endpoint;
    if (group && !group.deleted) group.pass(minutes);
  }

  private clock(): Clock {
    return {
      now: () => this.skippedMs,
      sleep: (milliseconds) => {
        this.skippedMs += milliseconds;
        this.letGroupCatchUp();
        return new Promise((done) => setImmediate(done));
      },
      callMs: this.callMs,
    };
  }

  private log(): Log {
    const add = (level: string) => (message: string, facts: Facts) => {
      this.lines.push({ level, message, facts });
    };
    return { info: add('info'), warn: add('warn'), error: add('error') };
  }
}

/** What Lambda answers whoever waits: the answer, or the failure. */
function answered(end: End): Answer {
  if (end instanceof Error) throw end;
  if (end === 'crashed') throw new Error('Runtime exited with error: signal: killed');
  return end;
}

/** A promise that a dead invocation waits for. */
const NEVER = new Promise<never>(() => undefined);

/** Marks each call with its invocation, and lets a dead invocation learn of no answer. */
function label(stack: unknown, current: () => Running | undefined): void {
  (stack as EC2Client['middlewareStack']).add(
    (next) => async (call) => {
      const mine = current();
      if (mine?.dead) return NEVER;
      (call.request as { headers: Record<string, string> }).headers[INVOCATION] = mine?.id ?? '';
      try {
        const answer = await next(call);
        return mine?.dead ? NEVER : answer;
      } catch (error) {
        if (mine?.dead) return NEVER;
        throw error;
      }
    },
    { step: 'finalizeRequest', name: 'label' },
  );
}
