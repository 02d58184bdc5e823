// SPDX-License-Identifier: Apache-2.0
// Mistakes that TypeScript lets through (overrides, tokens, hand-written expressions) must fail in Terraform, each for its
// own reason. Every case breaks a stack that plans well.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Project } from '../../lab/terraform/project';
import { terraformTest } from './terraform';

type Block = Record<string, unknown>;
interface Stack {
  resource: Record<string, Record<string, Block>>;
  data: Record<string, Record<string, Block>>;
}

interface Mistake {
  readonly what: string;
  /** Parts of what Terraform must say. */
  readonly said: readonly string[];
  readonly make: (stack: Stack) => void;
}

let project: Project;
let folder: string;
let sound: string;

beforeAll(async () => {
  project = new Project();
  expect(await project.synth()).toMatchObject({ code: 0 });
  folder = project.stackFolder();
  sound = fs.readFileSync(path.join(folder, 'cdk.tf.json'), 'utf8');
  await project.terraform(['init']);
});

afterAll(() => project.remove());

/** What Terraform says about a stack. It wraps lines and frames them, so that both are taken out. */
async function planOf(stack: Stack): Promise<{ code: number; said: string }> {
  fs.writeFileSync(path.join(folder, 'cdk.tf.json'), JSON.stringify(stack));
  const { code, stdout, stderr } = await project.terraform(['plan', '-input=false']);
  return { code, said: (stdout + stderr).replace(/[\s│╷╵]+/g, ' ') };
}

function first(stack: Stack, type: string): Block {
  const [block] = Object.values(stack.resource[type] ?? {});
  if (!block) throw new Error(`the stack has no ${type}`);
  return block;
}

terraformTest('the sound stack plans well', async () => {
  const { code, said } = await planOf(JSON.parse(sound) as Stack);
  expect(code).toBe(0);
  expect(said).toMatch(/Plan: [1-9][0-9]* to add, 0 to change, 0 to destroy\./);
});

const MISTAKES: readonly Mistake[] = [
  {
    what: 'an attribute that does not exist',
    said: ['No argument or block type is named "enable_cross_zone"'],
    make: (stack) => (first(stack, 'aws_lb').enable_cross_zone = true),
  },
  {
    what: 'an attribute in the wrong block',
    said: ['No argument or block type is named "encrypted"'],
    make: (stack) => (first(stack, 'aws_launch_template').metadata_options = { encrypted: 'true' }),
  },
  {
    what: 'a second block where there may be one',
    said: ['Too many metadata_options blocks'],
    make: (stack) => (first(stack, 'aws_launch_template').metadata_options = [{}, {}]),
  },
  {
    what: 'an attribute that only AWS can set',
    said: ['latest_version cannot be set: AWS decides its value; remove it'],
    make: (stack) => (first(stack, 'aws_launch_template').latest_version = 1),
  },
  {
    what: 'a value of the wrong type',
    said: ['Incorrect attribute value type', '"max_size": a number is required'],
    make: (stack) => (first(stack, 'aws_autoscaling_group').max_size = 'two'),
  },
  {
    what: 'one value where there must be several',
    said: ['Incorrect attribute value type', '"vpc_zone_identifier": set of string required'],
    make: (stack) => (first(stack, 'aws_autoscaling_group').vpc_zone_identifier = 'subnet-0123456789abcdef0'),
  },
  {
    what: 'a required attribute that is missing',
    said: ['Missing required argument', '"max_size" is required'],
    make: (stack) => delete first(stack, 'aws_autoscaling_group').max_size,
  },
  {
    what: 'a reference to a resource that does not exist',
    said: ['Reference to undeclared resource', '"aws_lb_target_group" "nobody"'],
    make: (stack) => (first(stack, 'aws_autoscaling_group').target_group_arns = ['${aws_lb_target_group.nobody.arn}']),
  },
  {
    what: 'a reference to an attribute that a resource does not have',
    said: ['Unsupported attribute', 'no argument, nested block, or exported attribute named "zone"'],
    make: (stack) => {
      const [name] = Object.keys(stack.resource.aws_lb ?? {});
      first(stack, 'aws_launch_template').description = `\${aws_lb.${name}.zone}`;
    },
  },
  {
    what: 'a type of resource that does not exist',
    said: ['does not support resource type "aws_lunch_template"'],
    make: (stack) => (stack.resource.aws_lunch_template = { lunch: {} }),
  },
  {
    what: 'a circle of references',
    said: ['Cycle: '],
    make: (stack) => {
      const [name] = Object.keys(stack.resource.aws_autoscaling_group ?? {});
      first(stack, 'aws_launch_template').description = `\${aws_autoscaling_group.${name}.arn}`;
    },
  },
  {
    what: 'an image of another architecture than the instances',
    said: ['base_ami must be an x86_64 image'],
    make: ({ data }) => {
      for (const parameter of Object.values(data.aws_ssm_parameter ?? {})) parameter.name = '/some/image/arm64';
    },
  },
  {
    what: 'a data source that the stand-in has no answer for',
    said: ['data aws_eip: the stand-in for the AWS provider has no answer for this type', 'lab/terraform/answers.ts'],
    make: (stack) => (stack.data.aws_eip = { some: { public_ip: '192.0.2.1' } }),
  },
];

for (const { what, said: expected, make } of MISTAKES) {
  terraformTest(`${what} makes the plan fail`, async () => {
    const stack = JSON.parse(sound) as Stack;
    make(stack);
    const { code, said } = await planOf(stack);
    expect(code).toBe(1);
    for (const part of expected) expect(said).toContain(part);
  });
}

terraformTest('an import is refused by name, as there is nothing to import', async () => {
  fs.writeFileSync(path.join(folder, 'cdk.tf.json'), sound);
  const [name] = Object.keys((JSON.parse(sound) as Stack).resource.aws_lb ?? {});
  const { code, stderr } = await project.terraform(['import', '-input=false', `aws_lb.${name}`, 'some-balancer']);
  expect(code).toBe(1);
  expect(stderr.replace(/[\s│╷╵]+/g, ' ')).toContain('aws_lb: the stand-in for the AWS provider has nothing to import');
});
