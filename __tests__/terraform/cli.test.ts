// SPDX-License-Identifier: Apache-2.0
// The real cdktf CLI on a copy of the project, as an operator runs it: what a switch changes, what a mistake prints, and
// that two runs of one commit leave the same bytes.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { REPOSITORY, unpackUserData } from '../../constructs/user-data/user-data';
import { Project } from '../../lab/terraform/project';

interface Run {
  readonly code: number;
  readonly output: string;
  readonly project: Project;
}

const STACK_TRACE = /^\s+at .*:\d+:\d+\)?$/m;

const projects: Project[] = [];

function newProject(): Project {
  const project = new Project();
  projects.push(project);
  return project;
}

function editContext({ folder }: Project, settings: Record<string, unknown>): void {
  const file = path.join(folder, 'cdktf.json');
  const project = JSON.parse(fs.readFileSync(file, 'utf8')) as { context: Record<string, unknown> };
  fs.writeFileSync(file, JSON.stringify({ ...project, context: { ...project.context, ...settings } }));
}

async function synth(project: Project, settings: NodeJS.ProcessEnv = {}): Promise<Run> {
  const { code, stdout, stderr } = await project.cdktf(['synth'], settings);
  return { code, output: stdout + stderr, project };
}

function synthesized({ project }: Run): Record<string, string> {
  const out = path.join(project.folder, 'cdktf.out');
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

afterAll(() => projects.forEach((project) => project.remove()));

test('two synths of one commit leave the same bytes, without this machine’s paths', async () => {
  const [first, second] = await Promise.all([synth(newProject()), synth(newProject())]);
  expect([first.code, second.code]).toEqual([0, 0]);
  expect(Object.keys(synthesized(first))).toContain('stacks/mirror-gateway/cdk.tf.json');
  expect(synthesized(second)).toEqual(synthesized(first));
  for (const text of Object.values(synthesized(first))) {
    expect([REPOSITORY, first.project.folder, os.homedir()].filter((place) => text.includes(place))).toEqual([]);
  }
});

test('the environment flips the engine without an edit, and an edit of cdktf.json does the same', async () => {
  const [overridden, edited] = [newProject(), newProject()];
  editContext(edited, { enable_xdp: 'false' });
  const runs = await Promise.all([synth(overridden, { MIRROR_GATEWAY_ENABLE_XDP: 'false' }), synth(edited)]);
  expect(runs.map(({ code }) => code)).toEqual([0, 0]);
  expect(runs.map(settingsOf).every((env) => env.includes('ENABLE_XDP=false\n'))).toBe(true);
  expect(synthesized(runs[0])).toEqual(synthesized(runs[1]));
});

test('a mistake prints its line, no stack trace, and fails', async () => {
  const mistake = { MIRROR_GATEWAY_ENABLE_XDP: 'yes', MIRROR_GATEWAY_VNI: '1.5' };
  const { code, output } = await synth(newProject(), mistake);
  expect(code).not.toBe(0);
  expect(output).toContain('enable_xdp (from MIRROR_GATEWAY_ENABLE_XDP) = "yes": must be true or false (write true)\n');
  expect(output).toContain(
    'vni (from MIRROR_GATEWAY_VNI) = "1.5": must be a whole number from 1 to 16777215 (fractions are not accepted)\n',
  );
  expect(output).not.toMatch(STACK_TRACE);
});

test('user data that is too large prints one line that says what to shorten, and fails', async () => {
  const project = newProject();
  const noise = Array.from({ length: 20_000 }, (_, index) => ((index * index * 7919) % 65_521).toString(36)).join('');
  fs.appendFileSync(path.join(project.folder, 'userdata/fetch_bundle.sh'), `# ${noise}\n`);
  const { code, stdout, stderr } = await project.synth();
  expect(code).toBe(1);
  expect(stdout + stderr).toMatch(
    /^user data: \d+ bytes, \d+ over the limit of 16384 \(before base64\); largest contributors in compressed bytes: \/usr\/local\/sbin\/fetch_bundle\.sh \d+, .*\n$/,
  );
});
