// SPDX-License-Identifier: Apache-2.0
// `npm run metrics`: the table of docs/metrics.md, made from the list that gateways send by.
import { METRICS } from './metrics';

/** Markdown, one row per metric. */
export function metricsTable(): string {
  const rows = Object.entries(METRICS).map(([name, { unit, meaning }]) => `| \`${name}\` | ${unit} | ${meaning} |`);
  return ['| metric | unit | meaning |', '| --- | --- | --- |', ...rows].join('\n');
}

if (require.main === module) console.log(metricsTable());
