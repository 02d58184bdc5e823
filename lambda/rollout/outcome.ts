// SPDX-License-Identifier: Apache-2.0
// How a rollout ended, in one line for whoever gets the alarms, and as a metric.
import type { FunctionMetric } from '../shared/metrics';
import type { Refresh } from './decide';

/** What is known beside the refresh itself. */
export interface Surroundings {
  readonly stack: string;
  readonly size: number;
  /** What the group was saved with when the rollout began. */
  readonly before: string | undefined;
  readonly saved: string;
  readonly wanted: string;
  /** By version. */
  readonly descriptions: ReadonlyMap<string, string>;
}

export interface Outcome {
  readonly subject: string;
  readonly line: string;
  readonly metric: FunctionMetric;
}

const METRICS: Readonly<Record<string, FunctionMetric>> = {
  Successful: 'RolloutsSucceeded',
  RollbackSuccessful: 'RolloutsRolledBack',
  Cancelled: 'RolloutsCancelled',
};
const WORDS: Readonly<Record<string, string>> = {
  Successful: 'rollout succeeded',
  RollbackSuccessful: 'rollout rolled back',
  Cancelled: 'rollout cancelled',
  RollbackFailed: 'ROLLBACK FAILED',
};
const MINUTE_MS = 60_000;

function minutes({ started, ended }: Refresh): string {
  if (!started || !ended) return '';
  return ` in ${Math.max(1, Math.round((ended.getTime() - started.getTime()) / MINUTE_MS))} min`;
}

function named(version: string | undefined, { descriptions }: Surroundings): string {
  if (version === undefined) return 'an unknown version';
  const description = descriptions.get(version);
  return description ? `version ${version} (${description})` : `version ${version}`;
}

function summaryOf(refresh: Refresh, around: Surroundings): string {
  const { size, before, saved } = around;
  const after = named(refresh.version ?? saved, around);
  const replaced = Math.round((refresh.percent / 100) * size);
  const done = `${replaced} of ${size} gateways`;
  if (refresh.status === 'Successful') {
    return `${after} has replaced ${named(before, around)} on ${size} of ${size} gateways${minutes(refresh)}`;
  }
  if (refresh.status === 'RollbackSuccessful') {
    return `${after} had been put on ${done}; all run ${named(saved, around)} again`;
  }
  return `${after} was put on ${done}; the group is saved with ${named(saved, around)}`;
}

/** The outcome of a refresh that has ended. */
export function outcomeOf(refresh: Refresh, around: Surroundings): Outcome {
  const { stack, wanted, saved } = around;
  const subject = `${stack}: ${WORDS[refresh.status] ?? 'ROLLOUT FAILED'}`;
  const superseded = refresh.status === 'Cancelled' && wanted !== (refresh.version ?? saved);
  const parts = [
    summaryOf(refresh, around),
    ...(superseded ? [`version ${wanted} is wanted now`] : []),
    ...(refresh.status !== 'Successful' && refresh.reason ? [`reason: ${refresh.reason}`] : []),
  ];
  const metric = METRICS[refresh.status] ?? 'RolloutsFailed';
  return { subject: subject.slice(0, 100), line: `${subject}: ${parts.join('; ')}`, metric };
}
