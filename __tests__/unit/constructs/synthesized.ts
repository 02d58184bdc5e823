// SPDX-License-Identifier: Apache-2.0
// What the tests of the constructs share: a stack from a few settings, synthesized with cdktf's validations on, and ways
// to find a resource in it.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { AwsProvider } from '@cdktf/provider-aws/lib/provider';
import { TerraformStack, Testing } from 'cdktf';
import { loadConfig } from '../../../constructs/config/load';
import { GatewayStack } from '../../../constructs/gateway-stack';
import { baseName } from '../../../constructs/config/names';
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

// Testing.app() reads this variable behind our back, and the CLI sets it.
function newApp() {
  delete process.env.CDKTF_CONTEXT_JSON;
  return Testing.app({ stackTraces: false });
}

export function newStack(settings: Body = {}): GatewayStack {
  const config = loadConfig({ ...REQUIRED, ...settings }, {});
  return new GatewayStack(newApp(), baseName(config), { config, eniPackagePath: BUNDLE, rolloutPackagePath: BUNDLE });
}

export function synth(settings: Body = {}): Synthesized {
  return JSON.parse(Testing.synth(newStack(settings), true)) as Synthesized;
}

/** Somebody else's stack, with whatever it puts there. */
export function synthOwn(build: (stack: TerraformStack) => void): Synthesized {
  const stack = new TerraformStack(newApp(), 'own');
  new AwsProvider(stack, 'aws', { region: 'eu-central-1' });
  build(stack);
  return JSON.parse(Testing.synth(stack, true)) as Synthesized;
}

export function all(stack: Synthesized, type: string): readonly Body[] {
  return Object.values(stack.resource[type] ?? {});
}

function entry(stack: Synthesized, type: string, attributes: Body): [name: string, body: Body] {
  const found = Object.entries(stack.resource[type] ?? {}).filter(([, body]) =>
    Object.entries(attributes).every(([key, value]) => body[key] === value),
  );
  const [first, ...more] = found;
  if (first && more.length === 0) return first;
  throw new Error(`${found.length} of ${type}; the stack has ${Object.keys(stack.resource).join(', ')}`);
}

/** The only resource of a type that has these attributes; says what there is instead when there is not exactly one. */
export function only(stack: Synthesized, type: string, attributes: Body = {}): Body {
  return entry(stack, type, attributes)[1];
}

/** How others name that resource, as in depends_on. */
export function address(stack: Synthesized, type: string, attributes: Body = {}): string {
  return `${type}.${entry(stack, type, attributes)[0]}`;
}

/** How others refer to an attribute of that resource. */
export function reference(stack: Synthesized, type: string, attribute: string, attributes: Body = {}): string {
  return `\${${address(stack, type, attributes)}.${attribute}}`;
}

/** An attribute that holds JSON. */
export function parsed<T>(attribute: unknown): T {
  return JSON.parse(attribute as string) as T;
}

/** The same without what changes whenever a file of the bundle or of the function does. */
export function withoutBundle(stack: Synthesized): Synthesized {
  const placeholders: Record<string, (value: string) => string> = {
    user_data: () => '<user data>',
    source_code_hash: () => '<hash>',
    content_base64: () => '<bundle>',
    filename: (value) => value.replace(/\/[0-9a-f]{32}\//, '/<hash>/'),
    description: (value) => value.replace(/\b(settings|bundle) [0-9a-f]{12}\b/g, '$1 <hash>'),
  };
  return JSON.parse(JSON.stringify(stack), (key, value: unknown) =>
    typeof value === 'string' && placeholders[key] ? placeholders[key](value) : value,
  ) as Synthesized;
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

/** What the whole stack must hold for, whichever way it is configured. */
export const VARIANTS: readonly (readonly [name: string, settings: Body])[] = [
  ['XDP', {}],
  ['netfilter alone', { enable_xdp: 'false' }],
  ['every option on', EVERY_OPTION],
];

export function warnings(settings: Body): string[] {
  return newStack(settings)
    .node.findAll()
    .flatMap(({ node }) => node.metadata)
    .filter(({ type }) => type.startsWith('@cdktf/'))
    .map(({ type, data }) => `${type}: ${String(data)}`);
}
