// SPDX-License-Identifier: Apache-2.0
// The synthesized stacks before checkov: nothing fails but what is skipped at the resource, with a reason.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { checkov, type CheckovResult } from '../../lab/aws/checkov';
import { Project } from '../../lab/terraform/project';
import { EVERY_OPTION } from '../unit/constructs/synthesized';

/** More would be a policy of its own. */
const MOST_SKIPPED = 10;

let project: Project;

beforeAll(() => {
  project = new Project();
});

afterAll(() => project.remove());

async function synthesized(settings: Record<string, unknown>): Promise<string> {
  const variables = Object.entries(settings).map(([key, value]) => [
    `MIRROR_GATEWAY_${key.toUpperCase()}`,
    String(value),
  ]);
  const { code, stdout, stderr } = await project.synth(Object.fromEntries(variables) as NodeJS.ProcessEnv);
  if (code !== 0) throw new Error(`synth: exit code ${code}\n${stdout}${stderr}`);
  return project.stackFolder();
}

function checksOf(result: CheckovResult): string[] {
  return [...new Set(result.skipped.map(({ check }) => check))].sort();
}

test.each([
  ['XDP', {}],
  ['netfilter alone', { enable_xdp: 'false' }],
  ['every option on', EVERY_OPTION],
])('a stack with %s fails no check, and skips at most ten for a reason', async (_, settings) => {
  const result = await checkov(await synthesized(settings));
  expect(result.failed).toEqual([]);
  expect(result.stale).toEqual([]);
  expect(result.passed).toBeGreaterThan(100);
  expect(checksOf(result).length).toBeLessThanOrEqual(MOST_SKIPPED);
  result.skipped.forEach(({ text }) => expect(text.length).toBeGreaterThan(40));
});

test('a resource that fails a check is found, and a skip that is not needed too', async () => {
  const folder = await synthesized({});
  const file = path.join(folder, 'cdk.tf.json');
  const stack = JSON.parse(fs.readFileSync(file, 'utf8')) as { resource: Record<string, Record<string, object>> };
  const [[name = '', template = {}] = []] = Object.entries(stack.resource.aws_launch_template ?? {});
  const open = {
    metadata_options: { http_tokens: 'optional' },
    '//': { checkov: { skip: [{ id: 'CKV_AWS_1', comment: '' }] } },
  };
  stack.resource.aws_launch_template = { [name]: { ...template, ...open } };
  fs.writeFileSync(file, JSON.stringify(stack));
  const { failed, stale } = await checkov(folder);
  expect(failed).toContainEqual(expect.objectContaining({ check: 'CKV_AWS_79', resource: name }));
  expect(stale).toEqual([expect.objectContaining({ check: 'CKV_AWS_1', resource: name })]);
});
