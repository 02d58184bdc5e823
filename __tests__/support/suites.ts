// SPDX-License-Identifier: Apache-2.0
// The suites: jest's projects, the make targets test-<suite>, and what each needs from the machine.
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { Need } from './capabilities';

export interface Suite {
  /** Of __tests__. */
  readonly folders: readonly string[];
  /** Of one test or hook, before jest calls it hanging. */
  readonly testSeconds: number;
  readonly needs: readonly Need[];
}

const KERNEL: readonly Need[] = ['root', 'namespaces', 'bpf'];

export const SUITES = {
  unit: { folders: ['unit', 'support'], testSeconds: 120, needs: [] },
  terraform: { folders: ['terraform'], testSeconds: 600, needs: [] },
  aws: { folders: ['aws'], testSeconds: 600, needs: [] },
  bpf: { folders: ['bpf'], testSeconds: 600, needs: KERNEL },
  lab: { folders: ['lab'], testSeconds: 900, needs: KERNEL },
  vm: { folders: ['vm'], testSeconds: 2700, needs: [...KERNEL, 'tun', 'containers'] },
} as const satisfies Record<string, Suite>;

export type SuiteName = keyof typeof SUITES;
export const SUITE_NAMES = Object.keys(SUITES) as SuiteName[];

const TESTS = join(__dirname, '..');

/** Test files of a suite, by their paths below __tests__. */
export function filesOf(name: SuiteName): string[] {
  const all = SUITES[name].folders.flatMap((folder) =>
    readdirSync(join(TESTS, folder), { recursive: true, withFileTypes: true }),
  );
  return all
    .filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts'))
    .map((entry) => relative(TESTS, join(entry.parentPath, entry.name)))
    .sort();
}
