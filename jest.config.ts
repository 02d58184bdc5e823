// SPDX-License-Identifier: Apache-2.0
// Kinds of test, told apart by what they need: unit runs anywhere, terraform needs the cdktf CLI, Terraform and checkov,
// lambda Python tools, bpf root and clang, lab network namespaces, vm qemu, plain qemu and a package mirror. `npm test` runs
// only unit; the Makefile runs the others, in band, because they share the machine.
import type { Config } from 'jest';

function project(displayName: string, folders: string[], seconds: number): Config {
  return {
    displayName,
    testEnvironment: 'node',
    testMatch: folders.map((folder) => `<rootDir>/__tests__/${folder}/**/*.test.ts`),
    transform: { '^.+\\.ts$': 'ts-jest' },
    modulePathIgnorePatterns: ['<rootDir>/cdktf.out', '<rootDir>/.cache'],
    globals: { TEST_SECONDS: seconds },
    setupFilesAfterEnv: ['<rootDir>/__tests__/timeout.ts'],
  };
}

export default {
  projects: [
    project('unit', ['constructs', 'userdata', 'bench'], 120),
    project('terraform', ['terraform'], 600),
    project('lambda', ['lambda', 'fetch', 'cloudwatch'], 600),
    project('bpf', ['bpf'], 600),
    project('lab', ['lab'], 600),
    project('vm', ['vm'], 2700),
    project('plain', ['plain'], 1800),
  ],
} satisfies Config;
