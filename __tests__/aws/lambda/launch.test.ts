// SPDX-License-Identifier: Apache-2.0
// A launch, undisturbed and disturbed in ways that have names.
import { AttachNetworkInterfaceCommand, DeleteNetworkInterfaceCommand } from '@aws-sdk/client-ec2';
import { TAG } from '../../../lambda/attach-eni/tags';
import type { Call, Refusal } from './faults';
import { type End, FakeAws, type Gateway, ZONES } from './fake-aws';

let aws: FakeAws;
beforeAll(async () => (aws = await FakeAws.create()));
afterAll(() => aws.destroy());
beforeEach(() => aws.renew());

/** Refuses each call of an action. */
function refusing(action: string, code: string, message = 'refused') {
  const refusal: Refusal = { status: 400, code, message };
  return (call: Call) => (call.action === action ? refusal : undefined);
}

async function expectReady({ instance }: Gateway): Promise<void> {
  const found = await aws.interfaces({ [`tag:${TAG.instance}`]: instance });
  expect(found).toHaveLength(1);
  expect(found[0]).toMatchObject({
    SourceDestCheck: false,
    Status: 'in-use',
    Attachment: { InstanceId: instance, DeviceIndex: 1, DeleteOnTermination: true, Status: 'attached' },
  });
}

async function expectNothingLeft(gateway: Gateway): Promise<void> {
  expect(await aws.ours()).toEqual([]);
  expect(aws.resultsOf(gateway)).toEqual(['ABANDON']);
}

const done: End = 'done';

describe('a launch', () => {
  test('ends with one interface as it must be, read back from EC2, and CONTINUE', async () => {
    const gateway = await aws.launch();
    expect(await aws.deliver(gateway.event)).toBe(done);
    await expectReady(gateway);
    const [found] = await aws.ours();
    const { stack, group, securityGroup } = aws.configuration;
    expect(found?.SubnetId).toBe(aws.secondary[ZONES[0]]);
    expect(found?.Groups?.map(({ GroupId }) => GroupId)).toContain(securityGroup);
    expect(Object.fromEntries((found?.TagSet ?? []).map(({ Key, Value }) => [Key, Value]))).toEqual({
      Name: `${stack}-secondary`,
      Environment: 'test',
      'mirror-gateway:stack': stack,
      'mirror-gateway:auto-scaling-group': group,
      'mirror-gateway:instance': gateway.instance,
      'mirror-gateway:created': new Date(gateway.event.time).toISOString(),
    });
    expect(aws.resultsOf(gateway)).toEqual(['CONTINUE']);
    expect(aws.linesOf('error')).toEqual([]);
    expect(aws.linesOf('warn')).toEqual([]);
  });

  test("takes the subnet of the instance's zone", async () => {
    const gateway = await aws.launch(ZONES[1]);
    await aws.deliver(gateway.event);
    expect((await aws.ours()).map(({ SubnetId }) => SubnetId)).toEqual([aws.secondary[ZONES[1]]]);
  });

  test("takes the instance's own subnet where none is configured, and does not ask about subnets", async () => {
    await aws.renew({ subnets: [] });
    const gateway = await aws.launch(ZONES[1]);
    await aws.deliver(gateway.event);
    expect((await aws.ours()).map(({ SubnetId }) => SubnetId)).toEqual([aws.subnets[ZONES[1]]]);
    expect(aws.endpoint.calls.map(({ action }) => action)).not.toContain('DescribeSubnets');
  });

  test('takes the first of several subnets of its zone and warns', async () => {
    await aws.renew({ subnets: [aws.subnets[ZONES[0]], aws.secondary[ZONES[0]]] });
    await aws.deliver((await aws.launch()).event);
    expect((await aws.ours()).map(({ SubnetId }) => SubnetId)).toEqual([aws.subnets[ZONES[0]]]);
    expect(aws.linesOf('warn')).toEqual(['several subnets in one zone: the first is used']);
  });

  test('waits for an instance that is still pending', async () => {
    const gateway = await aws.launch();
    let refused = 0;
    aws.endpoint.inject((call) => {
      if (call.action !== 'AttachNetworkInterface' || refused++ >= 5) return undefined;
      return { status: 400, code: 'IncorrectState', message: "is not 'running' or 'stopped'" };
    });
    expect(await aws.deliver(gateway.event)).toBe(done);
    expect(refused).toBe(6);
    await expectReady(gateway);
  });

  test('finds the interface of an earlier delivery on a later page', async () => {
    const gateway = await aws.launch();
    const id = await aws.leftover(gateway.instance, ZONES[0]);
    aws.endpoint.emptyPages = 1;
    await aws.deliver(gateway.event);
    await expectReady(gateway);
    expect((await aws.ours()).map(({ NetworkInterfaceId }) => NetworkInterfaceId)).toEqual([id]);
  });

  test('waits for an interface that listings do not know of yet, and creates no second one', async () => {
    const gateway = await aws.launch();
    aws.endpoint.honoursClientTokens = false;
    aws.endpoint.staleListings = 3;
    expect(await aws.deliver(gateway.event)).toBe(done);
    expect(aws.endpoint.staleListings).toBe(0);
    await expectReady(gateway);
    expect(await aws.ours()).toHaveLength(1);
  });

  test('creates another interface where the first is deleted under it', async () => {
    const gateway = await aws.launch();
    let deleted: Promise<unknown> | undefined;
    aws.endpoint.inject(({ action, parameters }) => {
      if (action !== 'AttachNetworkInterface' || deleted) return undefined;
      const NetworkInterfaceId = parameters.get('NetworkInterfaceId') ?? '';
      deleted = aws.ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId }));
      return { status: 503, code: 'Unavailable', message: 'later' };
    });
    expect(await aws.deliver(gateway.event)).toBe(done);
    await deleted;
    await expectReady(gateway);
  });

  test('creates another interface where the settings changed and the first is gone', async () => {
    const gateway = await aws.launch();
    aws.endpoint.inject(({ action }) =>
      action === 'AttachNetworkInterface' ? { kind: 'crash', moment: 'before' } : undefined,
    );
    expect(await aws.deliver(gateway.event)).toBe('crashed');
    aws.endpoint.heal();
    const [{ NetworkInterfaceId } = {}] = await aws.ours();
    await aws.ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId }));
    aws.configuration = { ...aws.configuration, extraTags: { Environment: 'changed' } };
    expect(await aws.deliver(gateway.event)).toBe(done);
    await expectReady(gateway);
  });

  test('keeps the interface that is attached and deletes spare ones', async () => {
    const gateway = await aws.launch();
    await aws.leftover(gateway.instance, ZONES[0]);
    const attached = await aws.leftover(gateway.instance, ZONES[0]);
    await aws.leftover(gateway.instance, ZONES[0]);
    const input = { NetworkInterfaceId: attached, InstanceId: gateway.instance, DeviceIndex: 1 };
    await aws.ec2.send(new AttachNetworkInterfaceCommand(input));
    await aws.deliver(gateway.event);
    await expectReady(gateway);
    expect((await aws.ours()).map(({ NetworkInterfaceId }) => NetworkInterfaceId)).toEqual([attached]);
  });

  test('leaves an interface alone that was made for it but serves another instance', async () => {
    const [gateway, other] = [await aws.launch(), await aws.launch()];
    const moved = await aws.leftover(gateway.instance, ZONES[0]);
    const input = { NetworkInterfaceId: moved, InstanceId: other.instance, DeviceIndex: 1 };
    await aws.ec2.send(new AttachNetworkInterfaceCommand(input));
    await aws.deliver(gateway.event);
    const found = await aws.interfaces({ 'attachment.instance-id': other.instance });
    expect(found.map(({ NetworkInterfaceId }) => NetworkInterfaceId)).toContain(moved);
    expect(aws.resultsOf(gateway)).toEqual(['CONTINUE']);
  });
});

describe('a launch that is delivered more than once', () => {
  test('changes nothing the second time, and the completed hook is no error', async () => {
    const gateway = await aws.launch();
    await aws.deliver(gateway.event);
    const before = await aws.ours();
    const calls = aws.endpoint.calls.length;
    expect(await aws.deliver(gateway.event)).toBe(done);
    expect(await aws.ours()).toEqual(before);
    const second = aws.endpoint.calls.slice(calls).map(({ action }) => action);
    expect(second).toEqual(['DescribeInstances', 'DescribeNetworkInterfaces', 'CompleteLifecycleAction']);
    expect(aws.resultsOf(gateway)).toEqual(['CONTINUE']);
    expect(aws.linesOf('error')).toEqual([]);
  });

  test('leaves a gateway in service untouched, even long after its hook ended', async () => {
    const gateway = await aws.launch();
    await aws.deliver(gateway.event);
    const before = await aws.ours();
    aws.passTime(24 * 3600 * 1000);
    expect(await aws.deliver(gateway.event)).toBe(done);
    expect(await aws.ours()).toEqual(before);
    expect(aws.resultsOf(gateway)).toEqual(['CONTINUE']);
  });

  test('leaves a gateway in service untouched when the straggler fails for good', async () => {
    const gateway = await aws.launch();
    await aws.deliver(gateway.event);
    const before = await aws.ours();
    aws.passTime(30_000);
    aws.endpoint.inject(refusing('DescribeInstances', 'UnauthorizedOperation'));
    expect(await aws.deliver(gateway.event)).toBe(done);
    expect(await aws.ours()).toEqual(before);
    expect(aws.resultsOf(gateway)).toEqual(['CONTINUE']);
  });

  test.each([
    ['and EC2 recognizes client tokens', true],
    ['and EC2 does not', false],
  ])('eight times side by side ends with one interface, %s', async (_, tokens) => {
    for (let round = 0; round < 5; round += 1) {
      await aws.renew();
      aws.endpoint.honoursClientTokens = tokens;
      const gateway = await aws.launch();
      const ends = await Promise.all(Array.from({ length: 8 }, () => aws.deliver(gateway.event)));
      expect(ends).toEqual(Array(8).fill(done));
      await expectReady(gateway);
      expect(aws.resultsOf(gateway)).toEqual(['CONTINUE']);
    }
  });
});

describe('twenty launches at once', () => {
  test('in two zones end with twenty interfaces in the right subnets', async () => {
    const gateways = await Promise.all(Array.from({ length: 20 }, (_, n) => aws.launch(ZONES[n % 2 === 0 ? 0 : 1])));
    const ends = await Promise.all(gateways.map(({ event }) => aws.deliver(event)));
    expect(ends).toEqual(Array(20).fill(done));
    const found = await aws.ours();
    expect(found).toHaveLength(20);
    for (const [n, gateway] of gateways.entries()) {
      await expectReady(gateway);
      const own = found.filter(({ Attachment }) => Attachment?.InstanceId === gateway.instance);
      expect(own.map(({ SubnetId }) => SubnetId)).toEqual([aws.secondary[ZONES[n % 2 === 0 ? 0 : 1]]]);
      expect(aws.resultsOf(gateway)).toEqual(['CONTINUE']);
    }
  });
});

describe('a launch that cannot succeed', () => {
  test("is abandoned where no subnet is in the instance's zone, with a line that says so and what to do", async () => {
    const subnet = aws.secondary[ZONES[0]];
    await aws.renew({ subnets: [subnet] });
    const gateway = await aws.launch(ZONES[1]);
    expect(await aws.deliver(gateway.event)).toBe(done);
    await expectNothingLeft(gateway);
    expect(aws.linesOf('error')).toEqual([
      `launch of ${gateway.instance} abandoned: no subnet for ${ZONES[1]}, where ${gateway.instance} is, among ` +
        `${subnet} in ${ZONES[0]}; add one of that zone to secondary_subnet_ids, or take its subnet out of private_subnet_ids`,
    ]);
    // An alarm watches this: Lambda itself counts no error for a launch that was given up in good order.
    expect(aws.lines.flatMap(({ facts }) => facts.LaunchesAbandoned ?? [])).toEqual([1]);
  });

  test.each([
    ['CreateNetworkInterface', 'NetworkInterfaceLimitExceeded', /quota/],
    ['CreateNetworkInterface', 'InsufficientFreeAddressesInSubnet', /no free address/],
    ['AttachNetworkInterface', 'AttachmentLimitExceeded', /larger one/],
    ['AttachNetworkInterface', 'UnauthorizedOperation', /lacks a permission/],
    ['ModifyNetworkInterfaceAttribute', 'UnauthorizedOperation', /lacks a permission/],
  ])('is abandoned where %s answers %s, and nothing is left', async (action, code, remedy) => {
    const gateway = await aws.launch();
    aws.endpoint.inject(refusing(action, code));
    expect(await aws.deliver(gateway.event)).toBe(done);
    await expectNothingLeft(gateway);
    expect(aws.linesOf('error')).toEqual([expect.stringMatching(remedy)]);
    expect(aws.linesOf('error')[0]).not.toContain('\n');
  });

  test('is abandoned after the attachment too: detached and deleted', async () => {
    const gateway = await aws.launch();
    aws.endpoint.inject((call) =>
      call.parameters.has('Attachment.AttachmentId')
        ? { status: 400, code: 'OperationNotPermitted', message: 'no' }
        : undefined,
    );
    expect(await aws.deliver(gateway.event)).toBe(done);
    await expectNothingLeft(gateway);
  });

  test('is abandoned where a foreign interface is at device index 1, which stays', async () => {
    const gateway = await aws.launch();
    const foreign = await aws.interfaceWith({ Name: 'foreign' }, ZONES[0]);
    const input = { NetworkInterfaceId: foreign, InstanceId: gateway.instance, DeviceIndex: 1 };
    await aws.ec2.send(new AttachNetworkInterfaceCommand(input));
    await aws.deliver(gateway.event);
    await expectNothingLeft(gateway);
    expect(aws.linesOf('error')).toEqual([expect.stringContaining(`is taken by ${foreign}`)]);
    expect(await aws.interfaces({ 'network-interface-id': foreign })).toHaveLength(1);
  });

  test('forgives a permission that is seconds old', async () => {
    const gateway = await aws.launch();
    const since = aws.now();
    let refused = 0;
    aws.endpoint.inject((call) => {
      if (call.action !== 'CreateNetworkInterface' || refused++ >= 5) return undefined;
      return { status: 403, code: 'UnauthorizedOperation', message: 'You are not authorized' };
    });
    expect(await aws.deliver(gateway.event)).toBe(done);
    expect(refused).toBe(6);
    expect(aws.now() - since).toBeLessThan(60_000);
    await expectReady(gateway);
  });
});

describe('a launch that runs out of time', () => {
  const throttled: Refusal = { status: 503, code: 'RequestLimitExceeded', message: 'Request limit exceeded.' };

  test('keeps what it made, fails, and succeeds in the next delivery', async () => {
    const gateway = await aws.launch();
    aws.endpoint.inject(({ action }) => (action === 'AttachNetworkInterface' ? throttled : undefined));
    const first = await aws.deliver(gateway.event);
    expect(first).toBeInstanceOf(Error);
    expect(aws.resultsOf(gateway)).toEqual([]);
    const [kept] = await aws.ours();
    expect(kept?.Status).toBe('available');
    aws.endpoint.heal();
    aws.passTime(60_000);
    expect(await aws.deliver(gateway.event)).toBe(done);
    await expectReady(gateway);
    expect((await aws.ours())[0]?.NetworkInterfaceId).toBe(kept?.NetworkInterfaceId);
  });

  test('is abandoned by the delivery after which no other is sure to come', async () => {
    const gateway = await aws.launch();
    aws.endpoint.inject(({ action }) => (action === 'AttachNetworkInterface' ? throttled : undefined));
    const ends = await aws.deliverUntilDone(gateway.event);
    expect(ends.at(-1)).toBe(done);
    expect(ends.length).toBeGreaterThan(1);
    await expectNothingLeft(gateway);
    expect(aws.linesOf('error')).toEqual([expect.stringContaining('RequestLimitExceeded')]);
  });

  test("never works beyond the hook's time", async () => {
    const gateway = await aws.launch();
    aws.passTime(590_000);
    expect(await aws.deliver(gateway.event)).toBe(done);
    expect(aws.endpoint.calls.map(({ action }) => action)).not.toContain('CreateNetworkInterface');
    await expectNothingLeft(gateway);
  });

  test('ends by itself before Lambda would kill it, even if AWS answers nothing at all', async () => {
    const gateway = await aws.launch();
    const since = aws.now();
    aws.passTime(200_000);
    aws.endpoint.inject(() => throttled);
    expect(await aws.deliver(gateway.event)).toBe(done);
    expect(aws.now() - since - 200_000).toBeLessThan(120_000);
    expect(aws.linesOf('error').at(-1)).toContain('the lifecycle hook may wait until it times out');
  });
});

describe('an instance that died meanwhile', () => {
  test('before its event came is no error', async () => {
    const gateway = await aws.launch();
    await aws.endpoint.terminate(gateway.instance);
    expect(await aws.deliver(gateway.event)).toBe(done);
    await expectNothingLeft(gateway);
    expect(aws.linesOf('error')).toEqual([]);
  });

  test('while the interface is created takes it along', async () => {
    const gateway = await aws.launch();
    const create = aws.endpoint.calls.length;
    let terminated: Promise<void> | undefined;
    aws.endpoint.inject(({ action }) => {
      if (action === 'AttachNetworkInterface') terminated ??= aws.endpoint.terminate(gateway.instance);
      return undefined;
    });
    expect(await aws.deliver(gateway.event)).toBe(done);
    await terminated;
    expect(aws.endpoint.calls.length).toBeGreaterThan(create);
    await expectNothingLeft(gateway);
    expect(aws.linesOf('error')).toEqual([]);
  });

  test('and is unknown to EC2 is given up after a while', async () => {
    const gateway = await aws.launch();
    const unknown = { ...gateway.event, detail: { ...gateway.event.detail, EC2InstanceId: 'i-0123456789abcdef0' } };
    expect(await aws.deliver(unknown)).toBe(done);
    expect(aws.resultsOf(gateway)).toEqual(['ABANDON']);
    expect(aws.linesOf('error')).toEqual([]);
  });
});
