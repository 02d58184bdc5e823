// SPDX-License-Identifier: Apache-2.0
// Gives each kind of test its own time limit: jest ignores `testTimeout` of a project.
jest.setTimeout((globalThis as unknown as { TEST_SECONDS: number }).TEST_SECONDS * 1000);
