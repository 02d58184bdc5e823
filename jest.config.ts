// SPDX-License-Identifier: Apache-2.0
// Kinds of test, by what they need: `make test-unit` runs one kind, `make test` all of them, side by side where they bear it
// (__tests__/support/run.ts).
import type { Config } from 'jest';
import { SUITES } from './__tests__/support/suites';

export default {
  projects: Object.entries(SUITES).map(([displayName, { folders, testSeconds }]) => ({
    displayName,
    testEnvironment: 'node',
    testMatch: folders.map((folder) => `<rootDir>/__tests__/${folder}/**/*.test.ts`),
    transform: { '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2022' }, module: { type: 'commonjs' } }] },
    modulePathIgnorePatterns: ['<rootDir>/cdktf.out', '<rootDir>/.cache'],
    globals: { TEST_SECONDS: testSeconds },
    setupFilesAfterEnv: ['<rootDir>/__tests__/support/timeout.ts'],
  })),
} satisfies Config;
