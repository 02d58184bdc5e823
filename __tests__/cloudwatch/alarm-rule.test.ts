// SPDX-License-Identifier: Apache-2.0
// The rule by which alarms take states, on the tables of CloudWatch's own page on missing data: X breaches, 0 does not, - is
// missing; the newest comes last.
import { type AlarmRule, type AlarmState, stateAfter } from '../../lab/alarm-rule';

const POINTS: Readonly<Record<string, boolean>> = { X: true, '0': false };
const RETAINED = 'retained';
const TREATMENTS = ['missing', 'ignore', 'breaching', 'notBreaching'] as const;
const STATES = ['OK', 'ALARM', 'INSUFFICIENT_DATA'] as const;

type Row = [points: string, ...states: (AlarmState | typeof RETAINED)[]];

const THREE_OF_THREE: readonly Row[] = [
  ['0-X-X', 'OK', 'OK', 'OK', 'OK'],
  ['----0', 'OK', 'OK', 'OK', 'OK'],
  ['-----', 'INSUFFICIENT_DATA', RETAINED, 'ALARM', 'OK'],
  ['0XX-X', 'ALARM', 'ALARM', 'ALARM', 'ALARM'],
  ['--X--', 'ALARM', RETAINED, 'ALARM', 'OK'],
];
const TWO_OF_THREE: readonly Row[] = [
  ['0-X-X', 'ALARM', 'ALARM', 'ALARM', 'ALARM'],
  ['00X0X', 'ALARM', 'ALARM', 'ALARM', 'ALARM'],
  ['0-X--', 'OK', 'OK', 'ALARM', 'OK'],
  ['----0', 'OK', 'OK', 'ALARM', 'OK'],
  ['---X-', 'ALARM', RETAINED, 'ALARM', 'OK'],
];

function check(rule: Omit<AlarmRule, 'treatMissingData'>, [points, ...states]: Row): void {
  const read = [...points].map((point) => POINTS[point]);
  for (const before of STATES) {
    const taken = TREATMENTS.map((treatMissingData) => stateAfter({ ...rule, treatMissingData }, read, before));
    expect({ points, states: taken }).toEqual({
      points,
      states: states.map((state) => (state === RETAINED ? before : state)),
    });
  }
}

describe('an alarm', () => {
  test.each<Row>(THREE_OF_THREE)(
    'that needs three of three takes of %s: missing %s, ignore %s, breaching %s, notBreaching %s',
    (...row) => check({ evaluationPeriods: 3, datapointsToAlarm: 3 }, row),
  );
  test.each<Row>(TWO_OF_THREE)(
    'that needs two of three takes of %s: missing %s, ignore %s, breaching %s, notBreaching %s',
    (...row) => check({ evaluationPeriods: 3, datapointsToAlarm: 2 }, row),
  );

  test('does not take a first breach after silence for a lasting one', () => {
    const rule = { evaluationPeriods: 3, datapointsToAlarm: 3, treatMissingData: 'missing' } as const;
    const points = [undefined, undefined, undefined, undefined, true];
    expect(stateAfter(rule, points, 'INSUFFICIENT_DATA')).toBe('INSUFFICIENT_DATA');
    expect(stateAfter(rule, points, 'OK')).toBe('OK');
  });
});
