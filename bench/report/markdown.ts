// SPDX-License-Identifier: Apache-2.0
// What the parts of docs/performance.md are written with: tables that explain their columns, units, paragraphs.
import { rounded, sizesOf } from './report';
import type { Results, DeviceUnderTest } from '../results';

export interface Column<Row> {
  readonly title: string;
  /** Columns beside each other with the same one are explained together. */
  readonly meaning: string;
  readonly cell: (row: Row) => string;
}

/** Every column is explained, below the table or (`explained` false) below one before it. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], explained = true): string {
  if (rows.length === 0) return 'Not measured.';
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(columns.map(({ title }) => title)),
    line(columns.map(() => '---')),
    ...rows.map((row) => line(columns.map(({ cell }) => cell(row)))),
    '',
    ...(explained ? meaningsOf(columns) : ['Columns as above.']),
  ].join('\n');
}

function meaningsOf<Row>(columns: readonly Column<Row>[]): string[] {
  return [...new Set(columns.map(({ meaning }) => meaning))].map((meaning) => {
    const titles = columns.filter((column) => column.meaning === meaning).map(({ title }) => title);
    return `- **${titles.join(', ')}**: ${meaning}`;
  });
}

export const microseconds = (value: number): string => rounded(value / 1000);
export const megabytes = (value: number): string => rounded(value / 1024 / 1024);
export const code = (name: string): string => `\`${name}\``;
export const inBytes = (bytes: number): string => (Number.isFinite(bytes) ? `${bytes} bytes` : '-');
export const paragraphs = (...parts: readonly string[]): string => parts.filter((part) => part !== '').join('\n\n');
export const bullets = (...parts: readonly string[]): string =>
  parts
    .filter((part) => part !== '')
    .map((part) => `- ${part}`)
    .join('\n');

export const RANGE = 'median (lowest to highest run)';

export const BYTES =
  'IP total length of the mirrored datagrams. Measured with 1400 for `egress_mtu` and `min_packet_size`: up to that they stay whole ' +
  'and keep DF, so that `nfqueue`, `standby` and `bridge` have nothing to do with them: there the three are one way, and their ' +
  'differences noise. Longer ones are cut, which by default they are not (`egress_mtu` 9001)';
export const ENGINE = 'who has the datagrams, see [above](#how-it-is-measured)';

export interface At<S extends DeviceUnderTest = DeviceUnderTest> {
  readonly bytes: number;
  readonly subject: S;
}

export const atColumns: readonly Column<At>[] = [
  { title: 'bytes', meaning: BYTES, cell: ({ bytes }) => String(bytes) },
  { title: 'subject', meaning: ENGINE, cell: ({ subject }) => code(subject) },
];

export const everywhere = <S extends DeviceUnderTest>(results: Results, subjects: readonly S[]): At<S>[] =>
  sizesOf(results).flatMap((bytes) => subjects.map((subject) => ({ bytes, subject })));
