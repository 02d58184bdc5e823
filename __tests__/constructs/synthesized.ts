// SPDX-License-Identifier: Apache-2.0
// What the tests of the constructs share: a stack from a few settings, synthesized with cdktf's validations on, and ways
// to find a resource in it.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { Testing } from 'cdktf';
import { loadConfig } from '../../constructs/config';
import { GatewayStack } from '../../constructs/gateway-stack';
import { baseName } from '../../constructs/names';
import { REQUIRED } from './wrong-values';

export type Body = Record<string, unknown>;

export interface Synthesized {
  readonly provider: Record<string, readonly Body[]>;
  readonly resource: Record<string, Record<string, Body>>;
  readonly data?: Record<string, Record<string, Body>>;
  readonly output: Record<string, { value: string }>;
  readonly terraform: { backend: Record<string, Body> };
}

const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'mirror-gateway-bundle-'));
/** Stands for the ENI function's zip, which has tests of its own. */
export const BUNDLE = path.join(temporary, 'eni-function.zip');
fs.writeFileSync(BUNDLE, 'not really a zip');
afterAll(() => fs.rmSync(temporary, { recursive: true, force: true }));

export function newStack(settings: Body = {}): GatewayStack {
  // Testing.app() reads this variable behind our back, and the CLI sets it.
  delete process.env.CDKTF_CONTEXT_JSON;
  const config = loadConfig({ ...REQUIRED, ...settings }, {});
  return new GatewayStack(Testing.app({ stackTraces: false }), baseName(config), { config, eniBundlePath: BUNDLE });
}

export function synth(settings: Body = {}): Synthesized {
  return JSON.parse(Testing.synth(newStack(settings), true)) as Synthesized;
}

export function all(stack: Synthesized, type: string): readonly Body[] {
  return Object.values(stack.resource[type] ?? {});
}

/** The only resource of a type that has these attributes; says what there is instead when there is not exactly one. */
export function only(stack: Synthesized, type: string, attributes: Body = {}): Body {
  const found = all(stack, type).filter((body) =>
    Object.entries(attributes).every(([key, value]) => body[key] === value),
  );
  const [body, ...more] = found;
  if (body && more.length === 0) return body;
  throw new Error(`${found.length} of ${type}; the stack has ${Object.keys(stack.resource).join(', ')}`);
}

/** Every setting that adds something to the stack. */
export const EVERY_OPTION: Body = {
  base_ami: 'ami-0123456789abcdef0',
  private_subnet_ids: 'subnet-0123456789abcdef0,subnet-0123456789abcdef1',
  secondary_subnet_ids: 'subnet-0123456789abcdef2,subnet-0123456789abcdef3',
  management_cidrs: '10.200.0.0/16',
  mirroring_instance_count: '6',
  mirror_source_eni_ids: 'eni-0123456789abcdef0,eni-0123456789abcdef1',
  mirror_filter_cidrs: '10.1.0.0/16,10.2.0.0/16',
  mirror_source_cidrs: '10.1.0.0/16,10.2.0.0/16',
  egress_cidrs: '10.20.0.0/16',
  alarm_email: 'oncall@example.com',
  state_bucket: 'example-states',
  environment: 'staging',
};

export function warnings(settings: Body): string[] {
  return newStack(settings)
    .node.findAll()
    .flatMap(({ node }) => node.metadata)
    .filter(({ type }) => type.startsWith('@cdktf/'))
    .map(({ type, data }) => `${type}: ${String(data)}`);
}
