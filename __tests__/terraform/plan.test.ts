// SPDX-License-Identifier: Apache-2.0
// `make plan` as a newcomer runs it: the whole plan or one line that says what to install, and no trace either way.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { REPOSITORY, run, type RunResult } from '../../lab/support/host';
import { terraformTest } from './terraform';

let temporary: string;

beforeEach(() => {
  temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'mirror-gateway-plan-'));
});

afterEach(() => fs.rmSync(temporary, { recursive: true }));

/** Everything but the cache that cdktf keeps for its own start. */
function leftBehind(): string[] {
  return fs.readdirSync(temporary).filter((name) => !name.startsWith('v8-compile-cache'));
}

function plan(variables: NodeJS.ProcessEnv): Promise<RunResult> {
  const args = ['-r', 'ts-node/register/transpile-only', 'lab/terraform/plan.ts'];
  const env = { ...process.env, TMPDIR: temporary, ...variables };
  return run(process.execPath, args, { cwd: REPOSITORY, env, timeoutMs: 120_000 });
}

terraformTest('shows the stack that the settings describe, and says that AWS validated nothing', async () => {
  const before = fs.readdirSync(REPOSITORY);
  const { code, stdout, stderr } = await plan({
    MIRROR_GATEWAY_NAME_PREFIX: 'newcomer',
    MIRROR_GATEWAY_STATE_BUCKET: 'a-bucket-that-needs-an-account',
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain('"newcomer-xdp-asg"');
  expect(stdout).toMatch(/Plan: [1-9][0-9]* to add, 0 to change, 0 to destroy\./);
  expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/provider .* is a stand-in .* AWS itself validated nothing/);
  expect(leftBehind()).toEqual([]);
  expect(fs.readdirSync(REPOSITORY)).toEqual(before);
});

terraformTest('a setting that is wrong fails the plan', async () => {
  const { code, stdout, stderr } = await plan({ MIRROR_GATEWAY_VNI: 'one' });
  expect(code).not.toBe(0);
  expect(stdout + stderr).toContain('vni (from MIRROR_GATEWAY_VNI) = "one"');
  expect(stdout).not.toContain('are checked');
  expect(leftBehind()).toEqual([]);
});

test('without Terraform one line says what to install', async () => {
  const { code, stdout, stderr } = await plan({ PATH: temporary });
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^plan: terraform is not on the path: install Terraform .*\n$/);
});
