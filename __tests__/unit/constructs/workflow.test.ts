// SPDX-License-Identifier: Apache-2.0
// The GitHub workflow: who gets a token and when, that nothing it calls is missing here, and what a reviewer is shown.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { parse } from 'yaml';
import { REPOSITORY } from '../../../constructs/user-data/user-data';

interface Step {
  readonly uses?: string;
  readonly run?: string;
  readonly with?: Readonly<Record<string, string>>;
}

interface Job {
  readonly needs?: string | readonly string[];
  readonly if?: string;
  readonly environment?: string;
  readonly permissions?: Readonly<Record<string, string>>;
  readonly steps: readonly Step[];
}

const text = fs.readFileSync(path.join(REPOSITORY, '.github/workflows/deploy.yml'), 'utf8');
const workflow = parse(text) as { permissions: object; jobs: Record<'unit' | 'test' | 'diff' | 'deploy', Job> };
const { unit, test: tests, diff, deploy } = workflow.jobs;

function commands({ steps }: Job): string {
  return steps.map(({ run }) => run ?? '').join('\n');
}

function comment(diffText: string): string {
  return spawnSync(path.join(REPOSITORY, '.ci/diff-comment'), { input: diffText, encoding: 'utf8' }).stdout;
}

describe('the workflow', () => {
  test('shows a diff after the unit tests, which take minutes, and deploys after all', () => {
    expect(commands(tests).trim()).toBe('.ci/run');
    expect(commands(unit)).toContain('npm run test-unit');
    expect([unit.needs, tests.needs]).toEqual([undefined, undefined]);
    expect([diff.needs, deploy.needs]).toEqual(['unit', ['unit', 'test']]);
  });

  test('takes its roles by OIDC, one for reading and one for deploying, and stores no key', () => {
    const roles = [diff, deploy].map(({ steps }) => steps.find(({ uses }) => uses?.startsWith('aws-actions/'))?.with);
    expect(roles.map((role) => role?.['role-to-assume'])).toEqual([
      '${{ vars.AWS_DIFF_ROLE_ARN }}',
      '${{ vars.AWS_DEPLOY_ROLE_ARN }}',
    ]);
    expect(text).not.toMatch(/secrets\.|aws-access-key|aws-secret/i);
  });

  test('lets only the jobs that speak to AWS have a token, and no fork', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' });
    expect([unit.permissions, tests.permissions]).toEqual([undefined, undefined]);
    expect(diff.permissions).toEqual({ contents: 'read', 'id-token': 'write', 'pull-requests': 'write' });
    expect(deploy.permissions).toEqual({ contents: 'read', 'id-token': 'write' });
    expect(diff.if).toContain('github.event.pull_request.head.repo.full_name == github.repository');
  });

  test('deploys main only, behind the approval of an environment', () => {
    expect(parse(text)).toMatchObject({ on: { push: { branches: ['main'] } } });
    expect(deploy).toMatchObject({ environment: 'production', if: "github.event_name == 'push'" });
    expect(commands(diff)).not.toContain('cdktf deploy');
  });

  test('splices nothing that a pull request may choose into a script', () => {
    expect(Object.values(workflow.jobs).map(commands).join('\n')).not.toContain('${{');
  });

  test('runs programs that are here', () => {
    const scripts = Object.values(workflow.jobs).flatMap((job) => commands(job).match(/\.ci\/[a-z-]+/g) ?? []);
    expect([...new Set(scripts)].sort()).toEqual(['.ci/diff-comment', '.ci/run']);
    for (const script of scripts)
      expect(() => fs.accessSync(path.join(REPOSITORY, script), fs.constants.X_OK)).not.toThrow();
  });
});

describe('the comment on a pull request', () => {
  test('has the verdict in sight and the plan folded, without colours', () => {
    const made = comment('\u001b[32m  + create\u001b[0m\n  Plan: 2 to add, 0 to change, 0 to destroy.\n');
    expect(made).toMatch(/^### cdktf diff\n\nPlan: 2 to add, 0 to change, 0 to destroy\.\n\n<details>/);
    expect(made).toContain('\n  + create\n');
    expect(made).not.toContain('\u001b');
  });

  test('shows an error as its verdict', () => {
    expect(comment('│ Error: No valid credential sources found\n')).toContain(
      '\n\nError: No valid credential sources found\n\n',
    );
  });

  test('fits what GitHub takes, whatever the size, and says that it was cut', () => {
    const made = comment(`${'é'.repeat(9000)}\n`.repeat(20) + `${'long line '.repeat(20)}\n`.repeat(2000));
    expect(made.length).toBeLessThan(65_536);
    expect(made).toContain('\nCut after ');
    expect(made).toContain('\n~~~\n\n</details>\n');
  });
});
