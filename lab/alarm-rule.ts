// SPDX-License-Identifier: Apache-2.0
// What state an alarm takes: the M-out-of-N rule of CloudWatch, which moto stores but does not apply. Source: "Configuring how
// CloudWatch alarms treat missing data", Amazon CloudWatch User Guide, whose tables are the tests of this.

export type AlarmState = 'OK' | 'ALARM' | 'INSUFFICIENT_DATA';

export interface AlarmRule {
  /** N: how many of the newest data points count. */
  readonly evaluationPeriods: number;
  /** M: how many of them must breach. */
  readonly datapointsToAlarm: number;
  readonly treatMissingData: 'missing' | 'ignore' | 'breaching' | 'notBreaching';
}

/** A period's data point: whether it breaches; undefined where there is none. */
export type DataPoint = boolean | undefined;

/** CloudWatch looks back a little farther than N, by how much it does not say; the guide's tables by two. */
export const EXTRA_PERIODS = 2;

/** `points` from the oldest to the newest, N + EXTRA_PERIODS of them. */
export function stateAfter(rule: AlarmRule, points: readonly DataPoint[], before: AlarmState): AlarmState {
  const { evaluationPeriods: n, datapointsToAlarm: m, treatMissingData } = rule;
  const real = points.filter((point) => point !== undefined);
  const breaches = real.slice(-n).filter(Boolean).length;
  // Enough real ones: then it does not matter how missing ones are treated.
  if (real.length >= n) return breaches >= m ? 'ALARM' : 'OK';
  if (treatMissingData === 'breaching') return breaches + n - real.length >= m ? 'ALARM' : 'OK';
  if (treatMissingData === 'notBreaching') return breaches >= m ? 'ALARM' : 'OK';
  if (real.length === 0) return treatMissingData === 'missing' ? 'INSUFFICIENT_DATA' : before;
  if (breaches >= m) return 'ALARM';
  if (breaches < real.length) return 'OK';
  // All that is there breaches. That is an alarm once the oldest is old enough.
  const age = points.length - points.indexOf(true);
  return treatMissingData === 'missing' && age >= m ? 'ALARM' : before;
}
