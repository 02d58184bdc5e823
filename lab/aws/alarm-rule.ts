// SPDX-License-Identifier: Apache-2.0
// How CloudWatch comes from the data points of a metric to the state of its alarm: M breaching ones out of N, and what counts
// where some are missing ("Evaluating an alarm" and "Configuring how CloudWatch alarms treat missing data", Amazon CloudWatch
// User Guide, AlarmThatSendsEmail.html and alarms-and-missing-data.html). The test has that page's tables, row by row.

export type State = 'OK' | 'ALARM' | 'INSUFFICIENT_DATA';

const COMPARISONS = {
  GreaterThanThreshold: (value: number, threshold: number) => value > threshold,
  GreaterThanOrEqualToThreshold: (value: number, threshold: number) => value >= threshold,
  LessThanThreshold: (value: number, threshold: number) => value < threshold,
  LessThanOrEqualToThreshold: (value: number, threshold: number) => value <= threshold,
} as const;

const TREATMENTS = ['missing', 'ignore', 'breaching', 'notBreaching'] as const;

export interface AlarmRule {
  readonly comparison: keyof typeof COMPARISONS;
  readonly threshold: number;
  /** N. */
  readonly evaluationPeriods: number;
  /** M. */
  readonly datapointsToAlarm: number;
  readonly treatMissingData: (typeof TREATMENTS)[number];
}

/** What of the page's rule a string stands for, or the reason why this evaluator is no judge of the alarm. */
export function comparisonOf(operator: string | undefined): AlarmRule['comparison'] {
  if (operator !== undefined && operator in COMPARISONS) return operator as AlarmRule['comparison'];
  throw new Error(
    `comparison '${operator}': none of ${Object.keys(COMPARISONS).join(', ')}; extend lab/aws/alarm-rule.ts`,
  );
}

export function treatmentOf(treatment = 'missing'): AlarmRule['treatMissingData'] {
  const known = TREATMENTS.find((each) => each === treatment);
  if (known) return known;
  throw new Error(`treatment of missing data '${treatment}': none of ${TREATMENTS.join(', ')}`);
}

/**
 * The periods that an evaluation looks at. CloudWatch takes more than N, so that real data points can stand in for missing
 * ones, but how many more it does not say; in the page's tables it is two.
 */
export function evaluationRange({ evaluationPeriods }: Pick<AlarmRule, 'evaluationPeriods'>): number {
  return evaluationPeriods + 2;
}

/** The state after an evaluation of these data points, the oldest first; `undefined` is a missing one. */
export function evaluate(rule: AlarmRule, points: readonly (number | undefined)[], state: State): State {
  const { evaluationPeriods: n, datapointsToAlarm: m, treatMissingData } = rule;
  const breaches = (value: number) => COMPARISONS[rule.comparison](value, rule.threshold);
  const range = points.slice(-evaluationRange(rule));
  const real = range.filter((value) => value !== undefined);
  const breaching = real.slice(-n).filter(breaches).length;
  // As many as it takes, or more of them than can be outvoted.
  if (breaching >= m) return 'ALARM';
  const missing = n - real.length;
  if (missing <= 0) return 'OK';
  if (treatMissingData === 'breaching') return breaching + missing >= m ? 'ALARM' : 'OK';
  if (treatMissingData === 'notBreaching') return 'OK';
  if (real.some((value) => !breaches(value))) return 'OK';
  if (treatMissingData === 'ignore') return state;
  if (real.length === 0) return 'INSUFFICIENT_DATA';
  // All there is breaches. Too few to be sure, unless nothing better has come in M periods ("premature alarm state"); what
  // becomes of the state until then the page does not say, only that it is not ALARM at once.
  const age = range.length - range.findIndex((value) => value !== undefined);
  return age >= m ? 'ALARM' : state;
}
