// SPDX-License-Identifier: Apache-2.0
// What a run measured, as numbers that mean something: ratios first, because absolute figures are one machine's on one day.
import { ratios, type Summary, summarize } from './statistics';
import type { StepCost, Subject } from './subjects';

export const MEASURES = ['overload', 'lossless'] as const;
/** Datagrams/s that come whole when as many as possible are offered; the highest rate at which none is lost. */
export type Measure = (typeof MEASURES)[number];

/** One subject at one size; one value a repetition, in datagrams/s. */
export interface Figures {
  readonly subject: Subject;
  readonly bytes: number;
  readonly overload: Summary;
  readonly lossless: Summary;
  /** Lossless, but the generator could not offer more: in any repetition. */
  readonly isLowerBound: boolean;
  /** At overload, datagrams/s. */
  readonly offered: Summary;
}

interface Target {
  readonly measure: Measure;
  readonly bytes: number;
  readonly subject: Subject;
  readonly against: Subject;
  readonly least?: number;
}

/** What the direct engine has to reach, and what a reader asks next. */
const TARGETS: readonly Target[] = [
  { measure: 'overload', bytes: 1428, subject: 'driver', against: 'bridge', least: 12 },
  { measure: 'lossless', bytes: 1428, subject: 'driver', against: 'nfqueue', least: 30 },
  { measure: 'overload', bytes: 1380, subject: 'driver', against: 'ceiling', least: 0.85 },
  { measure: 'overload', bytes: 1428, subject: 'generic', against: 'bridge', least: 2 },
  { measure: 'overload', bytes: 1380, subject: 'generic', against: 'bridge', least: 5 },
];

export interface Ratio extends Target {
  readonly ratio: Summary;
  readonly isMet?: boolean;
}

function find(figures: readonly Figures[], subject: Subject, bytes: number): Figures | undefined {
  return figures.find((each) => each.subject === subject && each.bytes === bytes);
}

/** The targets, then every engine against the bridge engine and the legacy program. */
export function compare(figures: readonly Figures[]): Ratio[] {
  const others = figures.flatMap(({ subject, bytes }) =>
    (['bridge', 'nfqueue'] as const).flatMap((against) =>
      subject === against || subject === 'ceiling' || subject === 'path'
        ? []
        : MEASURES.map((measure): Target => ({ measure, bytes, subject, against })),
    ),
  );
  const isNew = (one: Target): boolean =>
    !TARGETS.some((other) =>
      (['measure', 'bytes', 'subject', 'against'] as const).every((key) => one[key] === other[key]),
    );
  return [...TARGETS, ...others.filter(isNew)].flatMap((target) => {
    const [one, other] = [target.subject, target.against].map((subject) => find(figures, subject, target.bytes));
    if (one === undefined || other === undefined) return [];
    const each = ratios(one[target.measure].values, other[target.measure].values);
    const ratio = summarize(each.filter(Number.isFinite));
    if (ratio.values.length === 0) return [];
    return [{ ...target, ratio, ...(target.least === undefined ? {} : { isMet: ratio.median >= target.least }) }];
  });
}

const rounded = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
const thousands = (value: number): string =>
  !Number.isFinite(value) ? '-' : `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)}k`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(...[head, ...rows].map((row) => (row[column] ?? '').length), title.length),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [head, ...rows].map(line).join('\n');
}

export function ratioTable(all: readonly Ratio[]): string {
  return table(
    ['bytes', 'measure', 'engine', 'against', 'ratio', 'lowest', 'highest', 'target', ''],
    all.map(({ bytes, measure, subject, against, ratio, least, isMet }) => [
      ...[String(bytes), measure, subject, against, rounded(ratio.median), rounded(ratio.min), rounded(ratio.max)],
      ...[least === undefined ? '' : `>= ${least}`, isMet === undefined ? '' : isMet ? 'met' : 'missed'],
    ]),
  );
}

export function figureTable(figures: readonly Figures[]): string {
  return table(
    ['bytes', 'subject', 'offered/s', 'overload/s', 'lowest', 'highest', 'lossless/s', 'lowest', 'highest'],
    figures.map(({ bytes, subject, offered, overload, lossless, isLowerBound }) => [
      ...[String(bytes), subject, thousands(offered.median)],
      ...[thousands(overload.median), thousands(overload.min), thousands(overload.max)],
      ...[
        `${isLowerBound ? '>= ' : ''}${thousands(lossless.median)}`,
        thousands(lossless.min),
        thousands(lossless.max),
      ],
    ]),
  );
}

export function stepTable(costs: readonly StepCost[]): string {
  return table(
    ['bytes', 'empty ns', 'bridge ns', 'direct ns'],
    costs.map(({ bytes, empty, bridge, direct }) => [bytes, empty, bridge, direct].map(String)),
  );
}
