// SPDX-License-Identifier: Apache-2.0
// Seconds that each test file may take, on two cores with warm caches and beside what it runs beside. Their sum is what
// `make test` may take: whoever adds a test takes the time from another, or says why it is worth more.
import budgets from './budgets.json';
import { filesOf, SUITE_NAMES, type SuiteName } from './suites';

export interface Budget {
  readonly seconds: number;
  /**
   * Measures rates near what this machine can do, or to a few per cent: nothing runs beside it. A few thousand datagrams a second,
   * which the kernel forwards as they come, need not be alone: no process that could starve is on their way.
   */
  readonly alone?: boolean;
  /** Emulates a machine of two processors: one at a time, or systemd on them runs into its limits. */
  readonly machine?: boolean;
  /** Runs in `make test-all` alone; no page names it as the proof of a sentence. */
  readonly testAll?: boolean;
}

export interface Task extends Budget {
  readonly suite: SuiteName;
  /** Below __tests__. */
  readonly file: string;
}

export const BUDGETS: Readonly<Record<string, Budget>> = budgets;
/**
 * Of `make test`, in seconds: all files, with what is built and linted before them. It is where the tests are, not where they belong:
 * that is 25 minutes. Two of them are rollouts: with Terraform alone, nobody saw that they rolled back to the bad version.
 */
export const MOST_SECONDS = 48 * 60;
/** What `make test` does before its first test: linters, builds. */
export const BEFORE_SECONDS = 90;
/** Of `make test`: what does not have to be alone runs in so many lanes, more where there are more cores. */
export const LANES = 2;

/**
 * The files of these suites, with their budgets.
 *
 * @throws Error that names the files without a budget
 */
export function tasksOf(suites: readonly SuiteName[], all: boolean): Task[] {
  const files = suites.flatMap((suite) => filesOf(suite).map((file) => ({ suite, file })));
  const without = files.filter(({ file }) => !(file in BUDGETS)).map(({ file }) => file);
  if (without.length > 0)
    throw new Error(`no budget for ${without.join(', ')}: add its seconds to __tests__/support/budgets.json`);
  return files.map((each) => ({ ...each, ...(BUDGETS[each.file] as Budget) })).filter(({ testAll }) => all || !testAll);
}

/** What `make test` takes by its budgets, in seconds: unit tests and lanes fill the cores, the others come one by one. */
export function expectedSeconds(tasks: readonly Task[] = tasksOf(SUITE_NAMES, false)): number {
  const sum = (some: readonly Task[]): number => some.reduce((total, { seconds }) => total + seconds, 0);
  return BEFORE_SECONDS + sum(tasks.filter(({ alone }) => !alone)) / LANES + sum(tasks.filter(({ alone }) => alone));
}
