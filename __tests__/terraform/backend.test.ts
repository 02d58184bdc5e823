// SPDX-License-Identifier: Apache-2.0
// State in S3: Terraform must accept the stack, and the state must be encrypted and locked. Terraform does not speak to
// the bucket here.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Project } from '../../lab/terraform/project';
import { terraformTest } from './terraform';

let project: Project;

beforeAll(() => {
  project = new Project();
});

afterAll(() => project.remove());

interface Stack {
  readonly terraform: { readonly backend: Readonly<Record<string, unknown>> };
}

terraformTest('with state_bucket the stack is valid, and its state encrypted and locked', async () => {
  const variables = { MIRROR_GATEWAY_STATE_BUCKET: 'some-bucket', MIRROR_GATEWAY_STATE_KEY: 'gateway/state' };
  expect(await project.cdktf(['synth'], variables)).toMatchObject({ code: 0 });
  expect(await project.terraform(['init', '-backend=false'])).toMatchObject({ code: 0 });
  const { stdout } = await project.terraform(['validate', '-json']);
  expect(JSON.parse(stdout)).toMatchObject({ valid: true, error_count: 0 });
  const stack = JSON.parse(fs.readFileSync(path.join(project.stackFolder(), 'cdk.tf.json'), 'utf8')) as Stack;
  expect(stack.terraform.backend).toEqual({
    s3: { bucket: 'some-bucket', key: 'gateway/state', region: 'eu-central-1', encrypt: true, use_lockfile: true },
  });
});
