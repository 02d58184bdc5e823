// SPDX-License-Identifier: Apache-2.0
// What the lab takes for CloudWatch's metric math.
import { compute } from '../../../lab/aws/metric-math';

const metrics = { a: [12, 8, undefined], b: [2, 4, 1] };

describe('an expression', () => {
  test.each([
    ['a', [12, 8, undefined]],
    ['a * b', [24, 32, undefined]],
    ['a - b / 2', [11, 6, undefined]],
    ['a / b / 2', [3, 1, undefined]],
    ['b - 1 + 0.5', [1.5, 3.5, 0.5]],
  ])('%s is computed period by period, and has no value where a metric has none', (expression, values) => {
    expect(compute(expression, metrics)).toEqual(values);
  });

  test.each(['c * a', '(a - b) * 2', 'FILL(a, 0)', 'a-b'])('%s is refused, not guessed', (expression) => {
    expect(() => compute(expression, metrics)).toThrow(/is no metric of it; lab\/aws\/metric-math.ts knows/);
    expect(() => compute(expression, {})).toThrow();
  });
});
