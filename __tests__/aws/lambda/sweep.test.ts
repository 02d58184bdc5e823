// SPDX-License-Identifier: Apache-2.0
// The sweeper takes what launches left behind, and nothing else.
import { AttachNetworkInterfaceCommand } from '@aws-sdk/client-ec2';
import { TAG } from '../../../lambda/attach-eni/tags';
import { FakeAws, GROUP, SWEEP, ZONES } from './fake-aws';

const HOUR_MS = 3_600_000;
const GONE = 'i-0123456789abcdef0';

let aws: FakeAws;
beforeAll(async () => (aws = await FakeAws.create()));
afterAll(() => aws.destroy());
beforeEach(() => aws.renew());

async function ids(): Promise<readonly (string | undefined)[]> {
  return (await aws.interfaces({})).map(({ NetworkInterfaceId }) => NetworkInterfaceId);
}

/** Sweeps; which interfaces are gone afterwards. */
async function swept(): Promise<readonly (string | undefined)[]> {
  const before = await ids();
  expect(await aws.deliver(SWEEP)).toBe('done');
  const after = await ids();
  return before.filter((id) => !after.includes(id));
}

describe('the sweeper', () => {
  test('deletes an available interface of a launch once it is older than an hour', async () => {
    const orphan = await aws.leftover(GONE, ZONES[0], HOUR_MS - 60_000);
    expect(await swept()).toEqual([]);
    aws.passTime(2 * 60_000);
    expect(await swept()).toEqual([orphan]);
  });

  test('touches none without our tags, however old', async () => {
    const old = 24 * HOUR_MS;
    await aws.interfaceWith({ Name: 'foreign' }, ZONES[0]);
    await aws.leftover(GONE, ZONES[0], old, { [TAG.stack]: 'another-stack' });
    await aws.leftover(GONE, ZONES[0], old, { [TAG.group]: 'another-group' });
    await aws.leftover(GONE, ZONES[0], old, { [TAG.instance]: '' });
    await aws.leftover(GONE, ZONES[0], old, { [TAG.created]: '' });
    await aws.leftover(GONE, ZONES[0], old, { [TAG.created]: 'yesterday' });
    expect(await swept()).toEqual([]);
  });

  test('touches none that is in use, however old', async () => {
    const gateway = await aws.launch();
    await aws.deliver(gateway.event);
    aws.passTime(24 * HOUR_MS);
    expect(await swept()).toEqual([]);
    expect(aws.linesOf('error')).toEqual([]);
  });

  test('lets go of one that is attached between the listing and the deletion', async () => {
    const gateway = await aws.launch();
    const id = await aws.leftover(gateway.instance, ZONES[0], 2 * HOUR_MS);
    const input = { NetworkInterfaceId: id, InstanceId: gateway.instance, DeviceIndex: 1 };
    let attached: Promise<unknown> | undefined;
    aws.endpoint.inject(({ action }) => {
      if (action === 'DeleteNetworkInterface' && !attached) {
        attached = aws.ec2.send(new AttachNetworkInterfaceCommand(input));
        return { status: 503, code: 'RequestLimitExceeded', message: 'later' };
      }
      return undefined;
    });
    expect(await swept()).toEqual([]);
    await attached;
    expect(aws.linesOf('error')).toEqual([]);
  });

  test('reports how many, as a metric of the group in one line of log', async () => {
    for (const zone of ZONES) await aws.leftover(GONE, zone, 2 * HOUR_MS);
    const gone = await swept();
    const [line] = aws.lines;
    expect(aws.lines).toHaveLength(1);
    expect(line?.facts).toEqual({
      _aws: {
        Timestamp: expect.any(Number) as number,
        CloudWatchMetrics: [
          {
            Namespace: 'XDP/PacketProcessing',
            Dimensions: [['AutoScalingGroupName']],
            Metrics: [{ Name: 'OrphanedEnisDeleted', Unit: 'Count' }],
          },
        ],
      },
      AutoScalingGroupName: GROUP,
      OrphanedEnisDeleted: 2,
      interfaces: [...gone].sort(),
    });
  });

  test('reports none too, so that an alarm has data', async () => {
    await swept();
    expect(aws.lines.map(({ facts }) => facts.OrphanedEnisDeleted)).toEqual([0]);
  });

  test('reads on after an empty page', async () => {
    const orphan = await aws.leftover(GONE, ZONES[0], 2 * HOUR_MS);
    aws.endpoint.emptyPages = 1;
    expect(await swept()).toEqual([orphan]);
  });

  test('goes on after one that it may not delete, and fails in the end', async () => {
    for (const zone of ZONES) await aws.leftover(GONE, zone, 2 * HOUR_MS);
    const [first, second] = (await aws.ours()).map(({ NetworkInterfaceId }) => NetworkInterfaceId ?? '').sort();
    aws.endpoint.inject(({ parameters }) =>
      parameters.get('Action') === 'DeleteNetworkInterface' && parameters.get('NetworkInterfaceId') === first
        ? { status: 400, code: 'OperationNotPermitted', message: 'not you' }
        : undefined,
    );
    const end = await aws.deliver(SWEEP);
    expect(String(end)).toContain('1 of 2 orphans not deleted');
    expect(await ids()).not.toContain(second);
    expect(aws.linesOf('error')).toEqual([`orphan ${first} not deleted: OperationNotPermitted: not you`]);
    expect(aws.lines.map(({ facts }) => facts.OrphanedEnisDeleted)).toContain(1);
  });
});
