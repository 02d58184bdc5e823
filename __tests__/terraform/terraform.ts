// SPDX-License-Identifier: Apache-2.0
// What the tests that run Terraform share: skipping where there is none, and reading what a plan would do.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { RunResult } from '../../lab/support/host';
import { type Project, terraformMissing } from '../../lab/terraform/project';

const MISSING = terraformMissing();
// jest lists no tests of a file in which all are skipped.
if (MISSING) process.stderr.write(`SKIPPED, what needs Terraform: ${MISSING}\n`);

/** A test that needs Terraform. Where there is none it is reported as skipped, with the reason. */
export function terraformTest(title: string, body: jest.EmptyFunction | (() => Promise<void>)): void {
  if (MISSING) test.skip(`${title} (SKIPPED: ${MISSING})`, body);
  else test(title, body);
}

interface ResourceChange {
  readonly address: string;
  readonly mode: 'managed' | 'data';
  readonly type: string;
  readonly change: {
    readonly actions: readonly string[];
    readonly before: unknown;
    readonly after: unknown;
    readonly after_unknown: unknown;
  };
}

interface PlanJson {
  readonly resource_changes?: readonly ResourceChange[];
  readonly output_changes?: Readonly<Record<string, { readonly actions: readonly string[] }>>;
}

/** One resource that a plan touches. */
export interface Touched {
  readonly type: string;
  /** `create`, `update`, `delete`; two of them for a replacement. */
  readonly actions: readonly string[];
  /** Attributes that an update changes, as `block.0.attribute`, sorted. */
  readonly changed: readonly string[];
}

export interface Planned {
  readonly resources: readonly Touched[];
  /** Outputs that change. */
  readonly outputs: readonly string[];
}

/** Synthesizes with these variables and plans, as `cdktf diff` does where it has initialized Terraform. */
export async function plan(project: Project, variables: NodeJS.ProcessEnv): Promise<RunResult> {
  const synth = await project.synth(variables);
  return synth.code === 0 ? project.terraform(['plan', '-input=false', '-out=plan']) : synth;
}

/** Synthesizes with these variables and applies, as `cdktf deploy` does where it has initialized Terraform. */
export async function apply(project: Project, variables: NodeJS.ProcessEnv): Promise<RunResult> {
  const planned = await plan(project, variables);
  return planned.code === 0 ? project.terraform(['apply', '-input=false', 'plan']) : planned;
}

/** What a deployment with these variables would do. */
export async function plannedWith(project: Project, variables: NodeJS.ProcessEnv): Promise<Planned> {
  const { code, stdout: said, stderr } = await plan(project, variables);
  if (code !== 0) throw new Error(`terraform plan: exit code ${code}\n${said}${stderr}`);
  const { stdout } = await project.terraform(['show', '-json', 'plan']);
  const { resource_changes = [], output_changes = {} } = JSON.parse(stdout) as PlanJson;
  const managed = resource_changes.filter(({ mode }) => mode === 'managed');
  return {
    resources: managed.filter(({ change }) => touches(change.actions)).map(touched),
    outputs: Object.entries(output_changes).flatMap(([name, { actions }]) => (touches(actions) ? name : [])),
  };
}

function touches(actions: readonly string[]): boolean {
  return !isDeepStrictEqual(actions, ['no-op']);
}

function touched({ type, change: { actions, before, after, after_unknown } }: ResourceChange): Touched {
  const changed = isDeepStrictEqual(actions, ['update']) ? differences(before, after, after_unknown).sort() : [];
  return { type, actions, changed };
}

function differences(before: unknown, after: unknown, unknown: unknown, at: readonly string[] = []): string[] {
  if (unknown === true) return [at.join('.')];
  const [from, to, later] = [before, after, unknown].map(membersOf);
  if (!from || !to) return isDeepStrictEqual(before, after) ? [] : [at.join('.')];
  const names = new Set([...Object.keys(from), ...Object.keys(to), ...Object.keys(later ?? {})]);
  return [...names].flatMap((name) => differences(from[name], to[name], later?.[name], [...at, name]));
}

function membersOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
}

export interface StateResource {
  readonly mode: string;
  readonly type: string;
  readonly instances: readonly { readonly attributes: Readonly<Record<string, unknown>> }[];
}

/** What the project's local state holds, data sources included. */
export function stateOf(project: Project): readonly StateResource[] {
  const [file] = fs.readdirSync(project.folder).filter((name) => name.endsWith('.tfstate'));
  if (!file) throw new Error(`${project.folder}: no state`);
  return (
    JSON.parse(fs.readFileSync(path.join(project.folder, file), 'utf8')) as { resources: readonly StateResource[] }
  ).resources;
}

/** The attributes of the only resource of a type. */
export function onlyInState(project: Project, type: string): Readonly<Record<string, unknown>> {
  const found = stateOf(project).filter((each) => each.mode === 'managed' && each.type === type);
  const [only, ...others] = found.flatMap(({ instances }) => instances);
  if (only && others.length === 0) return only.attributes;
  throw new Error(`${found.length} ${type} in the state, there must be one`);
}
