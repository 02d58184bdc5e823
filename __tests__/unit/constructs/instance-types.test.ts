// SPDX-License-Identifier: Apache-2.0
// Instance types, judged by their names alone.
import {
  architectureOf,
  bandwidthOf,
  instanceTypeProblem,
  isRecommended,
} from '../../../constructs/config/instance-types';

test.each([
  ['c5n.large', 'amd64'],
  ['m5n.24xlarge', 'amd64'],
  ['c7i-flex.large', 'amd64'],
  ['g4dn.xlarge', 'amd64'],
  ['gr6.4xlarge', 'amd64'],
  ['u-6tb1.112xlarge', 'amd64'],
  ['u7in-16tb.224xlarge', 'amd64'],
  ['m7i.metal-24xl', 'amd64'],
  ['m4.16xlarge', 'amd64'],
  ['a1.medium', 'arm64'],
  ['t4g.nano', 'arm64'],
  ['c6gn.16xlarge', 'arm64'],
  ['im4gn.large', 'arm64'],
  ['is4gen.large', 'arm64'],
  ['x2gd.metal', 'arm64'],
  ['g5g.xlarge', 'arm64'],
])('%s can carry a gateway with an image for %s', (type, architecture) => {
  expect(instanceTypeProblem(type)).toBeUndefined();
  expect(architectureOf(type)).toBe(architecture);
});

test.each(['t2.micro', 'm4.10xlarge', 'c4.8xlarge', 'r3.large', 'i2.xlarge', 'd2.xlarge', 'g2.2xlarge'])(
  '%s is refused for want of an ENA interface',
  (type) => {
    expect(instanceTypeProblem(type)).toMatch(/ has no ENA interface$/);
  },
);

test.each(['', 'c5n', 'large', 'c5n.', 'c5n.Large', 'c5n.0xlarge', 'c5n.large.large', 'n.large'])(
  '"%s" is not taken for an instance type',
  (type) => {
    expect(instanceTypeProblem(type)).toBe('it is not of the form family.size');
  },
);

test('only c5n and m5n are recommended', () => {
  expect(['c5n.large', 'm5n.large'].every(isRecommended)).toBe(true);
  expect(['c5.large', 'm5dn.large', 'c6gn.large'].some(isRecommended)).toBe(false);
});

test('every size of the recommended families has its bandwidth, of a burst and of what lasts', () => {
  expect(bandwidthOf('c5n.large')).toMatchObject({ baselineGbps: 3, burstGbps: 25 });
  expect(bandwidthOf('m5n.2xlarge')).toMatchObject({ baselineGbps: 8.125, burstGbps: 25 });
  expect(bandwidthOf('c5n.9xlarge')).toMatchObject({ baselineGbps: 50, burstGbps: 50 });
  expect(bandwidthOf('m5n.metal')).toMatchObject({ baselineGbps: 100, burstGbps: 100 });
  expect(bandwidthOf('t3.micro')).toBeUndefined();
});
