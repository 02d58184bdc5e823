// SPDX-License-Identifier: Apache-2.0
// The user data as EC2 would get it: synthesized by cdktf itself, then read out of the launch template's JSON.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must, REPOSITORY } from './host';

export interface Synthesized {
  readonly userData: Buffer;
  /** What a reviewer reads in place of the opaque user data. */
  readonly description: string;
  readonly seconds: number;
}

interface LaunchTemplate {
  readonly user_data?: string;
  readonly description?: string;
}

/**
 * Runs `cdktf synth` with the checked-in context and the given overrides (keys of cdktf.json).
 *
 * @throws Error when the synth fails, or its stack has not exactly one launch template with user data
 */
export async function synthesize(overrides: Readonly<Record<string, string | number | boolean>>): Promise<Synthesized> {
  const output = await mkdtemp(join(tmpdir(), 'cdktf.out-'));
  const startedAt = Date.now();
  try {
    const changed = Object.entries(overrides).map(([key, value]) => [variable(key), String(value)]);
    const env = { ...process.env, CHECKPOINT_DISABLE: '1', ...Object.fromEntries(changed) } as NodeJS.ProcessEnv;
    await must('npx', ['cdktf', 'synth', '--output', output], { cwd: REPOSITORY, env, timeoutMs: 180_000 });
    const template = await launchTemplate(join(output, 'stacks'));
    if (!template.user_data) throw new Error('the launch template has no user_data');
    return {
      userData: Buffer.from(template.user_data, 'base64'),
      description: template.description ?? '',
      seconds: (Date.now() - startedAt) / 1000,
    };
  } finally {
    await rm(output, { recursive: true, force: true });
  }
}

function variable(key: string): string {
  return `MIRROR_GATEWAY_${key.toUpperCase()}`;
}

async function launchTemplate(stacks: string): Promise<LaunchTemplate> {
  const found: LaunchTemplate[] = [];
  for (const stack of await readdir(stacks)) {
    const text = await readFile(join(stacks, stack, 'cdk.tf.json'), 'utf8');
    const { resource = {} } = JSON.parse(text) as { resource?: Record<string, Record<string, LaunchTemplate>> };
    found.push(...Object.values(resource.aws_launch_template ?? {}));
  }
  const [only] = found;
  if (only && found.length === 1) return only;
  throw new Error(`the synthesized stack has ${found.length} launch templates, there must be one`);
}
