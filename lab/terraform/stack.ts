// SPDX-License-Identifier: Apache-2.0
// What a synthesized stack and its state name, read from the folder that Terraform runs in. The bindings hold more than
// two thousand types; Terraform only needs to hear of those that occur.
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';

export interface UsedTypes {
  readonly resources: readonly string[];
  readonly data: readonly string[];
}

/** The parts of cdk.tf.json that matter here. Somebody may have broken it on purpose, so all of them may be missing. */
interface Stack {
  readonly resource?: Readonly<Record<string, Readonly<Record<string, { readonly instance_type?: unknown }>>>>;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly terraform?: { readonly backend?: { readonly local?: { readonly path?: string } } };
}

interface State {
  readonly resources?: readonly { readonly mode: string; readonly type: string }[];
}

/** Types in the stack, and those that are still in its local state. */
export function usedTypes(folder: string): UsedTypes {
  const stack = stackIn(folder);
  const stored = stateOf(folder, stack).resources ?? [];
  const storedAs = (mode: string): string[] => stored.filter((each) => each.mode === mode).map(({ type }) => type);
  return {
    resources: unique([...Object.keys(stack.resource ?? {}), ...storedAs('managed')]),
    data: unique([...Object.keys(stack.data ?? {}), ...storedAs('data')]),
  };
}

/** Instance types of the stack's launch templates. */
export function launchedTypes(folder: string): readonly string[] {
  const templates = Object.values(stackIn(folder).resource?.aws_launch_template ?? {});
  return templates.map((each) => each.instance_type).filter((type) => typeof type === 'string');
}

function stackIn(folder: string): Stack {
  return read<Stack>(resolve(folder, 'cdk.tf.json'));
}

function stateOf(folder: string, { terraform }: Stack): State {
  return read<State>(resolve(folder, terraform?.backend?.local?.path ?? 'terraform.tfstate'));
}

/** A JSON file that may not be there, or not be filled yet: Terraform creates its state empty, to have something to lock. */
function read<T extends object>(file: string): Partial<T> {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return text === '' ? {} : (JSON.parse(text) as T);
}

function unique(types: readonly string[]): string[] {
  return [...new Set(types)].sort();
}
