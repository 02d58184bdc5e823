// SPDX-License-Identifier: Apache-2.0
// checkov on a synthesized stack. It reads no suppressions out of JSON, so its findings are held against those that the
// constructs put beside their resources (constructs/checkov.ts), resource by resource.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../support/host';
import { pythonTool } from '../support/python-tools';

/** One finding that nobody has explained, or one explained. */
export interface Finding {
  readonly check: string;
  readonly resource: string;
  readonly text: string;
}

export interface CheckovResult {
  readonly passed: number;
  /** Failed, and not skipped at the resource. */
  readonly failed: readonly Finding[];
  /** Failed and skipped; the text is the reason. */
  readonly skipped: readonly Finding[];
  /** Skipped although they do not fail: they would hide a later fault. */
  readonly stale: readonly Finding[];
}

interface Report {
  readonly summary: { readonly passed: number; readonly parsing_errors: number };
  readonly results: {
    readonly failed_checks: readonly {
      readonly check_id: string;
      readonly resource: string;
      readonly check_name: string;
    }[];
  };
}

interface Stack {
  readonly resource: Readonly<Record<string, Readonly<Record<string, { readonly '//'?: Metadata }>>>>;
}

interface Metadata {
  readonly checkov?: { readonly skip: readonly { readonly id: string; readonly comment: string }[] };
}

/** Checks the folder of one synthesized stack. */
export async function checkov(folder: string): Promise<CheckovResult> {
  const { summary, results } = await reportOn(folder);
  if (summary.parsing_errors > 0) throw new Error(`checkov: ${folder}: ${summary.parsing_errors} files it cannot read`);
  const skips = skipsOf(JSON.parse(readFileSync(join(folder, 'cdk.tf.json'), 'utf8')) as Stack);
  // checkov names a resource by its kind of block or by its type, depending on the check; the last part is its own name.
  const findings = results.failed_checks.map(({ check_id, resource, check_name }) => {
    return { check: check_id, resource: resource.split('.').at(-1) ?? resource, text: check_name };
  });
  const isSkipped = (one: Finding) => skips.some((skip) => same(skip, one));
  return {
    passed: summary.passed,
    failed: findings.filter((finding) => !isSkipped(finding)),
    skipped: skips.filter((skip) => findings.some((finding) => same(skip, finding))),
    stale: skips.filter((skip) => !findings.some((finding) => same(skip, finding))),
  };
}

function same(one: Finding, other: Finding): boolean {
  return one.check === other.check && one.resource === other.resource;
}

async function reportOn(folder: string): Promise<Report> {
  const args = [
    '--directory',
    folder,
    '--framework',
    'terraform_json',
    '--output',
    'json',
    '--quiet',
    '--soft-fail',
    '--skip-download',
  ];
  const { code, stdout, stderr } = await run(pythonTool('checkov'), args, { timeoutMs: 120_000 });
  if (code !== 0) throw new Error(`checkov: exit code ${code}: ${stderr.trim().split('\n').slice(-3).join(' ')}`);
  return JSON.parse(stdout) as Report;
}

function skipsOf({ resource }: Stack): Finding[] {
  return Object.values(resource).flatMap((type) =>
    Object.entries(type).flatMap(([name, body]) =>
      (body['//']?.checkov?.skip ?? []).map(({ id, comment }) => ({ check: id, resource: name, text: comment })),
    ),
  );
}
