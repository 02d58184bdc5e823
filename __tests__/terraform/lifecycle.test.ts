// SPDX-License-Identifier: Apache-2.0
// The stack's life through the real Terraform, deployments and a diff through the real cdktf: what a deployment creates, what a switch touches and
// what it leaves alone, and that nothing stays behind.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { GATEWAY_INTERFACE } from '../../lab/terraform/answers';
import { Project } from '../../lab/terraform/project';
import type { RunResult } from '../../lab/support/host';
import { onlyInState, plan, plannedWith, stateOf, terraformTest, type Touched } from './terraform';

const WITHOUT_XDP = { MIRROR_GATEWAY_ENABLE_XDP: 'false' };
/** The call of the rollout function. */
const NEW_VERSION = { actions: ['delete', 'create'], changed: [], type: 'aws_lambda_invocation' };
const NEW_CONTENT = {
  actions: ['update'],
  changed: ['default_version', 'description', 'latest_version', 'user_data'],
  type: 'aws_launch_template',
};

let project: Project;
let deployed: RunResult;

beforeAll(async () => {
  project = new Project();
  deployed = await project.cdktf(['deploy', '--auto-approve']);
});

afterAll(() => project.remove());

function isAlarm({ type }: Touched): boolean {
  return type === 'aws_cloudwatch_metric_alarm';
}

function byType(one: Touched, other: Touched): number {
  return one.type < other.type ? -1 : 1;
}

interface Stack {
  readonly resource: Readonly<Record<string, object>>;
}

terraformTest('a first deployment creates everything that the stack declares', () => {
  const { resource } = JSON.parse(fs.readFileSync(path.join(project.stackFolder(), 'cdk.tf.json'), 'utf8')) as Stack;
  const declared = Object.values(resource).reduce((count, each) => count + Object.keys(each).length, 0);
  expect(deployed).toMatchObject({ code: 0 });
  expect(deployed.stdout).toContain(`Apply complete! Resources: ${declared} added, 0 changed, 0 destroyed.`);
  expect(stateOf(project).filter(({ mode }) => mode === 'managed').length).toBeGreaterThan(0);
  return Promise.resolve();
});

terraformTest('a second diff has nothing to do', async () => {
  const { code, stdout } = await project.cdktf(['diff']);
  expect(code).toBe(0);
  expect(stdout).toContain('No changes. Your infrastructure matches the configuration.');
});

terraformTest(
  'enable_xdp=false has a new template version rolled out, removes the two alarms on XDP, and touches nothing else',
  async () => {
    const { resources, outputs } = await plannedWith(project, WITHOUT_XDP);
    expect(resources.filter((each) => !isAlarm(each)).sort(byType)).toEqual([NEW_VERSION, NEW_CONTENT]);
    expect(resources.filter(isAlarm).map(({ actions }) => actions.join())).toEqual(['delete', 'delete']);
    expect(outputs).toEqual([]);
  },
);

terraformTest('xdp_traffic_percent has a new template version rolled out and touches nothing else', async () => {
  const { resources, outputs } = await plannedWith(project, { MIRROR_GATEWAY_XDP_TRAFFIC_PERCENT: '50' });
  expect([...resources].sort(byType)).toEqual([NEW_VERSION, NEW_CONTENT]);
  expect(outputs).toEqual([]);
});

terraformTest('health_port moves the health check and the rules that let it through, together', async () => {
  const { resources } = await plannedWith(project, { MIRROR_GATEWAY_HEALTH_PORT: '8080' });
  const changes = resources.map(({ type, changed }) => `${type}: ${changed.join(', ')}`);
  expect(changes).toContain('aws_lb_target_group: health_check.0.port');
  expect(changes).toContain('aws_vpc_security_group_egress_rule: from_port, to_port');
  expect(changes).toContain('aws_vpc_security_group_ingress_rule: from_port, to_port');
});

terraformTest('a mirror source gets a session of its own, unless it is a gateway', async () => {
  const { resources } = await plannedWith(project, { MIRROR_GATEWAY_MIRROR_SOURCE_ENI_IDS: 'eni-0123456789abcdef0' });
  expect(resources).toEqual([{ type: 'aws_ec2_traffic_mirror_session', actions: ['create'], changed: [] }]);
  const own = { MIRROR_GATEWAY_MIRROR_SOURCE_ENI_IDS: `eni-0123456789abcdef0,${GATEWAY_INTERFACE}` };
  const { code, stdout, stderr } = await plan(project, own);
  expect(code).not.toBe(0);
  expect((stdout + stderr).replace(/[\s│╷╵]+/g, ' ')).toContain(
    `mirror_source_eni_ids: ${GATEWAY_INTERFACE} is an interface of a gateway of mirror-gateway, which cannot mirror itself; remove it.`,
  );
});

terraformTest('the rollback, once applied, has the next version rolled out, and leaves nothing to do', async () => {
  const { code } = await project.cdktf(['deploy', '--auto-approve'], WITHOUT_XDP);
  expect(code).toBe(0);
  expect(onlyInState(project, 'aws_launch_template')).toMatchObject({ latest_version: 2, default_version: 2 });
  // The group follows when the new version runs everywhere: rollout.test.ts.
  expect(onlyInState(project, 'aws_autoscaling_group')).toMatchObject({ launch_template: [{ version: '1' }] });
  expect(await plannedWith(project, WITHOUT_XDP)).toEqual({ resources: [], outputs: [] });
});

terraformTest('destroy leaves an empty state', async () => {
  const { code } = await project.cdktf(['destroy', '--auto-approve']);
  expect(code).toBe(0);
  expect(stateOf(project)).toEqual([]);
});
