// SPDX-License-Identifier: Apache-2.0
// The context of cdktf.json for programs that cdktf does not run: `make user-data-size` and the lab.
import * as fs from 'node:fs';
import * as path from 'node:path';

/** The checked-in settings, not validated yet. */
export function checkedInContext(): Record<string, unknown> {
  const file = fs.readFileSync(path.resolve(__dirname, '../..', 'cdktf.json'), 'utf8');
  return (JSON.parse(file) as { context: Record<string, unknown> }).context;
}
