// SPDX-License-Identifier: Apache-2.0
// lab/aws/service_models.py on synthesized stacks: each line a fault that AWS would find.
import { join } from 'node:path';
import { run } from '../support/host';
import { pythonTool } from '../support/python-tools';

export interface Held {
  readonly faults: readonly string[];
  /** Resources whose call's input was checked. */
  readonly checked: number;
}

/** @param folders each with a cdk.tf.json; or a policy in a .json file, to be held against what they need */
export async function heldAgainstModels(folders: readonly string[]): Promise<Held> {
  const { stdout, stderr } = await run(pythonTool('python3'), [join(__dirname, 'service_models.py'), ...folders]);
  const lines = stdout.trimEnd().split('\n');
  const [, checked] = /^(\d+) resources held/.exec(lines.at(-1) ?? '') ?? [];
  if (checked === undefined) throw new Error(`service_models.py: ${stdout}${stderr}`);
  return { faults: lines.slice(0, -1), checked: Number(checked) };
}
