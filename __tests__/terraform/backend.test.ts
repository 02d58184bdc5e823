// SPDX-License-Identifier: Apache-2.0
// State in S3: Terraform accepts the stack, the state is encrypted and locked, and a bucket of moto's keeps it over real
// HTTP from one command to the next.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Project } from '../../lab/terraform/project';
import { startMoto } from '../../lab/aws/moto';
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
  expect(await project.synth(variables)).toMatchObject({ code: 0 });
  expect(await project.terraform(['init', '-backend=false'])).toMatchObject({ code: 0 });
  const { stdout } = await project.terraform(['validate', '-json']);
  expect(JSON.parse(stdout)).toMatchObject({ valid: true, error_count: 0 });
  const stack = JSON.parse(fs.readFileSync(path.join(project.stackFolder(), 'cdk.tf.json'), 'utf8')) as Stack;
  expect(stack.terraform.backend).toEqual({
    s3: { bucket: 'some-bucket', key: 'gateway/state', region: 'eu-central-1', encrypt: true, use_lockfile: true },
  });
});

terraformTest(
  'through the bucket a deployment is there for the next diff, which takes and returns the lock',
  async () => {
    const moto = await startMoto();
    const bucket = `http://127.0.0.1:${moto.port}/some-bucket`;
    const variables = {
      MIRROR_GATEWAY_STATE_BUCKET: 'some-bucket',
      AWS_ENDPOINT_URL: `http://127.0.0.1:${moto.port}`,
      AWS_ACCESS_KEY_ID: 'nobody',
      AWS_SECRET_ACCESS_KEY: 'nothing',
      // An address has no subdomains for buckets.
      TF_CLI_ARGS_init: '-backend-config=use_path_style=true',
    };
    try {
      await fetch(bucket, { method: 'PUT' });
      expect(await project.cdktf(['deploy', '--auto-approve'], variables)).toMatchObject({ code: 0 });
      const { code, stdout } = await project.cdktf(['diff'], variables);
      expect(code).toBe(0);
      expect(stdout).toContain('No changes. Your infrastructure matches the configuration.');
      const keys = [...(await (await fetch(bucket)).text()).matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => key);
      expect(keys).toEqual(['mirror-gateway/terraform.tfstate']);
      await fetch(`${bucket}/mirror-gateway/terraform.tfstate.tflock`, { method: 'PUT', body: '{"ID":"somebody"}' });
      const locked = await project.cdktf(['diff'], variables);
      expect(locked.code).not.toBe(0);
      expect(locked.stdout + locked.stderr).toContain('Error acquiring the state lock');
      // What the workflow's diff does, whose role may not write.
      expect(await project.cdktf(['diff'], { ...variables, TF_CLI_ARGS_plan: '-lock=false' })).toMatchObject({
        code: 0,
      });
    } finally {
      await moto.stop();
    }
  },
);
