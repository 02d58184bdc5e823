// SPDX-License-Identifier: Apache-2.0
// The evaluator of alarms against the tables of "Configuring how CloudWatch alarms treat missing data" (Amazon CloudWatch User
// Guide, alarms-and-missing-data.html): 0 within the threshold, X breaching it, - missing, the newest on the right.
import {
  type AlarmRule,
  comparisonOf,
  evaluate,
  evaluationRange,
  type State,
  treatmentOf,
} from '../../../lab/aws/alarm-rule';

const RETAINED = 'retained';
type Outcome = State | typeof RETAINED;
type Row = readonly [points: string, missing: Outcome, ignore: Outcome, breaching: Outcome, notBreaching: Outcome];

const THREE_OF_THREE: readonly Row[] = [
  ['0 - X - X', 'OK', 'OK', 'OK', 'OK'],
  ['0 - - - -', 'OK', 'OK', 'OK', 'OK'],
  ['- - - - -', 'INSUFFICIENT_DATA', RETAINED, 'ALARM', 'OK'],
  ['0 X X - X', 'ALARM', 'ALARM', 'ALARM', 'ALARM'],
  ['- - X - -', 'ALARM', RETAINED, 'ALARM', 'OK'],
];

const TWO_OF_THREE: readonly Row[] = [
  ['0 - X - X', 'ALARM', 'ALARM', 'ALARM', 'ALARM'],
  ['0 0 X 0 X', 'ALARM', 'ALARM', 'ALARM', 'ALARM'],
  ['0 - X - -', 'OK', 'OK', 'ALARM', 'OK'],
  ['- - - - 0', 'OK', 'OK', 'ALARM', 'OK'],
  ['- - - X -', 'ALARM', RETAINED, 'ALARM', 'OK'],
];

const SIGNS: Readonly<Record<string, number | undefined>> = { '0': 0, X: 1, '-': undefined };
const STATES: readonly State[] = ['OK', 'ALARM', 'INSUFFICIENT_DATA'];

function above(threshold: number, evaluationPeriods: number, datapointsToAlarm = evaluationPeriods): AlarmRule {
  const treatMissingData = 'missing';
  return { comparison: 'GreaterThanThreshold', threshold, evaluationPeriods, datapointsToAlarm, treatMissingData };
}

const pointsOf = (text: string) => text.split(' ').map((sign) => SIGNS[sign]);

function checkRow(m: number, [text, ...outcomes]: Row): void {
  const treatments = ['missing', 'ignore', 'breaching', 'notBreaching'] as const;
  for (const state of STATES) {
    const found = treatments.map((treatMissingData) =>
      evaluate({ ...above(0.5, 3, m), treatMissingData }, pointsOf(text), state),
    );
    expect(found).toEqual(outcomes.map((outcome) => (outcome === RETAINED ? state : outcome)));
  }
}

describe('an alarm, as AWS’s tables have it,', () => {
  test.each(THREE_OF_THREE)('of 3 out of 3 after %s is %s, %s, %s, %s', (...row) => checkRow(3, row));
  test.each(TWO_OF_THREE)('of 2 out of 3 after %s is %s, %s, %s, %s', (...row) => checkRow(2, row));

  test.each(['- - - - X', '- - - X -'])('of 3 out of 3 does not fire early after %s', (text) => {
    STATES.forEach((state) => expect(evaluate(above(0.5, 3), pointsOf(text), state)).toBe(state));
  });

  test.each(['- - - X 0', '- - X - 0'])('of 3 out of 3 was right not to, after %s', (text) => {
    expect(evaluate(above(0.5, 3), pointsOf(text), 'OK')).toBe('OK');
  });
});

describe('an alarm', () => {
  test('forgets what is older than its evaluation range, and needs no more than N of it', () => {
    const rule = above(0.5, 3);
    expect(evaluationRange(rule)).toBe(5);
    expect(evaluate(rule, pointsOf('X X X - - - - -'), 'ALARM')).toBe('INSUFFICIENT_DATA');
    expect(evaluate(rule, pointsOf('X X X 0 0'), 'ALARM')).toBe('OK');
  });

  test('takes no fill where enough is real', () => {
    expect(evaluate({ ...above(0.5, 3), treatMissingData: 'breaching' }, pointsOf('0 0 - - X'), 'OK')).toBe('OK');
  });

  test.each([
    ['GreaterThanThreshold', [false, false, true]],
    ['GreaterThanOrEqualToThreshold', [false, true, true]],
    ['LessThanThreshold', [true, false, false]],
    ['LessThanOrEqualToThreshold', [true, true, false]],
  ])('by %s fires below, at and above its threshold: %j', (operator, fires) => {
    const rule = { ...above(10, 1), comparison: comparisonOf(operator) };
    expect([9, 10, 11].map((value) => evaluate(rule, [value], 'OK') === 'ALARM')).toEqual(fires);
  });

  test('of a kind that is not known here is refused, not guessed', () => {
    expect(() => comparisonOf('LessThanLowerThreshold')).toThrow(
      "comparison 'LessThanLowerThreshold': none of GreaterThanThreshold, ",
    );
    expect(() => treatmentOf('perhaps')).toThrow("treatment of missing data 'perhaps': none of missing, ");
    expect(treatmentOf(undefined)).toBe('missing');
  });
});
