// SPDX-License-Identifier: Apache-2.0
// What keeps the tests within their minutes, and honest about what they left out.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../../lab/support/host';
import { Capabilities } from './capabilities';
import { partsFor } from './changes';
import { isFarOver, type Outcome, table } from './report';
import { parse } from './run';
import { filesOf, SUITE_NAMES } from './suites';
import { BUDGETS, expectedSeconds, MOST_SECONDS, type Task, tasksOf } from './tasks';

const TASK: Task = { suite: 'lab', file: 'lab/stress.test.ts', seconds: 100 };
const outcome = (seconds: number, more: Partial<Outcome> = {}): Outcome => {
  return { task: TASK, seconds, failed: false, labUps: 0, boots: 0, ...more };
};

describe('budgets', () => {
  test('name every test file, and no other', () => {
    expect(Object.keys(BUDGETS).sort()).toEqual(SUITE_NAMES.flatMap(filesOf).sort());
  });

  test('add up to what `make test` may take', () => {
    expect(expectedSeconds()).toBeLessThanOrEqual(MOST_SECONDS);
  });

  test('count what is alone in full, and what shares the lanes by half', () => {
    const before = expectedSeconds([]);
    expect(expectedSeconds([TASK]) - before).toBe(50);
    expect(expectedSeconds([{ ...TASK, alone: true }]) - before).toBe(100);
  });

  test('leave to `make test-all` no file that README, CONTRIBUTING or docs name as proof', () => {
    const docs = readdirSync(join(REPOSITORY, 'docs'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.md'),
    );
    const pages = ['README.md', 'CONTRIBUTING.md', ...docs.map((name) => join('docs', name))];
    const text = pages.map((page) => readFileSync(join(REPOSITORY, page), 'utf8')).join('\n');
    const named = [...text.matchAll(/__tests__\/([\w./-]+\.test\.ts)/g)].map((match) => match[1] ?? '');
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((file) => BUDGETS[file] === undefined || BUDGETS[file].testAll)).toEqual([]);
  });

  test('keep from `make test` what only `make test-all` runs', () => {
    const isLater = ({ testAll }: Task): boolean => testAll === true;
    expect(tasksOf(SUITE_NAMES, false).filter(isLater)).toEqual([]);
    expect(tasksOf(SUITE_NAMES, true).filter(isLater).length).toBeGreaterThan(0);
  });
});

describe('the report', () => {
  test('lists the longest file first, with its budget, labs and boots, and the sum of its suite', () => {
    const short = outcome(12, { task: { ...TASK, file: 'lab/short.test.ts', seconds: 20 }, labUps: 1 });
    const rows = table([short, outcome(80, { labUps: 4 })]).map((row) => row.replace(/ +/g, ' '));
    expect(rows[1]).toBe('lab/stress.test.ts 80 100 4');
    expect(rows[2]).toBe('lab/short.test.ts 12 20 1');
    expect(rows.at(-1)).toBe('test-lab, 2 files 92 120 5');
  });

  test('marks what failed, and what is far over its budget', () => {
    expect(table([outcome(80, { failed: true })])[1]).toMatch(/FAILED$/);
    expect(table([outcome(400)])[1]).toMatch(/over$/);
  });

  test('calls no file far over its budget for a slow start', () => {
    expect([250, 319, 321].map((seconds) => isFarOver(outcome(seconds)))).toEqual([false, false, true]);
  });
});

describe('what a change asks of make test-all', () => {
  test('is nothing for the stack and its documents', () => {
    expect(partsFor(['constructs/monitoring/alarms.ts', 'README.md', 'lambda/attach-eni/index.ts'])).toEqual([]);
  });

  test('is kernels, stress runs, emulated machines and plain images for a BPF program', () => {
    expect(partsFor(['bpf/xdp/ids.h'])).toEqual([
      'plain Debian images',
      "all of Debian's kernels",
      'stress runs of full length',
      'emulated machines',
    ]);
  });

  test.each(['netfilter/modify_udp_df.cpp', 'health/health_endpoint.c', 'lib/journal.c'])(
    'is no kernel for %s',
    (file) => {
      expect(partsFor([file])).toEqual(['plain Debian images', 'stress runs of full length', 'emulated machines']);
    },
  );
});

describe('a machine that cannot do everything', () => {
  const probe = (isThere: boolean, name: string) => ({
    isThere: () => isThere,
    lacks: `no ${name}`,
    remedy: `add ${name}`,
  });
  const capabilities = new Capabilities({
    root: probe(true, 'root'),
    namespaces: probe(false, 'namespaces'),
    bpf: probe(false, 'bpf'),
    tun: probe(true, 'tun'),
    containers: probe(true, 'containers'),
  });

  test('runs the parts that it can', () => {
    expect(capabilities.hindrance([])).toBeUndefined();
    expect(capabilities.hindrance(['root', 'tun'])).toBeUndefined();
  });

  test('is told the first thing that it lacks, and the remedy', () => {
    expect(capabilities.hindrance(['root', 'namespaces', 'bpf'])).toBe('no namespaces: add namespaces');
  });
});

describe('the command line', () => {
  test('takes suites by name, all of them by default', () => {
    expect(parse(['lab', 'vm'])).toEqual({ suites: ['lab', 'vm'], all: false });
    expect(parse(['--all'])).toEqual({ suites: SUITE_NAMES, all: true });
  });

  test('names what is no suite, and those that are', () => {
    expect(() => parse(['labs'])).toThrow("no suite 'labs'; it must be one of unit, terraform, aws, bpf, lab, vm");
  });
});
