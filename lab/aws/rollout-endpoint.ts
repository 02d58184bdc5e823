// SPDX-License-Identifier: Apache-2.0
// An HTTP endpoint that answers as AWS where rollouts are concerned: Auto Scaling (auto-scaling.ts), the launch template's
// versions and tags, states of alarms, a topic, and functions that it calls. AWS's query protocol; who asks for JSON gets it.
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import { AutoScalingGroup, Refused, type AlarmState } from './auto-scaling';

type Json = string | number | boolean | null | undefined | readonly Json[] | { readonly [name: string]: Json };
type Parameters = Readonly<Record<string, string>>;

export interface Version {
  readonly number: number;
  readonly description: string;
}

export interface Published {
  readonly subject: string;
  readonly message: string;
}

/** What happens to a call: before or after it was carried out. */
export interface Interference {
  before(action: string): Promise<Refused | 'silence' | undefined> | Refused | 'silence' | undefined;
  after(action: string): Refused | 'silence' | undefined;
}

const NO_INTERFERENCE: Interference = { before: () => undefined, after: () => undefined };
const MINUTE_MS = 60_000;
const START = Date.parse('2026-01-05T08:00:00Z');

export class RolloutEndpoint {
  group: AutoScalingGroup | undefined;
  versions: Version[] = [];
  defaultVersion = 0;
  tags: Record<string, string> = {};
  readonly published: Published[] = [];
  /** Every action that was asked for, in order. */
  readonly actions: string[] = [];
  readonly alarms = new Map<string, AlarmState>();
  /** Answers a call of a function: what Lambda gives back. */
  invoke: (name: string, payload: unknown) => Promise<unknown> = () => Promise.resolve(null);
  /** By the marked caller (header x-test-invocation); other callers are never interfered with. */
  interference = NO_INTERFERENCE;

  private readonly server = http.createServer((request, response) => void this.serve(request, response));

  static async start(): Promise<RolloutEndpoint> {
    const endpoint = new RolloutEndpoint();
    await new Promise<void>((done) => endpoint.server.listen(0, '127.0.0.1', done));
    return endpoint;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }

  /** A group of so many gateways of version 1, and nothing else. */
  renew(gateways: number, alarms: readonly string[]): AutoScalingGroup {
    this.versions = [{ number: 1, description: 'first' }];
    this.defaultVersion = 1;
    this.tags = {};
    this.published.length = 0;
    this.actions.length = 0;
    this.interference = NO_INTERFERENCE;
    this.makeGroup('mirror-gateway-xdp-asg', 'lt-stand-in', '1', gateways, 2 * gateways);
    alarms.forEach((name) => this.alarms.set(name, 'OK'));
    return this.theGroup();
  }

  /** As Terraform does it: a new version, which becomes the default one. */
  addVersion(description: string): number {
    const number = this.versions.length + 1;
    this.versions.push({ number, description });
    this.defaultVersion = number;
    return number;
  }

  theGroup(): AutoScalingGroup {
    if (!this.group || this.group.deleted) throw new Refused('ValidationError', 'AutoScalingGroup name not found');
    return this.group;
  }

  private makeGroup(name: string, template: string, version: string, desired: number, max: number): void {
    this.group = new AutoScalingGroup(name, template, version, desired, max);
    // One set of alarms: what a test says of them is what Auto Scaling sees.
    this.alarms.clear();
    (this.group as { alarms: Map<string, AlarmState> }).alarms = this.alarms;
  }

  private async serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString('utf8');
    const invoked = /^\/2015-03-31\/functions\/([^/]+)\/invocations/.exec(request.url ?? '')?.[1];
    if (invoked) return this.callFunction(decodeURIComponent(invoked), body, response);
    const parameters = Object.fromEntries(new URLSearchParams(body));
    const action = parameters.Action ?? '';
    const marked = request.headers['x-test-invocation'] !== undefined;
    const json = request.headers.accept === 'application/json';
    this.actions.push(action);
    const early = marked ? await this.interference.before(action) : undefined;
    if (early) return early === 'silence' ? undefined : refuse(response, early, action);
    try {
      const answer = this.answer(action, parameters);
      const late = marked ? this.interference.after(action) : undefined;
      if (late) return late === 'silence' ? undefined : refuse(response, late, action);
      if (json) response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer ?? null));
      else response.writeHead(200, { 'content-type': 'text/xml' }).end(xmlOf(action, answer));
    } catch (error) {
      const refused = error instanceof Refused ? error : new Refused('StandIn', String(error), 500);
      refuse(response, refused, action);
    }
  }

  private async callFunction(name: string, body: string, response: http.ServerResponse): Promise<void> {
    try {
      const answer = await this.invoke(name, JSON.parse(body || 'null'));
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer ?? null));
    } catch (error) {
      const errorMessage = error instanceof Error ? error.message : String(error);
      response.writeHead(200, { 'x-amz-function-error': 'Unhandled' }).end(JSON.stringify({ errorMessage }));
    }
  }

  private answer(action: string, parameters: Parameters): Json {
    const known: Readonly<Record<string, (parameters: Parameters) => Json>> = {
      CreateLaunchTemplate: (given) => this.create(given),
      CreateLaunchTemplateVersion: (given) => this.create(given),
      DescribeLaunchTemplates: () => this.templates(),
      DescribeLaunchTemplateVersions: () => this.templateVersions(),
      ModifyLaunchTemplate: ({ DefaultVersion = '' }) => {
        this.defaultVersion = Number(DefaultVersion);
        return {};
      },
      CreateTags: (given) => this.tag(given),
      CreateAutoScalingGroup: (given) => {
        const [name = '', template = ''] = [given.AutoScalingGroupName, given['LaunchTemplate.LaunchTemplateId']];
        const desired = Number(given.DesiredCapacity);
        this.makeGroup(name, template, given['LaunchTemplate.Version'] ?? '', desired, Number(given.MaxSize));
        return {};
      },
      UpdateAutoScalingGroup: (given) => this.update(given),
      DeleteAutoScalingGroup: () => this.theGroup().delete() as undefined,
      DescribeAutoScalingGroups: () => this.groups(),
      DescribeInstanceRefreshes: () => ({ InstanceRefreshes: this.theGroup().refreshes.map(refreshOf) }),
      StartInstanceRefresh: (given) => ({ InstanceRefreshId: this.theGroup().start(startOf(given)).id }),
      CancelInstanceRefresh: () => ({ InstanceRefreshId: this.theGroup().cancel().id }),
      RollbackInstanceRefresh: () => ({ InstanceRefreshId: this.theGroup().rollBack().id }),
      DescribeAlarms: () => ({
        MetricAlarms: [...this.alarms].map(([AlarmName, StateValue]) => ({ AlarmName, StateValue })),
      }),
      Publish: ({ Subject = '', Message = '' }) => {
        this.published.push({ subject: Subject, message: Message });
        return { MessageId: String(this.published.length) };
      },
    };
    const answering = known[action];
    if (answering) return answering(parameters);
    throw new Refused('InvalidAction', `the stand-in knows no ${action}`);
  }

  private create({ 'LaunchTemplateVersion.VersionDescription': description = '' }: Parameters): Json {
    return { VersionNumber: this.addVersion(description) };
  }

  private templates(): Json {
    const Tags = Object.entries(this.tags).map(([Key, Value]) => ({ Key, Value }));
    const DefaultVersionNumber = this.defaultVersion;
    return { launchTemplates: lowered([{ LaunchTemplateId: 'lt-stand-in', DefaultVersionNumber, TagSet: Tags }]) };
  }

  private templateVersions(): Json {
    const found = this.versions.map(({ number, description }) => ({
      VersionNumber: number,
      VersionDescription: description,
    }));
    return { launchTemplateVersionSet: lowered(found) };
  }

  private tag(given: Parameters): Json {
    for (let index = 1; given[`Tag.${index}.Key`] !== undefined; index += 1) {
      this.tags[given[`Tag.${index}.Key`] ?? ''] = given[`Tag.${index}.Value`] ?? '';
    }
    return { return: true };
  }

  private update(given: Parameters): Json {
    const group = this.theGroup();
    const version = given['LaunchTemplate.Version'];
    if (version !== undefined) group.save(version);
    if (given.MaxSize !== undefined)
      group.resize(Number(given.DesiredCapacity ?? group.desired), Number(given.MaxSize));
    return {};
  }

  private groups(): Json {
    const { group } = this;
    if (!group || group.deleted) return { AutoScalingGroups: [] };
    const template = (Version: string) => ({ LaunchTemplateId: group.templateId, Version });
    const Instances = group.instances.map(({ id, version }) => ({ InstanceId: id, LaunchTemplate: template(version) }));
    const { name, saved, desired, max } = group;
    return {
      AutoScalingGroups: [
        {
          ...{ AutoScalingGroupName: name, DesiredCapacity: desired, MaxSize: max },
          ...{ LaunchTemplate: template(saved), Instances },
        },
      ],
    };
  }
}

function startOf(given: Parameters) {
  const alarms = Object.entries(given).filter(([name]) => name.includes('AlarmSpecification.Alarms.member.'));
  return {
    version: given['DesiredConfiguration.LaunchTemplate.Version'],
    autoRollback: given['Preferences.AutoRollback'] === 'true',
    skipMatching: given['Preferences.SkipMatching'] === 'true',
    alarms: alarms.map(([, name]) => name),
  };
}

function refreshOf(refresh: AutoScalingGroup['refreshes'][number]): Json {
  const time = (minute: number | undefined) =>
    minute === undefined ? undefined : new Date(START + minute * MINUTE_MS).toISOString();
  const { id, status, version, reason, percent, started, ended, percentOnRollback, rollbackReason } = refresh;
  return {
    ...{ InstanceRefreshId: id, Status: status, StatusReason: reason || undefined, PercentageComplete: percent },
    ...{ StartTime: time(started), EndTime: time(ended) },
    DesiredConfiguration:
      version === undefined ? undefined : { LaunchTemplate: { LaunchTemplateId: 'lt-stand-in', Version: version } },
    RollbackDetails:
      percentOnRollback === undefined
        ? undefined
        : { RollbackReason: rollbackReason, PercentageCompleteOnRollback: percentOnRollback },
  };
}

/** EC2 spells names in its answers with a small first letter, and calls members of lists items. */
function lowered(value: Json): Json {
  if (Array.isArray(value)) return (value as readonly Json[]).map(lowered);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name.charAt(0).toLowerCase() + name.slice(1), lowered(inner)]),
  );
}

const EC2 = /^(?:CreateLaunchTemplate|ModifyLaunchTemplate|DescribeLaunchTemplate|CreateTags)/;

function xmlOf(action: string, answer: Json): string {
  const member = EC2.test(action) ? 'item' : 'member';
  const inner = elements(answer ?? {}, member);
  return EC2.test(action)
    ? `<${action}Response>${inner}</${action}Response>`
    : `<${action}Response><${action}Result>${inner}</${action}Result></${action}Response>`;
}

function elements(value: Json, member: string): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value)) {
    return (value as readonly Json[]).map((each) => `<${member}>${elements(each, member)}</${member}>`).join('');
  }
  if (typeof value !== 'object') return escaped(String(value));
  return Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .map(([name, inner]) => `<${name}>${elements(inner, member)}</${name}>`)
    .join('');
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function refuse(response: http.ServerResponse, { code, message, status }: Refused, action: string): void {
  const error = `<Error><Type>Sender</Type><Code>${code}</Code><Message>${escaped(message)}</Message></Error>`;
  const body = EC2.test(action)
    ? `<Response><Errors>${error}</Errors><RequestID>stand-in</RequestID></Response>`
    : `<ErrorResponse>${error}<RequestId>stand-in</RequestId></ErrorResponse>`;
  response.writeHead(status, { 'content-type': 'text/xml' }).end(body);
}
