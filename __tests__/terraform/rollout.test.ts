// SPDX-License-Identifier: Apache-2.0
// Rollouts through real Terraform, the function's own code and AWS's stand-in over HTTP: after each scenario, which version the
// group is saved with, which runs, what the topic got, and what a diff shows. First those that Terraform's own way of
// rolling out (instance_refresh) fails, to show that the stand-in is as strict as AWS.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Project } from '../../lab/terraform/project';
import type { RunResult } from '../../lab/support/host';
import { FINISHED_MINUTES } from '../aws/lambda/rollout/fixtures';
import { ALARM, FakeAws, GROUP } from '../aws/lambda/rollout/fake-aws';
import { stateOf, terraformTest } from './terraform';

type Block = Record<string, unknown>;
interface Stack {
  check?: object;
  output?: object;
  resource: Record<string, Record<string, Block>>;
}

const GATEWAYS = 3;
const FIRST = {};
// Everything here goes through Terraform itself: cdktf around it is lifecycle.test.ts's.
const NETFILTER = { MIRROR_GATEWAY_ENABLE_XDP: 'false' };
const HALF = { MIRROR_GATEWAY_XDP_TRAFFIC_PERCENT: '50' };
/** A change that makes no version. */
const OTHER_THRESHOLD = { MIRROR_GATEWAY_PPS_ALARM_THRESHOLD: '5000' };

let aws: FakeAws;
let project: Project;
let stateFile: string;
let deployed: string;
const stacks = new Map<object, string>();

beforeAll(async () => {
  aws = await FakeAws.create();
  project = new Project(aws.endpoint.url);
  for (const variables of [NETFILTER, HALF, OTHER_THRESHOLD, FIRST]) {
    const size = { MIRROR_GATEWAY_MIN_INSTANCES: String(GATEWAYS), MIRROR_GATEWAY_MIRRORING_INSTANCE_COUNT: '6' };
    const all = { ...size, ...variables };
    expect(await project.synth(all)).toMatchObject({ code: 0 });
    const stack = JSON.parse(fs.readFileSync(stackFile(), 'utf8')) as Stack;
    stacks.set(variables, JSON.stringify(thatRollsOut(stack)));
  }
  write(FIRST, () => undefined);
  expect(await project.terraform(['init', '-input=false'])).toMatchObject({ code: 0 });
  expect(await apply(FIRST)).toMatchObject({ code: 0 });
  const [name = ''] = fs.readdirSync(project.folder).filter((each) => each.endsWith('.tfstate'));
  stateFile = path.join(project.folder, name);
  deployed = fs.readFileSync(stateFile, 'utf8');
});

afterAll(async () => {
  project.remove();
  await aws.destroy();
});

beforeEach(() => {
  fs.writeFileSync(stateFile, deployed);
  aws.renew(GATEWAYS);
});

/** The stack without what no rollout touches, which takes most of Terraform's time; lifecycle.test.ts has the whole. */
function thatRollsOut(stack: Stack): Stack {
  const ROOTS = ['aws_autoscaling_group', 'aws_lambda_invocation'];
  const kept = new Set<string>();
  const keep = (type: string, name: string): void => {
    const body = stack.resource[type]?.[name];
    if (!body || kept.has(`${type}.${name}`)) return;
    kept.add(`${type}.${name}`);
    const references = JSON.stringify({ ...body, depends_on: [] });
    for (const [, its = '', named = ''] of references.matchAll(/\b(aws_\w+)\.([\w-]+)/g)) keep(its, named);
  };
  ROOTS.forEach((type) => Object.keys(stack.resource[type] ?? {}).forEach((name) => keep(type, name)));
  const resource: Stack['resource'] = {};
  for (const [type, bodies] of Object.entries(stack.resource)) {
    const left = Object.entries(bodies).filter(([name]) => kept.has(`${type}.${name}`));
    const waiting = left.map(([name, body]): [string, Block] => {
      const after = ((body.depends_on as string[] | undefined) ?? []).filter((each) => kept.has(each));
      return [name, { ...body, depends_on: after }];
    });
    if (left.length > 0) resource[type] = Object.fromEntries(waiting);
  }
  return { ...stack, output: undefined, resource }; // an empty one is no valid block
}

function stackFile(): string {
  return path.join(project.stackFolder(), 'cdk.tf.json');
}

function write(variables: object, change: (stack: Stack) => void): void {
  const stack = JSON.parse(stacks.get(variables) ?? '') as Stack;
  change(stack);
  fs.writeFileSync(stackFile(), JSON.stringify(stack));
}

function apply(variables: object, change: (stack: Stack) => void = () => undefined): Promise<RunResult> {
  write(variables, change);
  return project.terraform(['apply', '-auto-approve', '-input=false']);
}

/** What a diff says, without line breaks and frames. */
async function diff(variables: object, change: (stack: Stack) => void = () => undefined): Promise<string> {
  write(variables, change);
  const { code, stdout, stderr } = await project.terraform(['plan', '-input=false']);
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return (stdout + stderr).replace(/[\s│╷╵]+/g, ' ');
}

const NOTHING = 'No changes. Your infrastructure matches the configuration.';
const saidDue = (saved: string, wanted: string) =>
  `version ${wanted} is deployed, but the gateways' group is still on version ${saved}`;

const savedAndRunning = () => ({ saved: aws.group.saved, running: aws.group.running.join() });
const told = () => aws.endpoint.published.map(({ subject }) => subject.replace('mirror-gateway: ', ''));

/** The stack with Terraform's own way of rolling out, as it was before docs/adr/0009-rollouts.md. */
function old(stack: Stack): void {
  delete stack.check;
  delete stack.resource.aws_lambda_invocation;
  for (const group of Object.values(stack.resource.aws_autoscaling_group ?? {})) {
    group.lifecycle = { ignore_changes: ['desired_capacity', 'suspended_processes'] };
    group.instance_refresh = {
      strategy: 'Rolling',
      preferences: {
        ...{ auto_rollback: true, min_healthy_percentage: 100, max_healthy_percentage: 200 },
        alarm_specification: { alarms: [ALARM] },
      },
    };
  }
}
describe('by Terraform alone', () => {
  let before: string | undefined;
  beforeEach(async () => {
    if (before === undefined) expect(await apply(FIRST, old)).toMatchObject({ code: 0 });
    before ??= fs.readFileSync(stateFile, 'utf8');
    fs.writeFileSync(stateFile, before);
    aws.renew(GATEWAYS);
  });

  terraformTest('a bad version is rolled back to itself, and the fleet never gets well', async () => {
    aws.group.becomesHealthy = (version) => version !== '2';
    expect(await apply(NETFILTER, old)).toMatchObject({ code: 0 });
    expect(aws.group.saved).toBe('2');
    aws.group.pass(300);
    expect(aws.group.saved).toBe('2');
    expect(aws.group.refreshes[0]?.rollsBackTo).toBe('2');
  });

  terraformTest('a revert in mid-rollout is refused', async () => {
    expect(await apply(NETFILTER, old)).toMatchObject({ code: 0 });
    aws.group.pass(15);
    const { code, stdout, stderr } = await apply(FIRST, old);
    expect(code).not.toBe(0);
    expect((stdout + stderr).replace(/[\s│╷╵]+/g, ' ')).toContain(
      'An active instance refresh with a desired configuration exists',
    );
    aws.group.pass(FINISHED_MINUTES);
    expect(savedAndRunning()).toEqual({ saved: '2', running: '2,2,2' });
  });

  terraformTest(
    'an alarm without data keeps the rollout from starting, and the group is saved with what never ran',
    async () => {
      aws.endpoint.alarms.set(ALARM, 'INSUFFICIENT_DATA');
      expect((await apply(NETFILTER, old)).code).not.toBe(0);
      aws.group.pass(FINISHED_MINUTES);
      expect(savedAndRunning()).toEqual({ saved: '2', running: '1,1,1' });
      aws.endpoint.alarms.set(ALARM, 'OK');
      await apply(NETFILTER, old);
      aws.group.pass(FINISHED_MINUTES);
      expect(aws.group.running.join()).toBe('1,1,1');
    },
  );
});

describe('by the function', () => {
  terraformTest('a flip of enable_xdp: the diff is empty after it, and says what is due before', async () => {
    expect(await apply(NETFILTER)).toMatchObject({ code: 0 });
    expect(aws.group.active?.version).toBe('2');
    expect(await diff(NETFILTER)).toContain(saidDue('1', '2'));
    await aws.pass(FINISHED_MINUTES);
    expect(savedAndRunning()).toEqual({ saved: '2', running: '2,2,2' });
    expect(told()).toEqual(['rollout succeeded']);
    expect(aws.endpoint.published[0]?.message).toMatch(
      /version 2 \(netfilter \(enable_xdp false\).*has replaced version 1 .*3 of 3 gateways/,
    );
    const said = await diff(NETFILTER);
    expect(said).toContain(NOTHING);
    expect(said).not.toContain('Warning');
  });

  terraformTest('a bad version ends on the previous one; the next diff says so, and a revert works', async () => {
    aws.group.becomesHealthy = (version) => version !== '2';
    expect(await apply(NETFILTER)).toMatchObject({ code: 0 });
    await aws.pass(200);
    expect(savedAndRunning()).toEqual({ saved: '1', running: '1,1,1' });
    expect(told()).toEqual(['rollout rolled back']);
    const said = await diff(NETFILTER);
    expect(said).toContain(NOTHING);
    expect(said).toContain(saidDue('1', '2'));
    expect(await apply(FIRST)).toMatchObject({ code: 0 });
    await aws.pass(FINISHED_MINUTES);
    expect(savedAndRunning()).toEqual({ saved: '3', running: '3,3,3' });
    expect(told()).toEqual(['rollout rolled back', 'rollout succeeded']);
  });

  terraformTest('a revert in mid-rollout replaces it', async () => {
    expect(await apply(NETFILTER)).toMatchObject({ code: 0 });
    await aws.pass(15);
    expect(await apply(FIRST)).toMatchObject({ code: 0 });
    await aws.pass(FINISHED_MINUTES);
    expect(savedAndRunning()).toEqual({ saved: '3', running: '3,3,3' });
    expect(told()).toEqual(['rollout cancelled', 'rollout succeeded']);
    expect(await diff(FIRST)).toContain(NOTHING);
  });

  terraformTest(
    'a second deploy in mid-rollout replaces it, and one that changes no version leaves it alone',
    async () => {
      expect(await apply(HALF)).toMatchObject({ code: 0 });
      await aws.pass(15);
      expect(await apply(NETFILTER)).toMatchObject({ code: 0 });
      expect(aws.group.active?.version).toBe('3');
      await aws.pass(FINISHED_MINUTES);
      expect(savedAndRunning()).toEqual({ saved: '3', running: '3,3,3' });
      expect(told()).toEqual(['rollout cancelled', 'rollout succeeded']);
    },
  );

  terraformTest('an alarm without data, or one that fired before, keeps nothing from starting', async () => {
    aws.endpoint.alarms.set(ALARM, 'INSUFFICIENT_DATA');
    expect(await apply(NETFILTER)).toMatchObject({ code: 0 });
    await aws.pass(FINISHED_MINUTES);
    expect(savedAndRunning()).toEqual({ saved: '2', running: '2,2,2' });
    expect(told()).toEqual(['rollout succeeded']);
  });

  terraformTest('a function that fails fails the deploy, and the next one starts what is due', async () => {
    const { invoke } = aws.endpoint;
    aws.endpoint.invoke = () => Promise.reject(new Error('AccessDenied: injected'));
    expect((await apply(NETFILTER)).code).not.toBe(0);
    aws.endpoint.invoke = invoke;
    expect(await diff(NETFILTER)).toMatch(/aws_lambda_invocation\.rollout_start\w* will be created/);
    expect(await apply(NETFILTER)).toMatchObject({ code: 0 });
    await aws.pass(FINISHED_MINUTES);
    expect(savedAndRunning()).toEqual({ saved: '2', running: '2,2,2' });
    expect(await diff(NETFILTER)).toContain(NOTHING);
  });

  terraformTest('a fleet that is dead is brought back by a version that lives', async () => {
    // Nobody reports, so that the alarm has no data; with "missing" it would be INSUFFICIENT_DATA.
    aws.endpoint.alarms.set(ALARM, 'INSUFFICIENT_DATA');
    aws.group.becomesHealthy = (version) => version === '2';
    expect(await apply(HALF)).toMatchObject({ code: 0 });
    await aws.pass(FINISHED_MINUTES);
    expect(savedAndRunning()).toEqual({ saved: '2', running: '2,2,2' });
    expect(told()).toEqual(['rollout succeeded']);
  });

  terraformTest('launches that fail for a while delay it, for longer than an hour turn it back', async () => {
    aws.group.refusesLaunch = () => 'no capacity';
    expect(await apply(NETFILTER)).toMatchObject({ code: 0 });
    await aws.pass(30);
    expect(aws.group.active?.status).toBe('InProgress');
    await aws.pass(60);
    expect(savedAndRunning()).toEqual({ saved: '1', running: '1,1,1' });
    expect(told()).toEqual(['rollout rolled back']);
    expect(aws.lines.filter(({ facts }) => facts.LaunchesFailed === 1).length).toBeGreaterThan(30);
  });

  terraformTest('destroy in mid-rollout cancels it and leaves nothing', async () => {
    expect(await apply(NETFILTER)).toMatchObject({ code: 0 });
    await aws.pass(5);
    const { group } = aws;
    expect(await project.terraform(['destroy', '-auto-approve', '-input=false'])).toMatchObject({ code: 0 });
    expect({ deleted: group.deleted, name: group.name, left: stateOf(project) }).toEqual({
      deleted: true,
      name: GROUP,
      left: [],
    });
    expect(group.refreshes.map(({ status }) => status)).toEqual(['Cancelled']);
  });
});
