// SPDX-License-Identifier: Apache-2.0
// What a run of the tests has taken: a line for each file, longest first, and the sums.
import type { Task } from './tasks';
import type { SuiteName } from './suites';

export interface Outcome {
  readonly task: Task;
  readonly seconds: number;
  readonly failed: boolean;
  readonly labUps: number;
  readonly boots: number;
}

/** So far over its budget is no chance any more on a machine that does nothing else: shared ones vary by two. */
const FAR_OVER = 3;
/** Short files are at the mercy of a start of jest. */
const GRACE_SECONDS = 20;

export function isFarOver({ task, seconds }: Outcome): boolean {
  return seconds > FAR_OVER * task.seconds + GRACE_SECONDS;
}

function line(cells: readonly (string | number)[]): string {
  const [file = '', ...numbers] = cells.map(String);
  return [file.padEnd(44), ...numbers.map((number) => number.padStart(8))].join('').trimEnd();
}

const rounded = (seconds: number): string => seconds.toFixed(0);

/** Lines: every file, then every suite, in seconds. */
export function table(outcomes: readonly Outcome[]): string[] {
  const row = ({ task, seconds, failed, labUps, boots }: Outcome): string => {
    const remark = failed ? 'FAILED' : isFarOver({ task, seconds, failed, labUps, boots }) ? 'over' : '';
    return line([task.file, rounded(seconds), task.seconds, labUps || '', boots || '', remark]);
  };
  const sorted = [...outcomes].sort((a, b) => b.seconds - a.seconds);
  return [line(['', 'seconds', 'budget', 'labs', 'boots', '']), ...sorted.map(row), '', ...sums(outcomes)];
}

function sums(outcomes: readonly Outcome[]): string[] {
  const suites = new Map<SuiteName, Outcome[]>();
  for (const each of outcomes) suites.set(each.task.suite, [...(suites.get(each.task.suite) ?? []), each]);
  const total = (some: readonly Outcome[], of: (each: Outcome) => number): number =>
    some.reduce((sum, each) => sum + of(each), 0);
  return [...suites].map(([name, some]) =>
    line([
      `test-${name}, ${some.length} files`,
      rounded(total(some, ({ seconds }) => seconds)),
      total(some, ({ task }) => task.seconds),
      total(some, ({ labUps }) => labUps) || '',
      total(some, ({ boots }) => boots) || '',
    ]),
  );
}
