// SPDX-License-Identifier: Apache-2.0
// Times that the function and its deployment must agree on. The stack deploys with these very numbers.

/** How long one invocation may run. */
export const TIMEOUT_SECONDS = 120;

/** How often Lambda delivers an event again after a failure. */
export const MAXIMUM_RETRIES = 2;

/** Lambda drops an event that is older. The schedule comes by before that. */
export const MAXIMUM_EVENT_AGE_SECONDS = 900;

/** How often the function looks by itself, in minutes: events are sent on a best-effort basis (ADR 9). */
export const LOOKS_EVERY_MINUTES = 5;

/** What an invocation keeps to end by itself rather than to be killed. */
export const EXIT_MS = 5_000;

/** Of the time, what reporting may take before the rollout's turn comes. */
export const REPORTING_SHARE = 0.3;

/** How long the template's default version may lag behind what Terraform has just written. */
export const SETTLING_MS = 20_000;
