// SPDX-License-Identifier: Apache-2.0
// The real cdktf CLI on a copy of the project, as an operator runs it: what a switch changes, what a mistake prints, and
// that two runs of one commit leave the same bytes.
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { REPOSITORY, unpackUserData } from '../../constructs/user-data/user-data';

interface Run {
  readonly status: number;
  readonly output: string;
  readonly folder: string;
}

const STACK_TRACE = /^\s+at .*:\d+:\d+\)?$/m;

const folders: string[] = [];

/** The files that synth reads, so that a test can edit them. */
function copyOfProject(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mirror-gateway-synth-'));
  folders.push(folder);
  for (const part of [
    'cdktf.json',
    'main.ts',
    'tsconfig.json',
    'package.json',
    'constructs',
    'lambda',
    'bpf',
    'netfilter',
    'userdata',
  ]) {
    fs.cpSync(path.join(REPOSITORY, part), path.join(folder, part), { recursive: true });
  }
  fs.symlinkSync(path.join(REPOSITORY, 'node_modules'), path.join(folder, 'node_modules'));
  return folder;
}

function editContext(folder: string, settings: Record<string, unknown>): void {
  const file = path.join(folder, 'cdktf.json');
  const project = JSON.parse(fs.readFileSync(file, 'utf8')) as { context: Record<string, unknown> };
  fs.writeFileSync(file, JSON.stringify({ ...project, context: { ...project.context, ...settings } }));
}

const CDKTF = [path.join(REPOSITORY, 'node_modules/.bin/cdktf'), 'synth'] as const;
/** What cdktf runs, for what needs no second look at cdktf itself. */
const APP = ['node', '-r', 'ts-node/register/transpile-only', 'main.ts'] as const;

function synth(
  folder: string,
  settings: NodeJS.ProcessEnv = {},
  [program, ...args]: typeof CDKTF | typeof APP = CDKTF,
): Promise<Run> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(?:MIRROR_GATEWAY_|CDKTF_|TF_|JEST_|NODE_)/i.test(name),
  );
  const env = { ...Object.fromEntries(inherited), CHECKPOINT_DISABLE: '1', CI: '1', ...settings };
  return new Promise((resolve) => {
    execFile(program, args, { cwd: folder, env, timeout: 100_000 }, (error, stdout, stderr) => {
      resolve({ status: error ? Number(error.code) || 1 : 0, output: stdout + stderr, folder });
    });
  });
}

function synthesized({ folder }: Run): Record<string, string> {
  const out = path.join(folder, 'cdktf.out');
  const files = fs.readdirSync(out, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const names = files.map((entry) => path.relative(out, path.join(entry.parentPath, entry.name))).sort();
  return Object.fromEntries(names.map((name) => [name, fs.readFileSync(path.join(out, name), 'utf8')]));
}

function settingsOf(run: Run): string {
  const stack = JSON.parse(synthesized(run)['stacks/mirror-gateway/cdk.tf.json'] ?? '{}') as {
    resource: { aws_launch_template: Record<string, { user_data: string }> };
  };
  const [template] = Object.values(stack.resource.aws_launch_template);
  return unpackUserData(Buffer.from(template?.user_data ?? '', 'base64')).env;
}

afterAll(() => folders.forEach((folder) => fs.rmSync(folder, { recursive: true })));

test('two synths of one commit leave the same bytes, without this machine’s paths', async () => {
  const [first, second] = await Promise.all([synth(copyOfProject()), synth(copyOfProject())]);
  expect([first.status, second.status]).toEqual([0, 0]);
  expect(Object.keys(synthesized(first))).toContain('stacks/mirror-gateway/cdk.tf.json');
  expect(synthesized(second)).toEqual(synthesized(first));
  for (const text of Object.values(synthesized(first))) {
    expect([REPOSITORY, first.folder, os.homedir()].filter((place) => text.includes(place))).toEqual([]);
  }
});

test('the environment flips the engine without an edit, and an edit of cdktf.json does the same', async () => {
  const [overridden, edited] = [copyOfProject(), copyOfProject()];
  editContext(edited, { enable_xdp: 'false' });
  const runs = await Promise.all([synth(overridden, { MIRROR_GATEWAY_ENABLE_XDP: 'false' }), synth(edited)]);
  expect(runs.map(({ status }) => status)).toEqual([0, 0]);
  expect(runs.map(settingsOf).every((env) => env.includes('ENABLE_XDP=false\n'))).toBe(true);
  expect(synthesized(runs[0])).toEqual(synthesized(runs[1]));
});

test('a mistake prints its line, no stack trace, and fails', async () => {
  const mistake = { MIRROR_GATEWAY_ENABLE_XDP: 'yes', MIRROR_GATEWAY_VNI: '1.5' };
  const { status, output } = await synth(copyOfProject(), mistake);
  expect(status).not.toBe(0);
  expect(output).toContain('enable_xdp (from MIRROR_GATEWAY_ENABLE_XDP) = "yes": must be true or false (write true)\n');
  expect(output).toContain(
    'vni (from MIRROR_GATEWAY_VNI) = "1.5": must be a whole number from 1 to 16777215 (fractions are not accepted)\n',
  );
  expect(output).not.toMatch(STACK_TRACE);
});

test('user data that is too large prints one line that says what to shorten, and fails', async () => {
  const folder = copyOfProject();
  const noise = Array.from({ length: 20_000 }, (_, index) => ((index * index * 7919) % 65_521).toString(36)).join('');
  fs.appendFileSync(path.join(folder, 'userdata/fetch_bundle.sh'), `# ${noise}\n`);
  const context = (JSON.parse(fs.readFileSync(path.join(folder, 'cdktf.json'), 'utf8')) as { context: unknown })
    .context;
  const { status, output } = await synth(folder, { CDKTF_CONTEXT_JSON: JSON.stringify(context) }, APP);
  expect(status).toBe(1);
  expect(output).toMatch(
    /^user data: \d+ bytes, \d+ over the limit of 16384 \(before base64\); largest contributors in compressed bytes: \/usr\/local\/sbin\/fetch_bundle\.sh \d+, .*\n$/,
  );
});
