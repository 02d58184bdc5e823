// SPDX-License-Identifier: Apache-2.0
// Where Terraform keeps its state: beside cdktf.json, or in a bucket that several people and CI can share.
import { LocalBackend, S3Backend, type TerraformStack } from 'cdktf';

export interface StateBackendProps {
  readonly bucket: string;
  readonly key: string;
  readonly region: string;
}

/** State in S3, encrypted, and locked by an object beside it while somebody works on it (Terraform 1.10 or newer). */
export function keepStateInS3(stack: TerraformStack, props: StateBackendProps): void {
  new S3Backend(stack, { ...props, encrypt: true });
  // S3BackendConfig does not know the option: https://github.com/hashicorp/terraform-cdk/issues/3889
  stack.addOverride('terraform.backend.s3.use_lockfile', true);
}

/** State beside cdktf.json. By default cdktf would write that place's absolute path into the stack. */
export function keepStateLocally(stack: TerraformStack): void {
  // Terraform runs in cdktf.out/stacks/<name>.
  new LocalBackend(stack, { path: `../../../terraform.${stack.node.id}.tfstate` });
}
