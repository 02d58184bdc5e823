// SPDX-License-Identifier: Apache-2.0
// Checks of checkov that a resource does not pass on purpose. checkov reads no suppressions out of JSON, so they travel in
// the resource's "//" block, which Terraform ignores, and lab/aws/checkov.ts holds the findings against them.
import type { TerraformResource } from 'cdktf';

/** Says, at the resource, why a check does not apply to it. */
export function skipChecks<T extends TerraformResource>(resource: T, reasons: Readonly<Record<string, string>>): T {
  resource.addOverride('//.checkov', { skip: Object.entries(reasons).map(([id, comment]) => ({ id, comment })) });
  return resource;
}
