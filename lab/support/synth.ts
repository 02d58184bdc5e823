// SPDX-License-Identifier: Apache-2.0
// The user data as EC2 would get it and the bundle as S3 would: synthesized by cdktf itself, then read out of the stack's
// JSON.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StoredBundle } from '../aws/bucket';
import { must, REPOSITORY } from './host';

export interface Synthesized {
  readonly userData: Buffer;
  /** What a reviewer reads in place of the opaque user data. */
  readonly description: string;
  readonly bundle: StoredBundle;
  readonly seconds: number;
}

type Body = Readonly<Record<string, string | undefined>>;

interface Stack {
  readonly provider: { readonly aws: readonly { readonly region: string }[] };
  readonly resource: Readonly<Record<string, Readonly<Record<string, Body>>>>;
}

/**
 * Runs `cdktf synth` with the checked-in context and the given overrides (keys of cdktf.json).
 *
 * @throws Error when the synth fails, or its stack has not exactly one launch template and one bundle
 */
export async function synthesize(overrides: Readonly<Record<string, string | number | boolean>>): Promise<Synthesized> {
  const output = await mkdtemp(join(tmpdir(), 'cdktf.out-'));
  const startedAt = Date.now();
  try {
    const changed = Object.entries(overrides).map(([key, value]) => [variable(key), String(value)]);
    const env = { ...process.env, CHECKPOINT_DISABLE: '1', ...Object.fromEntries(changed) } as NodeJS.ProcessEnv;
    await must('npx', ['cdktf', 'synth', '--output', output], { cwd: REPOSITORY, env, timeoutMs: 180_000 });
    const stack = await onlyStack(join(output, 'stacks'));
    const { user_data: userData, description } = only(stack, 'aws_launch_template');
    return {
      userData: Buffer.from(wanted(userData), 'base64'),
      description: wanted(description),
      bundle: bundleOf(stack),
      seconds: (Date.now() - startedAt) / 1000,
    };
  } finally {
    await rm(output, { recursive: true, force: true });
  }
}

function variable(key: string): string {
  return `MIRROR_GATEWAY_${key.toUpperCase()}`;
}

async function onlyStack(stacks: string): Promise<Stack> {
  const [name, ...more] = await readdir(stacks);
  if (name === undefined || more.length > 0) throw new Error('the app must synthesize exactly one stack');
  return JSON.parse(await readFile(join(stacks, name, 'cdk.tf.json'), 'utf8')) as Stack;
}

function only(stack: Stack, type: string, name?: string): Body {
  const found = Object.values(stack.resource[type] ?? {}).filter((body) => name === undefined || body.name === name);
  const [first] = found;
  if (first && found.length === 1) return first;
  throw new Error(`the synthesized stack has ${found.length} of ${type} ${name ?? ''}, there must be one`);
}

function wanted(value: string | undefined): string {
  if (value !== undefined) return value;
  throw new Error('the synthesized stack lacks something that every gateway needs');
}

function bundleOf(stack: Stack): StoredBundle {
  const object = only(stack, 'aws_s3_object');
  return {
    region: wanted(stack.provider.aws[0]?.region),
    bucket: wanted(only(stack, 'aws_s3_bucket').bucket),
    key: wanted(object.key),
    content: Buffer.from(wanted(object.content_base64), 'base64'),
    policy: wanted(only(stack, 'aws_iam_role_policy', 'read-bundle').policy),
  };
}
