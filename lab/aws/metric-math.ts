// SPDX-License-Identifier: Apache-2.0
// What the stack needs of CloudWatch's metric math ("Using math expressions with CloudWatch metrics", Amazon CloudWatch User
// Guide): the four operations on numbers and on metrics by their ids. Where a metric has no datum, the result has none either.

/** A value each period; `undefined` where there is none. */
export type Points = readonly (number | undefined)[];

type Lookup = (word: string) => number | undefined;

const OPERATIONS: Readonly<Record<string, (left: number, right: number) => number>> = {
  '+': (left, right) => left + right,
  '-': (left, right) => left - right,
  '*': (left, right) => left * right,
  '/': (left, right) => left / right,
};

/** @throws Error on an expression of another kind, or on a metric that is not given */
export function compute(expression: string, metrics: Readonly<Record<string, Points>>): Points {
  const lookup = (word: string, at: number) => {
    if (/^\d+(\.\d+)?$/.test(word)) return Number(word);
    const points = metrics[word];
    if (points) return points[at];
    throw new Error(`'${expression}': '${word}' is no metric of it; lab/aws/metric-math.ts knows + - * / alone`);
  };
  const length = Math.max(1, ...Object.values(metrics).map((points) => points.length));
  return Array.from({ length }, (_, at) => sum(expression, (word) => lookup(word, at)));
}

const sum = (text: string, lookup: Lookup) => fold(text, / ([+-]) /, (term) => product(term, lookup));
const product = (text: string, lookup: Lookup) => fold(text, / ([*/]) /, lookup);

/** From left to right, as operations of one rank are. */
function fold(text: string, operators: RegExp, valueOf: Lookup): number | undefined {
  const [first = '', ...rest] = text.split(operators);
  let result = valueOf(first);
  for (let at = 0; at < rest.length; at += 2) {
    const [operation, right] = [OPERATIONS[rest[at] ?? ''], valueOf(rest[at + 1] ?? '')];
    result = result === undefined || right === undefined ? undefined : operation?.(result, right);
  }
  return result;
}
