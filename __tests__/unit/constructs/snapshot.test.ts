// SPDX-License-Identifier: Apache-2.0
// Each variant of the stack as a whole, to be read by whoever changes it. What only the bundle's files change is left out.
import { synth, VARIANTS, withoutBundle } from './synthesized';

// JSON in an attribute is one long line, in which nobody sees what changed.
const DOCUMENTS = ['policy', 'assume_role_policy', 'content', 'event_pattern', 'dashboard_body'];

function unfolded(key: string, value: unknown): unknown {
  return DOCUMENTS.includes(key) && typeof value === 'string' ? (JSON.parse(value) as unknown) : value;
}

test.each(VARIANTS)('the stack with %s is as it was reviewed', (_, settings) => {
  const stack: unknown = JSON.parse(JSON.stringify(withoutBundle(synth(settings))), unfolded);
  expect(stack).toMatchSnapshot();
});
