// SPDX-License-Identifier: Apache-2.0
// `make performance`: docs/performance.md and its charts, made from docs/performance.json alone, so that no sentence in them
// outlives the figures it is about.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../../lab/support/host';
import { answer } from '../size';
import { chartsOf } from './charts';
import { sizeOfClaims } from './claims';
import { code, inBytes, paragraphs } from './markdown';
import { benchLimits, howItIsMeasured } from './method';
import { claims, cost, growth, latency, memory, rates, ratios, steps } from './figures';
import { choice, inShort, limits } from './conclusions';
import { costOf, ratioOf, show } from './report';
import { CHECKED_IN, ENGINES, readResults, type Results } from '../results';

/** The document alone. */
export function documentOf(results: Results): string {
  const bytes = sizeOfClaims(results);
  const parts = [
    '# Performance',
    '<!-- Written by `make performance` from performance.json: change bench/report/, not this. -->',
    'What each engine of a gateway delivers, loses and costs, measured side by side (`make bench`), and what became of the ' +
      "migration report's claims. All of it is computed from [performance.json](performance.json).",
    inShort(results, bytes),
    howItIsMeasured(results),
    ratios(results),
    paragraphs('## Absolute figures', 'Medians of the complete runs.', rates(results)),
    ...[latency, cost, steps, growth, memory, claims].map((part) => part(results)),
    limits(results, bytes),
    choice(results, bytes),
    benchLimits(results),
  ];
  return `${paragraphs(...parts)}\n`;
}

/** Of a datagram that becomes no fragments, and of two that do. */
const SHOWN_SIZES = [1380, 1428, 2852] as const;

function throughput(results: Results): string {
  const best = [...ENGINES].reverse();
  const rows = best.map((engine) => [
    code(engine),
    ...SHOWN_SIZES.map((bytes) =>
      engine === 'bridge' ? '1' : show(ratioOf(results, 'overload', engine, 'bridge', bytes)),
    ),
    show(ratioOf(results, 'lossless', engine, 'nfqueue', 1428)),
    show(costOf(results, engine, 1428)),
  ]);
  const head = ['engine', ...SHOWN_SIZES.map(inBytes), 'without loss, 1428 bytes', 'ns a datagram'];
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
}

const SIZE_EXAMPLE = ['--pps', '500000', '--bytes', '1428'];

function sizeExample(results: Results): string {
  return `\`\`\`\n$ npm run --silent size -- ${SIZE_EXAMPLE.join(' ')}\n${answer(SIZE_EXAMPLE, results)}\n\`\`\``;
}

/** A document of the repository, with a part of it written anew. */
function withPart(file: string, name: string, part: string): string {
  const document = readFileSync(join(REPOSITORY, file), 'utf8');
  const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const [before, rest] = document.split(begin);
  const after = rest?.split(end)[1];
  if (after === undefined) throw new Error(`${file} has no '${begin}' before '${end}': write both where it belongs`);
  return `${before}${begin}\n\n${part}\n\n${end}${after}`;
}

/** What is written, by its path in the repository. */
export function filesOf(results: Results): Record<string, string> {
  const charts = Object.entries(chartsOf(results, sizeOfClaims(results)));
  return {
    ...Object.fromEntries(
      ['README.md', 'docs/engines.md'].map((file) => [file, withPart(file, 'throughput', throughput(results))]),
    ),
    'docs/sizing.md': withPart('docs/sizing.md', 'size', sizeExample(results)),
    'docs/performance.md': documentOf(results),
    ...Object.fromEntries(charts.map(([name, svg]) => [`docs/performance-${name}.svg`, svg])),
  };
}

export function writeDocuments(results: Results): void {
  for (const [file, content] of Object.entries(filesOf(results))) writeFileSync(join(REPOSITORY, file), content);
}

if (require.main === module) writeDocuments(readResults(CHECKED_IN));
