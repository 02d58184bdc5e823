// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the alarm on silent gateways, as synthesized, minute by minute: groups of any size, samples that are lost,
// rollouts.
import { comparisonOf, evaluate, type State, treatmentOf } from '../../../lab/aws/alarm-rule';
import { compute, type Points } from '../../../lab/aws/metric-math';
import { Random } from '../../support/random';
import { type Body, only, synth } from './synthesized';

const alarm = only(synth(), 'aws_cloudwatch_metric_alarm', { alarm_name: 'mirror-gateway-silent-gateway' });
const rule = {
  comparison: comparisonOf(alarm.comparison_operator as string),
  threshold: alarm.threshold as number,
  evaluationPeriods: alarm.evaluation_periods as number,
  datapointsToAlarm: alarm.datapoints_to_alarm as number,
  treatMissingData: treatmentOf(alarm.treat_missing_data as string),
};
const [{ expression }] = alarm.metric_query as readonly [Body];

/** In service, and which of them report, in a minute. */
type Fleet = (minute: number) => { readonly inService: number; readonly reporting: number };

/** From minute to minute; it was OK before. */
function statesOf(minutes: number, fleet: Fleet, samplesOf: (reporting: number) => number): State[] {
  const told = Array.from({ length: minutes }, (_, minute) => fleet(minute));
  const samples: Points = told.map(({ reporting }) => samplesOf(reporting) || undefined);
  const points = compute(String(expression), { in_service: told.map(({ inService }) => inService), samples });
  let state: State = 'OK';
  return points.map((_, minute) => (state = evaluate(rule, points.slice(0, minute + 1), state)));
}

const exact = (reporting: number) => 6 * reporting;

/** One in so many never arrives. That a sample which is late counts in its own minute is for the script's tests. */
function losing(one: number): (reporting: number) => number {
  const random = new Random(7);
  return (reporting) => Array.from({ length: exact(reporting) }, () => random.below(one)).filter(Boolean).length;
}

const WEEK = 7 * 24 * 60;
const whole =
  (size: number): Fleet =>
  () => ({ inService: size, reporting: size });
const lacking =
  (size: number): Fleet =>
  () => ({ inService: size, reporting: size - 1 });

describe('the alarm on silent gateways', () => {
  test.each([2, 10])('stays OK for a week in a group of %d which one sample in thirty is lost', (size) => {
    expect(new Set(statesOf(WEEK, whole(size), losing(30)))).toEqual(new Set(['OK']));
  });

  test.each([2, 10, 500])('fires after 15 minutes without one of %d, and no earlier', (size) => {
    const states = statesOf(20, lacking(size), exact);
    expect(states.indexOf('ALARM')).toBe(14);
    expect(states.slice(14)).toEqual(Array<State>(6).fill('ALARM'));
  });

  test.each([2, 10])('fires without one of %d while others lose samples, too', (size) => {
    expect(statesOf(15, lacking(size), losing(30)).at(-1)).toBe('ALARM');
  });

  test('is over a minute after the last one reports again', () => {
    const fleet: Fleet = (minute) => ({ inService: 10, reporting: minute < 20 ? 9 : 10 });
    expect(statesOf(22, fleet, exact).slice(19)).toEqual(['ALARM', 'OK', 'OK']);
  });

  test.each([1, 2, 10])('stays OK in a rollout to %d gateways, each of which takes nine minutes to build', (size) => {
    // The next one is launched ten minutes after the last; the predecessor leaves then.
    const fleet: Fleet = (minute) => ({ inService: size + 1, reporting: minute % 10 < 9 ? size : size + 1 });
    expect(new Set(statesOf(10 * size + 20, fleet, exact))).toEqual(new Set(['OK']));
  });

  test('has no data where nobody reports: that is another alarm', () => {
    const states = statesOf(40, (minute) => ({ inService: 2, reporting: minute < 10 ? 2 : 0 }), exact);
    expect(states).not.toContain('ALARM');
    expect(states.at(-1)).toBe('INSUFFICIENT_DATA');
  });
});
