// SPDX-License-Identifier: Apache-2.0
// The sweeper takes what launches left behind, and nothing else.
import { AttachNetworkInterfaceCommand } from '@aws-sdk/client-ec2';
import { TAG } from '../../lambda/tags';
import { GROUP, SWEEP, World, ZONES } from './world';

const HOUR_MS = 3_600_000;
const GONE = 'i-0123456789abcdef0';

let world: World;
beforeAll(async () => (world = await World.create()));
afterAll(() => world.destroy());
beforeEach(() => world.renew());

async function ids(): Promise<readonly (string | undefined)[]> {
  return (await world.interfaces({})).map(({ NetworkInterfaceId }) => NetworkInterfaceId);
}

/** Sweeps; which interfaces are gone afterwards. */
async function swept(): Promise<readonly (string | undefined)[]> {
  const before = await ids();
  expect(await world.deliver(SWEEP)).toBe('done');
  const after = await ids();
  return before.filter((id) => !after.includes(id));
}

describe('the sweeper', () => {
  test('deletes an available interface of a launch once it is older than an hour', async () => {
    const orphan = await world.leftover(GONE, ZONES[0], HOUR_MS - 60_000);
    expect(await swept()).toEqual([]);
    world.passTime(2 * 60_000);
    expect(await swept()).toEqual([orphan]);
  });

  test('touches none without our tags, however old', async () => {
    const old = 24 * HOUR_MS;
    await world.interfaceWith({ Name: 'foreign' }, ZONES[0]);
    await world.leftover(GONE, ZONES[0], old, { [TAG.stack]: 'another-stack' });
    await world.leftover(GONE, ZONES[0], old, { [TAG.group]: 'another-group' });
    await world.leftover(GONE, ZONES[0], old, { [TAG.instance]: '' });
    await world.leftover(GONE, ZONES[0], old, { [TAG.created]: '' });
    await world.leftover(GONE, ZONES[0], old, { [TAG.created]: 'yesterday' });
    expect(await swept()).toEqual([]);
  });

  test('touches none that is in use, however old', async () => {
    const gateway = await world.launch();
    await world.deliver(gateway.event);
    world.passTime(24 * HOUR_MS);
    expect(await swept()).toEqual([]);
    expect(world.linesOf('error')).toEqual([]);
  });

  test('lets go of one that is attached between the listing and the deletion', async () => {
    const gateway = await world.launch();
    const id = await world.leftover(gateway.instance, ZONES[0], 2 * HOUR_MS);
    const input = { NetworkInterfaceId: id, InstanceId: gateway.instance, DeviceIndex: 1 };
    let attached: Promise<unknown> | undefined;
    world.endpoint.inject(({ action }) => {
      if (action === 'DeleteNetworkInterface' && !attached) {
        attached = world.ec2.send(new AttachNetworkInterfaceCommand(input));
        return { status: 503, code: 'RequestLimitExceeded', message: 'later' };
      }
      return undefined;
    });
    expect(await swept()).toEqual([]);
    await attached;
    expect(world.linesOf('error')).toEqual([]);
  });

  test('reports how many, as a metric of the group in one line of log', async () => {
    for (const zone of ZONES) await world.leftover(GONE, zone, 2 * HOUR_MS);
    const gone = await swept();
    const [line] = world.lines;
    expect(world.lines).toHaveLength(1);
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
    expect(world.lines.map(({ facts }) => facts.OrphanedEnisDeleted)).toEqual([0]);
  });

  test('reads on after an empty page', async () => {
    const orphan = await world.leftover(GONE, ZONES[0], 2 * HOUR_MS);
    world.endpoint.emptyPages = 1;
    expect(await swept()).toEqual([orphan]);
  });

  test('goes on after one that it may not delete, and fails in the end', async () => {
    for (const zone of ZONES) await world.leftover(GONE, zone, 2 * HOUR_MS);
    const [first, second] = (await world.ours()).map(({ NetworkInterfaceId }) => NetworkInterfaceId ?? '').sort();
    world.endpoint.inject(({ parameters }) =>
      parameters.get('Action') === 'DeleteNetworkInterface' && parameters.get('NetworkInterfaceId') === first
        ? { status: 400, code: 'OperationNotPermitted', message: 'not you' }
        : undefined,
    );
    const end = await world.deliver(SWEEP);
    expect(String(end)).toContain('1 of 2 orphans not deleted');
    expect(await ids()).not.toContain(second);
    expect(world.linesOf('error')).toEqual([`orphan ${first} not deleted: OperationNotPermitted: not you`]);
    expect(world.lines.map(({ facts }) => facts.OrphanedEnisDeleted)).toContain(1);
  });
});
