// SPDX-License-Identifier: Apache-2.0
// What a fresh clone installs: the same versions everywhere, from whatever registry npm is configured for.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { REPOSITORY } from '../../../constructs/user-data/user-data';

interface Package {
  readonly dependencies: Record<string, string>;
  readonly devDependencies: Record<string, string>;
  readonly overrides: Record<string, string>;
}

const read = (name: string) => fs.readFileSync(path.join(REPOSITORY, name), 'utf8');

test('every dependency is pinned to one version', () => {
  const { dependencies, devDependencies, overrides } = JSON.parse(read('package.json')) as Package;
  const loose = Object.entries({ ...dependencies, ...devDependencies, ...overrides }).filter(
    ([, version]) => !/^\d+\.\d+\.\d+$/.test(version),
  );
  expect(loose).toEqual([]);
});

test('the lock file names no registry, and a checksum for every package that npm downloads', () => {
  const lock = JSON.parse(read('package-lock.json')) as {
    packages: Record<string, { resolved?: string; integrity?: string; inBundle?: boolean }>;
  };
  const downloaded = Object.entries(lock.packages).filter(([name, { inBundle }]) => name !== '' && !inBundle);
  expect(downloaded.filter(([, { resolved }]) => resolved !== undefined)).toEqual([]);
  expect(downloaded.filter(([, { integrity }]) => integrity === undefined)).toEqual([]);
});
