// SPDX-License-Identifier: Apache-2.0
// What the tests of the rollout function share.
import { Refused } from '../../../../lab/aws/auto-scaling';

/** Longer than three gateways take. */
export const FINISHED_MINUTES = 60;

/** Nothing is interfered with. */
export const sleepless = {
  before: (): Refused | 'silence' | undefined => undefined,
  after: (): Refused | 'silence' | undefined => undefined,
  refusal: (code: string, status: number) => new Refused(code, 'injected', status),
};
