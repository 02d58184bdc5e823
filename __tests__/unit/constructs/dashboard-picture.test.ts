// SPDX-License-Identifier: Apache-2.0
// The picture in docs/ shows the dashboard as it is, so that nobody reads of graphs that are not there.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { draw } from '../../../lab/aws/dashboard';
import { REPOSITORY } from '../../../lab/support/host';
import { synth } from './synthesized';

test('the picture of the dashboard is that of the present stack (make dashboard draws it anew)', () => {
  expect(draw(synth().resource)).toBe(readFileSync(join(REPOSITORY, 'docs/dashboard.svg'), 'utf8'));
});

test('a graph of a metric that nobody thought of is not drawn as if it were empty', () => {
  const { resource } = synth();
  const changed = JSON.parse(
    JSON.stringify(resource).replace('NfqueuePacketsPerSecond', 'OtherPacketsPerSecond'),
  ) as never;
  expect(() => draw(changed)).toThrow(/OtherPacketsPerSecond: the sample fleet has no such metric/);
});

test.each([
  ['MetricName=\\\\\\"Degraded', 'MetricName=\\\\\\"Other', "Other: the sample fleet's gateways have no such metric"],
  ["SEARCH('{", "SEARCH(' {", 'not the form of a search that lab/aws/search.ts reads'],
  ['modified * attached', 'modified * other', "'other' is no metric of it"],
])('a graph of %s, changed to %s, is refused, not drawn empty', (from, to, reason) => {
  const text = JSON.stringify(synth().resource);
  expect(text).toContain(from);
  expect(() => draw(JSON.parse(text.replace(from, to)) as never)).toThrow(reason);
});
