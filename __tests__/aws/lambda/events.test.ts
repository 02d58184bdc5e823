// SPDX-License-Identifier: Apache-2.0
// What the function refuses: foreign and malformed events, without a call to AWS; and wrong settings, in one line.
import { configurationOf } from '../../../lambda/attach-eni/configuration';
import { environmentOf, FakeAws, launchEvent, SWEEP } from './fake-aws';

const GOOD = launchEvent('i-0123456789abcdef0', '87654321-4321-4321-4321-210987654321', new Date());

function withDetail(detail: Record<string, unknown>): unknown {
  return { ...GOOD, detail: { ...GOOD.detail, ...detail } };
}

describe('an event', () => {
  let aws: FakeAws;
  beforeAll(async () => (aws = await FakeAws.create()));
  afterAll(() => aws.destroy());
  beforeEach(() => aws.renew());

  test.each<[string, unknown, RegExp]>([
    ['nothing', undefined, /the event is nothing/],
    ['null', null, /the event is null/],
    ['a text', 'launch', /the event is "launch"/],
    ['a list', [GOOD], /the event is \[/],
    ['an empty object', {}, /source is nothing/],
    ['of another source', { ...GOOD, source: 'aws.ec2' }, /source is "aws\.ec2"/],
    ['of a termination', { ...GOOD, 'detail-type': 'EC2 Instance-terminate Lifecycle Action' }, /detail-type/],
    ['of a schedule of somebody else', { ...SWEEP, source: 'my.events' }, /source is "my\.events"/],
    ['without detail', { ...GOOD, detail: undefined }, /detail is nothing/],
    ['with a list as detail', { ...GOOD, detail: [] }, /detail is \[\]/],
    [
      'of another group',
      withDetail({ AutoScalingGroupName: 'other' }),
      /AutoScalingGroupName is "other", expected "mirror/,
    ],
    ['of another hook', withDetail({ LifecycleHookName: 'other' }), /LifecycleHookName is "other"/],
    [
      'of another transition',
      withDetail({ LifecycleTransition: 'autoscaling:EC2_INSTANCE_TERMINATING' }),
      /Transition/,
    ],
    ['without instance', withDetail({ EC2InstanceId: undefined }), /EC2InstanceId is nothing/],
    ['of no instance id', withDetail({ EC2InstanceId: 'i-0123; drop' }), /EC2InstanceId is "i-0123; drop"/],
    ['of an instance id that is a list', withDetail({ EC2InstanceId: ['i-0123456789abcdef0'] }), /EC2InstanceId/],
    ['without token', withDetail({ LifecycleActionToken: '' }), /LifecycleActionToken is ""/],
    ['without time', { ...GOOD, time: undefined }, /time is nothing/],
    ['of no time', { ...GOOD, time: '2026-99-99T00:00:00Z' }, /time is "2026-99/],
  ])('%s is refused with a line and without a call', async (_, event, reason) => {
    expect(await aws.deliver(event)).toBe('done');
    expect(aws.endpoint.calls).toEqual([]);
    expect(aws.lines).toHaveLength(1);
    expect(aws.linesOf('warn')).toEqual([expect.stringMatching(reason)]);
    expect(aws.linesOf('warn')[0]?.length).toBeLessThan(400);
  });
});

describe('the environment', () => {
  const environment = environmentOf('sg-0123456789abcdef0', ['subnet-0a', 'subnet-0b']);

  test('that is right becomes the configuration', () => {
    expect(configurationOf(environment)).toEqual({
      stack: 'mirror-gateway',
      group: 'mirror-gateway-xdp-asg',
      hook: 'secondary-eni',
      heartbeatSeconds: 600,
      securityGroup: 'sg-0123456789abcdef0',
      subnets: ['subnet-0a', 'subnet-0b'],
      extraTags: { Environment: 'test' },
      metricNamespace: 'XDP/PacketProcessing',
    });
  });

  test('may name no subnets', () => {
    expect(configurationOf({ ...environment, SECONDARY_SUBNET_IDS: '' }).subnets).toEqual([]);
  });

  test.each<[string, string | undefined]>([
    ...Object.keys(environment).map((name): [string, undefined] => [name, undefined]),
    ['STACK', ' '],
    ['HEARTBEAT_SECONDS', '119'],
    ['HEARTBEAT_SECONDS', '172801'],
    ['HEARTBEAT_SECONDS', '1e3'],
    ['SECURITY_GROUP_ID', 'default'],
    ['SECONDARY_SUBNET_IDS', 'subnet-0a,'],
    ['SECONDARY_SUBNET_IDS', 'subnet-0a subnet-0b'],
    ['EXTRA_TAGS', '[]'],
    ['EXTRA_TAGS', '{"a":1}'],
    ['EXTRA_TAGS', '{'],
  ])('with %s=%j is one line that says what is allowed', (name, value) => {
    const found = value === undefined ? 'is not set' : `is ${JSON.stringify(value)}`;
    const line = `environment: ${name} ${found}, it must be `;
    const wrong = () => configurationOf({ ...environment, [name]: value });
    expect(wrong).toThrow(line);
    expect(wrong).toThrow(/^[^\n]+; deploy the stack again$/);
  });
});
