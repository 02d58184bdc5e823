// SPDX-License-Identifier: Apache-2.0
// The README's table of settings is the one that the keys themselves give.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { settingsTable } from '../../constructs/settings-table';
import { REPOSITORY } from '../../constructs/user-data';

test('the README explains every key as config.ts does (`npm run --silent settings` prints the table)', () => {
  const readme = fs.readFileSync(path.join(REPOSITORY, 'README.md'), 'utf8');
  const [, table] = /<!-- settings: [^\n]* -->\n([^]*?)<!-- end of settings -->/.exec(readme) ?? [];
  expect(table?.trim()).toBe(settingsTable());
});
