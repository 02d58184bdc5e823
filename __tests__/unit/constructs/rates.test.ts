// SPDX-License-Identifier: Apache-2.0
// What a gateway can carry, and when the fleet grows, by the bandwidth that lasts.
import { fragmentsOf, longestDatagram } from '../../../constructs/config/limits';
import { scalingTarget } from '../../../constructs/config/rates';
import { only, synth } from './synthesized';

const config = { pps_scaling_target: undefined, ec2_instance_type: 'c5n.large', min_packet_size: 1400 };

describe('the scaling target', () => {
  // 3 Gbit/s are 255 972 frames of 1465 bytes a second: 1401 of a datagram, 64 of the mirror's headers.
  test('is 70 % of what the baseline of the instance type carries, not its burst', () => {
    expect(scalingTarget(config)).toBe(Math.floor(0.7 * 255_972));
    expect(scalingTarget({ ...config, ec2_instance_type: 'c5n.18xlarge' })).toBe(5_972_696);
  });

  test('follows the smallest datagram that is taken', () => {
    expect(scalingTarget({ ...config, min_packet_size: 2999 })).toBe(Math.floor((0.7 * 3e9) / 8 / 3064));
  });

  test('is modest for a type of which nobody looked up the baseline', () => {
    expect(scalingTarget({ ...config, ec2_instance_type: 'c7i.large' })).toBe(44_795);
  });

  test('is the configured one where there is one, whatever the type', () => {
    expect(scalingTarget({ ...config, pps_scaling_target: 1 })).toBe(1);
  });

  test.each([
    [{}, 179_180],
    [{ ec2_instance_type: 'm5n.large' }, 125_425],
    [{ pps_scaling_target: '60000' }, 60_000],
  ])('is what the policy of the stack with %j follows', (settings, target) => {
    const policy = only(synth(settings), 'aws_autoscaling_policy', { name: 'mirror-gateway-packets' });
    expect(policy.target_tracking_configuration).toMatchObject({ target_value: target });
  });
});

describe('fragments', () => {
  test('carry a multiple of 8 bytes, but for the last', () => {
    const sizes = [28, 1400, 1401, 2776, 2777, 8486];
    expect(sizes.map((bytes) => fragmentsOf(bytes, 1400))).toEqual([1, 1, 2, 2, 3, 7]);
    expect([8485, 8486, 9001].map((mtu) => fragmentsOf(8486, mtu))).toEqual([2, 1, 1]);
  });

  test('are none of datagrams that no mirror session copies whole', () => {
    expect([1500, 8486, 8487, 9001].map(longestDatagram)).toEqual([1500, 8486, 8486, 8486]);
  });
});
