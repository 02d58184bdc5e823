// SPDX-License-Identifier: Apache-2.0
// What to do next, from what is seen. Nothing is remembered between invocations: wherever one stopped, the next one goes on
// from there.

/** One instance refresh, as Auto Scaling lists it. */
export interface Refresh {
  readonly id: string;
  readonly status: string;
  /** Of the template, that it brings; undefined where it was started without a desired configuration. */
  readonly version: string | undefined;
  readonly reason: string;
  readonly percent: number;
  readonly started: Date | undefined;
  readonly ended: Date | undefined;
}

export interface Group {
  /** Of the template, that the group is saved with: what it launches while nothing is rolled out, and rolls back to. */
  readonly saved: string;
  /** Of the gateways that run, where it is known. */
  readonly running: readonly string[];
  readonly size: number;
  readonly going: boolean;
}

export interface Seen {
  /** Undefined: there is none, or not yet. */
  readonly group: Group | undefined;
  /** The template's default version, which Terraform sets. */
  readonly wanted: string;
  /** Latest first. */
  readonly refreshes: readonly Refresh[];
}

export type Step =
  | { readonly next: 'nothing'; readonly why: string }
  | { readonly next: 'wait'; readonly why: string }
  | { readonly next: 'cancel'; readonly refresh: Refresh }
  | { readonly next: 'start' };

const ACTIVE: ReadonlySet<string> = new Set(['Pending', 'InProgress', 'Baking', 'Cancelling', 'RollbackInProgress']);

/** One at a time is all that Auto Scaling allows. */
export function activeOf(refreshes: readonly Refresh[]): Refresh | undefined {
  return refreshes.find(({ status }) => ACTIVE.has(status));
}

export function hasEnded({ status }: Refresh): boolean {
  return !ACTIVE.has(status);
}

function besides(active: Refresh, { saved }: Group, wanted: string): Step {
  const { status, version = saved } = active;
  if (status === 'Cancelling') return { next: 'wait', why: `the rollout to version ${version} is being cancelled` };
  if (version === wanted && status === 'RollbackInProgress') {
    return { next: 'nothing', why: `version ${wanted} is being rolled back` };
  }
  if (version === wanted) return { next: 'nothing', why: `version ${wanted} is being rolled out` };
  if (status === 'RollbackInProgress' && saved === wanted) {
    return { next: 'nothing', why: `version ${wanted} is being rolled back to` };
  }
  return { next: 'cancel', refresh: active };
}

/**
 * The next step towards the version that is wanted.
 *
 * @param asked somebody asks for it now. Without that a version is tried once: what was rolled back, failed or was
 * cancelled is somebody's to look at.
 */
export function decide({ group, wanted, refreshes }: Seen, asked: boolean): Step {
  if (wanted === '') return { next: 'nothing', why: 'the launch template is not there' };
  if (!group || group.going) return { next: 'nothing', why: 'the group is not there, or being deleted' };
  const active = activeOf(refreshes);
  if (active) return besides(active, group, wanted);
  if (group.saved === wanted && group.running.every((version) => version === wanted)) {
    return { next: 'nothing', why: `version ${wanted} runs everywhere` };
  }
  const [last] = refreshes;
  if (!asked && last && (last.version ?? group.saved) === wanted) {
    return { next: 'nothing', why: `the rollout to version ${wanted} ended: ${last.status}` };
  }
  return { next: 'start' };
}
