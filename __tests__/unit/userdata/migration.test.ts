// SPDX-License-Identifier: Apache-2.0
// docs/migration.md keeps its word: each line of the checklist names a test that exists, and each block says where it runs.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../../../lab/support/host';
import { missingFrom, stepsOf } from '../../../lab/support/procedures';

const page = readFileSync(join(REPOSITORY, 'docs/migration.md'), 'utf8');
const rows = page
  .slice(page.indexOf("## The report's checklist"))
  .split('\n')
  .filter((line) => /^\| (?!what the report|---)/.test(line))
  .map((line) => line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, '')));

describe('the checklist', () => {
  test.each(rows.map((cells) => [cells[0] ?? '', cells[1] ?? '', cells[2] ?? '']))('%s', (_, how, proof) => {
    if (proof === 'none') {
      expect(how).toMatch(/^open: /);
      return;
    }
    const [, file, title] = /^`([^`]+)`(?:: "([^"]+)")?$/.exec(proof) ?? [];
    expect({ proof, exists: existsSync(join(REPOSITORY, file ?? '?')) }).toEqual({ proof, exists: true });
    if (title === undefined) return;
    // At the beginning of a string, as a title is.
    const source = readFileSync(join(REPOSITORY, file ?? ''), 'utf8');
    expect(['"', "'", '`'].some((quote) => source.includes(`${quote}${title}`))).toBe(true);
  });

  test('is long enough to be the report', () => {
    expect(rows.length).toBeGreaterThan(15);
  });
});

describe('a step', () => {
  test('runs on a gateway or in the repository', () => {
    expect(new Set(stepsOf('migration.md').map(({ place }) => place))).toEqual(new Set(['gateway', 'repository']));
    expect(page.match(/^```sh/gm)).toHaveLength(stepsOf('migration.md').length);
  });

  test('misses a line that is not there, or not in its order', () => {
    expect(missingFrom('a 1\nb\n', ['a …', 'b'])).toBeUndefined();
    expect(missingFrom('b\na 1\n', ['a …', 'b'])).toBe('b');
    expect(missingFrom('ab\n', ['a'])).toBe('a');
  });
});
