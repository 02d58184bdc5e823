// SPDX-License-Identifier: Apache-2.0
// Times that the function and its deployment must agree on. The stack deploys with these very numbers.

/** How long one invocation may run. */
export const TIMEOUT_SECONDS = 120;

/** How often Lambda delivers an event again after a failure. */
export const MAXIMUM_RETRIES = 2;

/** Lambda drops an event that is older than this; it must end well before the lifecycle hook does. */
export const MAXIMUM_EVENT_AGE_SECONDS = 300;

/** The lifecycle hook must wait longer than its margin below, by time enough for a launch. */
export const SHORTEST_HEARTBEAT_SECONDS = 120;

const MINUTE_MS = 60_000;

/** Lambda waits this long before the first and before the second retry. */
export const RETRY_DELAYS_MS = [MINUTE_MS, 2 * MINUTE_MS] as const;

/** What an invocation keeps of its time, to abandon the launch and to clean up. */
export const CLEANUP_MS = 30_000;

/** What it keeps to end by itself rather than to be killed. */
export const EXIT_MS = 3_000;

/** Work ends this long before the hook does. */
export const HOOK_MARGIN_MS = 45_000;

/** An interface that belongs to nobody is deleted when it is older. No launch takes that long. */
export const ORPHAN_AGE_MS = 60 * MINUTE_MS;
