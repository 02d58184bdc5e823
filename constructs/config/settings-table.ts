// SPDX-License-Identifier: Apache-2.0
// `npm run settings`: the table of docs/settings.md, made from the keys themselves so that it cannot lie.
import { describeKeys } from './keys';

/** Markdown, one row per key. */
export function settingsTable(): string {
  const rows = describeKeys().map(({ key, meaning, allowed, byDefault }) => {
    return `| \`${key}\` | ${byDefault} | ${meaning} (${allowed}) |`;
  });
  return ['| key | default | meaning |', '| --- | --- | --- |', ...rows].join('\n');
}

if (require.main === module) console.log(settingsTable());
