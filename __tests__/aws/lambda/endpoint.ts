// SPDX-License-Identifier: Apache-2.0
// The endpoint that the function believes to be AWS: it forwards to moto, notes every call, injects faults, and stands in
// where moto is more lenient than EC2 or lacks a call. lambda/attach-eni/README.md lists what it adds.
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  DeleteNetworkInterfaceCommand,
  DescribeInstancesCommand,
  DescribeNetworkInterfacesCommand,
  DetachNetworkInterfaceCommand,
  EC2Client,
  type NetworkInterface,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { type Call, type Fault, noActiveAction, refusalOf, refuse, type Refusal, type Service } from './faults';

/** Names the invocation that a call comes from; calls without it are the tests' own. */
export const INVOCATION = 'x-test-invocation';

// The function runs on Node.js 24; these tests also where the SDK warns of the end of an older one.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';

const SERVICES: Readonly<Record<string, Service>> = { '2016-11-15': 'ec2', '2011-01-01': 'autoscaling' };
const REGION = 'eu-central-1';

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** A launch that an Auto Scaling group waits for. */
interface Waiting {
  readonly group: string;
  readonly hook: string;
  readonly instance: string;
}

export interface Completed {
  readonly token: string;
  readonly result: string;
}

function isRefusal(answer: Answer | Refusal): answer is Refusal {
  return 'code' in answer;
}

/** Lets one at a time in, as EC2 does where two calls want the same interface. */
class Turnstile {
  private last: Promise<unknown> = Promise.resolve();

  pass<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }
}

export class Endpoint {
  /** Every call that the function made, in the order of arrival. */
  readonly calls: Call[] = [];
  /** Every lifecycle action that was completed. */
  readonly completed: Completed[] = [];
  /** Decides the fate of a call; `number` counts the calls since the faults were set, from 0. */
  faults: (call: Call, number: number) => Fault | Refusal | undefined = () => undefined;
  /** Called where a fault kills the invocation. */
  onCrash: (invocation: string) => void = () => undefined;
  /** Whether EC2 recognizes a repeated CreateNetworkInterface by its client token; moto does not. */
  honoursClientTokens = true;
  /** How often DescribeNetworkInterfaces begins with an empty page, as EC2's may. */
  emptyPages = 0;
  /** How many listings after a creation do not know of it yet, as EC2's may. */
  staleListings = 0;

  private readonly server = http.createServer((request, response) => void this.serve(request, response));
  private readonly turnstile = new Turnstile();
  private readonly waiting = new Map<string, Waiting>();
  private readonly doomed: string[] = [];
  private readonly deletedWithInstance = new Set<string>();
  private readonly created = new Map<string, { readonly asked: string; readonly answer: Answer }>();
  private readonly moto: EC2Client;
  private counted = 0;

  private constructor(private readonly motoPort: number) {
    this.moto = clientOf(motoPort);
  }

  static async start(motoPort: number): Promise<Endpoint> {
    const endpoint = new Endpoint(motoPort);
    await new Promise<void>((done) => endpoint.server.listen(0, '127.0.0.1', done));
    return endpoint;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.moto.destroy();
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }

  /** From now on, faults are asked for by this function, and calls counted anew. */
  inject(faults: Endpoint['faults']): void {
    this.faults = faults;
    this.counted = 0;
  }

  heal(): void {
    this.inject(() => undefined);
  }

  /** A group begins to wait for the completion of a launch. */
  expectCompletion(token: string, waiting: Waiting): void {
    this.waiting.set(token, waiting);
  }

  /** The instance ends, and its interfaces with it if they were told to; moto would keep them attached for ever. */
  terminate(instance: string): Promise<void> {
    // In its turn: moto attaches to a dead instance what was allowed while it lived.
    return this.turnstile.pass(() => this.end(instance));
  }

  private async end(instance: string): Promise<void> {
    const found = await this.interfaces({ Filters: [{ Name: 'attachment.instance-id', Values: [instance] }] });
    await this.moto.send(new TerminateInstancesCommand({ InstanceIds: [instance] }));
    for (const { NetworkInterfaceId, Attachment } of found.filter((each) => each.Attachment?.DeviceIndex !== 0)) {
      const id = Attachment?.AttachmentId ?? '';
      await this.moto.send(new DetachNetworkInterfaceCommand({ AttachmentId: id }));
      if (this.deletedWithInstance.has(id))
        await this.moto.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId }));
    }
  }

  /** Auto Scaling gets round to terminating the instances whose launch was abandoned. */
  async terminateAbandoned(): Promise<void> {
    for (const instance of this.doomed.splice(0)) await this.terminate(instance);
  }

  private async serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString('utf8');
    const parameters = new URLSearchParams(body);
    const action = parameters.get('Action') ?? '';
    const service = SERVICES[parameters.get('Version') ?? ''] ?? 'ec2';
    const invocation = String(request.headers[INVOCATION] ?? '');
    const call = { service, action, parameters, invocation };
    if (invocation) this.calls.push(call);
    const fault = invocation ? this.faults(call, this.counted++) : undefined;
    try {
      await this.answer(call, fault, { request, body, response });
    } catch (error) {
      refuse(response, service, { status: 500, code: 'StandIn', message: String(error) });
    }
  }

  private async answer(
    call: Call,
    fault: Fault | Refusal | undefined,
    { request, body, response }: { request: http.IncomingMessage; body: string; response: http.ServerResponse },
  ): Promise<void> {
    if (fault && 'code' in fault) return refuse(response, call.service, fault);
    const early = fault?.moment === 'before';
    const answer = early ? undefined : await this.carryOut(call, () => this.forward(request, body));
    if (fault) {
      if (fault.kind === 'crash') this.onCrash(call.invocation);
      const refusal = refusalOf(fault.kind, call);
      // No answer: the caller hangs until it gives up or is dead.
      return refusal && refuse(response, call.service, refusal);
    }
    if (!answer || isRefusal(answer)) return refuse(response, call.service, answer ?? noActiveAction('?'));
    response.writeHead(answer.status, { 'content-type': 'text/xml' }).end(answer.body);
  }

  private carryOut(call: Call, forward: () => Promise<Answer>): Promise<Answer | Refusal> {
    const { action, parameters } = call;
    const one = (work: () => Promise<Answer | Refusal>) => this.turnstile.pass(work);
    switch (action) {
      case 'CompleteLifecycleAction':
        return one(() => Promise.resolve(this.complete(parameters)));
      case 'CreateNetworkInterface':
        return one(() => this.create(parameters, forward));
      case 'AttachNetworkInterface':
        return one(async () => (await this.whyNotAttached(parameters)) ?? forward());
      case 'DeleteNetworkInterface':
        return one(async () => (await this.whyNotDeleted(parameters)) ?? forward());
      case 'DetachNetworkInterface':
        return one(forward);
      case 'ModifyNetworkInterfaceAttribute':
        return one(() => this.modify(parameters, forward));
      case 'DescribeNetworkInterfaces':
        return this.describe(call, forward);
      case 'DescribeInstances':
        return forward().then((answer) => this.withDeletion(answer));
      default:
        return forward();
    }
  }

  private forward(request: http.IncomingMessage, body: string): Promise<Answer> {
    const headers = { ...request.headers };
    delete headers[INVOCATION];
    return new Promise((done, fail) => {
      const options = { host: '127.0.0.1', port: this.motoPort, method: 'POST', path: '/', headers };
      const forwarded = http.request(options, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (part: string) => (text += part));
        answer.on('end', () => done({ status: answer.statusCode ?? 500, body: text }));
      });
      forwarded.on('error', fail).end(body);
    });
  }

  private complete(parameters: URLSearchParams): Answer | Refusal {
    const token = parameters.get('LifecycleActionToken') ?? '';
    const waiting = this.waiting.get(token);
    const asked = [parameters.get('AutoScalingGroupName'), parameters.get('LifecycleHookName')];
    if (!waiting || waiting.group !== asked[0] || waiting.hook !== asked[1]) return noActiveAction(token);
    const result = parameters.get('LifecycleActionResult') ?? '';
    this.waiting.delete(token);
    this.completed.push({ token, result });
    if (result === 'ABANDON') this.doomed.push(waiting.instance);
    const body =
      '<CompleteLifecycleActionResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">' +
      '<CompleteLifecycleActionResult/></CompleteLifecycleActionResponse>';
    return { status: 200, body };
  }

  private async create(parameters: URLSearchParams, forward: () => Promise<Answer>): Promise<Answer | Refusal> {
    const token = parameters.get('ClientToken');
    if (!token || !this.honoursClientTokens) return forward();
    const asked = String(parameters);
    const known = this.created.get(token);
    if (known?.asked === asked) return known.answer;
    if (known) return { status: 400, code: 'IdempotentParameterMismatch', message: 'other parameters, same token' };
    const answer = await forward();
    if (answer.status === 200) this.created.set(token, { asked, answer });
    return answer;
  }

  private async whyNotAttached(parameters: URLSearchParams): Promise<Refusal | undefined> {
    const [id, instance] = [parameters.get('NetworkInterfaceId') ?? '', parameters.get('InstanceId') ?? ''];
    const invalid = (code: string, message: string) => ({ status: 400, code, message });
    const [found] = await this.interfaces({ Filters: [{ Name: 'network-interface-id', Values: [id] }] });
    if (!found) return undefined; // moto refuses
    if (found.Attachment) return invalid('InvalidNetworkInterface.InUse', `Interface: [${id}] in use.`);
    const { Reservations } = await this.moto.send(new DescribeInstancesCommand({ InstanceIds: [instance] }));
    const target = Reservations?.[0]?.Instances?.[0];
    const state = target?.State?.Name ?? '';
    if (!['running', 'stopped'].includes(state)) {
      return invalid('IncorrectState', `Instance '${instance}' is not 'running' or 'stopped', but '${state}'.`);
    }
    const index = Number(parameters.get('DeviceIndex'));
    const taken = target?.NetworkInterfaces?.some(({ Attachment }) => Attachment?.DeviceIndex === index);
    const already = `Instance '${instance}' already has an interface attached at device index '${index}'.`;
    if (taken) return invalid('InvalidParameterValue', already);
    const zone = target?.Placement?.AvailabilityZone;
    const apart = 'You may not attach a network interface to an instance if they are not in the same availability zone';
    return found.AvailabilityZone === zone ? undefined : invalid('InvalidParameterCombination', apart);
  }

  private async whyNotDeleted(parameters: URLSearchParams): Promise<Refusal | undefined> {
    const id = parameters.get('NetworkInterfaceId') ?? '';
    const [found] = await this.interfaces({ Filters: [{ Name: 'network-interface-id', Values: [id] }] });
    if (!found?.Attachment) return undefined;
    return { status: 400, code: 'InvalidParameterValue', message: `Network interface '${id}' is currently in use.` };
  }

  private async modify(parameters: URLSearchParams, forward: () => Promise<Answer>): Promise<Answer | Refusal> {
    const id = parameters.get('NetworkInterfaceId') ?? '';
    const attachment = parameters.get('Attachment.AttachmentId');
    const answer = await forward();
    if (answer.status !== 200 || !attachment) return answer;
    const [found] = await this.interfaces({ Filters: [{ Name: 'network-interface-id', Values: [id] }] });
    if (found?.Attachment?.AttachmentId !== attachment) {
      return { status: 400, code: 'InvalidAttachmentID.NotFound', message: `${attachment} does not exist` };
    }
    if (parameters.get('Attachment.DeleteOnTermination') === 'true') this.deletedWithInstance.add(attachment);
    else this.deletedWithInstance.delete(attachment);
    return answer;
  }

  private async describe({ invocation, parameters }: Call, forward: () => Promise<Answer>): Promise<Answer> {
    const first = invocation !== '' && !parameters.has('NextToken');
    if (first && this.emptyPages > 0) {
      this.emptyPages -= 1;
      return emptyListing('<nextToken>second</nextToken>');
    }
    if (first && this.staleListings > 0 && this.calls.some(({ action }) => action === 'CreateNetworkInterface')) {
      this.staleListings -= 1;
      return emptyListing();
    }
    return this.withDeletion(await forward());
  }

  /** moto forgets DeleteOnTermination of an attachment. */
  private withDeletion({ status, body }: Answer): Answer {
    const pattern = /(<attachmentId>([^<]+)<\/attachmentId>\s*<deleteOnTermination>)false/g;
    const edited = body.replace(pattern, (all, start: string, id: string) =>
      this.deletedWithInstance.has(id) ? `${start}true` : all,
    );
    return { status, body: edited };
  }

  private async interfaces(input: object): Promise<readonly NetworkInterface[]> {
    return (await this.moto.send(new DescribeNetworkInterfacesCommand(input))).NetworkInterfaces ?? [];
  }
}

function emptyListing(more = ''): Answer {
  const namespace = 'http://ec2.amazonaws.com/doc/2016-11-15/';
  const content = `<networkInterfaceSet/>${more}`;
  const body = `<DescribeNetworkInterfacesResponse xmlns="${namespace}">${content}</DescribeNetworkInterfacesResponse>`;
  return { status: 200, body };
}

/** A client of whatever listens on this port of loopback. */
export function clientOf(port: number): EC2Client {
  return new EC2Client(connection(port));
}

export function connection(port: number) {
  return {
    region: REGION,
    endpoint: `http://127.0.0.1:${port}`,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    maxAttempts: 1,
  };
}
