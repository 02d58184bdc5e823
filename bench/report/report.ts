// SPDX-License-Identifier: Apache-2.0
// What complete runs measured, as numbers that mean something: ratios first, because absolute figures are one machine's on one
// day. What was not measured is undefined here and '-' where it is shown.
import {
  ENGINES,
  type Engine,
  type Latency,
  type Memory,
  type Point,
  type Results,
  type Run,
  type StepCost,
  type DeviceUnderTest,
  DEVICES_UNDER_TEST,
} from '../results';
import { mean, type Summary, summarize } from '../measure/statistics';
import { table } from './table';

export const MEASURES = ['overload', 'lossless'] as const;
/** Datagrams/s that come whole when as many as possible are offered; the highest rate at which none is lost. */
export type Measure = (typeof MEASURES)[number];

export const REFERENCES = ['bridge', 'nfqueue', 'baseline'] as const;
export type Reference = (typeof REFERENCES)[number];

/** Over complete runs: a value for each. */
export interface Figure extends Summary {
  /** (highest - lowest) / median. */
  readonly spread: number;
}

export interface Rate extends Figure {
  /** In any run the generator or the sink was at its end, or near it: the subject may do more. */
  readonly isLowerBound: boolean;
}

export interface Target {
  readonly least: number;
  /** Open where a bound does not decide. */
  readonly result: 'met' | 'missed' | 'open';
}

interface Pair {
  readonly measure: Measure;
  readonly bytes: number;
  readonly subject: Engine;
  readonly against: DeviceUnderTest;
}

export interface Ratio extends Pair, Rate {
  /** What it is compared with may do more, so the ratio may be lower. */
  readonly isUpperBound: boolean;
  readonly target?: Target;
}

/** Beyond this share of what the generator can offer, a figure is as much the generator's as the subject's. */
export const NEAR_LIMIT = 0.8;
/** Of what was offered: beyond this, the generator had no more that could have been lost. */
export const ALL = 0.95;
/** Of what came: the sink may have refused so much, and the figure is still the engine's. */
export const REFUSED = 0.02;
/** Complete runs agree where their ratios differ by less. */
export const AGREEMENT = 0.15;
const REGRESSION = 0.25;

/** What the direct engine has to reach. */
const TARGETS: readonly (Pair & { readonly least: number })[] = [
  { measure: 'overload', bytes: 1428, subject: 'driver', against: 'bridge', least: 12 },
  { measure: 'lossless', bytes: 1428, subject: 'driver', against: 'nfqueue', least: 30 },
  { measure: 'overload', bytes: 1380, subject: 'driver', against: 'baseline', least: 0.85 },
  { measure: 'overload', bytes: 1428, subject: 'generic', against: 'bridge', least: 2 },
  { measure: 'overload', bytes: 1380, subject: 'generic', against: 'bridge', least: 5 },
];

function figure(values: readonly number[]): Figure | undefined {
  if (values.length === 0) return undefined;
  const summary = summarize(values);
  return { ...summary, spread: summary.median === 0 ? 0 : (summary.max - summary.min) / summary.median };
}

/** Of the runs that have it. */
function over(runs: readonly Run[], valueIn: (run: Run) => number | undefined): Figure | undefined {
  return figure(runs.map(valueIn).filter((value) => value !== undefined && Number.isFinite(value)) as number[]);
}

export function sizesOf({ runs }: Results): number[] {
  const sizes = runs.flatMap(({ points }) => points.map(({ bytes }) => bytes));
  return [...new Set(sizes)].sort((a, b) => a - b);
}

const pointIn = (run: Run, subject: DeviceUnderTest, bytes: number): Point | undefined =>
  run.points.find((point) => point.subject === subject && point.bytes === bytes);

const meanOf = (values: readonly number[] | undefined): number | undefined =>
  values === undefined || values.length === 0 ? undefined : mean(values);

function rateIn(run: Run, measure: Measure, subject: DeviceUnderTest, bytes: number): number | undefined {
  const point = pointIn(run, subject, bytes);
  return meanOf(measure === 'overload' ? point?.overload : point?.lossless?.map(({ rate }) => rate));
}

function isNearCeiling(run: Run, measure: Measure, bytes: number, rate: number | undefined): boolean {
  const most = rateIn(run, measure, 'path', bytes);
  return rate !== undefined && most !== undefined && rate > NEAR_LIMIT * most;
}

type Overloaded = Pick<Point, 'offered' | 'overload' | 'refusedBySink'>;

/**
 * In any of its trials, which the mean contains: all came that the generator could offer beside it, the two sharing a processor, or
 * the sink did not take all that was sent.
 */
function isBenchsLimit(point: Overloaded | undefined): boolean {
  const { overload = [], offered = [], refusedBySink = [] } = point ?? {};
  const haveAllCome = overload.some((rate, trial) => rate > ALL * (offered[trial] ?? NaN));
  return haveAllCome || refusedBySink.some((share) => share > REFUSED);
}

/** The mean would be higher if those that ended at a bound had gone on. */
const isSearchesLimit = ({ lossless = [] }: Point): boolean => lossless.some(({ isLowerBound }) => isLowerBound);

function isBoundIn(run: Run, measure: Measure, subject: DeviceUnderTest, bytes: number): boolean {
  // The path is the bound.
  if (subject === 'path') return false;
  const point = pointIn(run, subject, bytes);
  const isItself = point !== undefined && (measure === 'lossless' ? isSearchesLimit(point) : isBenchsLimit(point));
  return isItself || isNearCeiling(run, measure, bytes, rateIn(run, measure, subject, bytes));
}

export function rateOf({ runs }: Results, measure: Measure, subject: DeviceUnderTest, bytes: number): Rate | undefined {
  const rate = over(runs, (run) => rateIn(run, measure, subject, bytes));
  return rate && { ...rate, isLowerBound: runs.some((run) => isBoundIn(run, measure, subject, bytes)) };
}

export const offeredOf = ({ runs }: Results, subject: DeviceUnderTest, bytes: number): Figure | undefined =>
  over(runs, (run) => meanOf(pointIn(run, subject, bytes)?.offered));

export const costOf = ({ runs }: Results, subject: DeviceUnderTest, bytes: number): Figure | undefined =>
  over(runs, (run) => meanOf(pointIn(run, subject, bytes)?.cost?.map(({ nanoseconds }) => nanoseconds)));

export const costRateOf = ({ runs }: Results, subject: DeviceUnderTest, bytes: number): Figure | undefined =>
  over(runs, (run) => meanOf(pointIn(run, subject, bytes)?.cost?.map(({ rate }) => rate)));

export function latencyOf(
  { runs }: Results,
  subject: DeviceUnderTest,
  bytes: number,
  share: number,
  what: Exclude<keyof Latency, 'share'>,
): Figure | undefined {
  const isIt = (latency: Latency): boolean => Math.abs(latency.share - share) < 0.001;
  return over(runs, (run) => pointIn(run, subject, bytes)?.latency?.find(isIt)?.[what]);
}

/** At overload, with the generator's end where flows and cores were varied. */
function growthOf({ runs, how }: Results, pointOf: (run: Run) => Overloaded | undefined): Rate | undefined {
  const valueIn = (run: Run): number | undefined => meanOf(pointOf(run)?.overload);
  const rate = over(runs, valueIn);
  const isBoundHere = (run: Run): boolean =>
    isBenchsLimit(pointOf(run)) || isNearCeiling(run, 'overload', how.growthBytes, valueIn(run));
  return rate && { ...rate, isLowerBound: runs.some(isBoundHere) };
}

export const flowsOf = (results: Results, subject: Engine, flows: number): Rate | undefined =>
  growthOf(results, (run) => run.flows.find((it) => it.subject === subject && it.flows === flows));

export const coresOf = (results: Results, subject: Engine, cores: number): Rate | undefined =>
  growthOf(results, (run) => run.cores.find((it) => it.subject === subject && it.cores === cores));

/** Of `nfqueue`, the share of datagrams that `standby` took. */
export const byStandbyOf = ({ runs }: Results, at: 'overload' | 'cost', bytes: number): Figure | undefined =>
  over(runs, (run) => meanOf(pointIn(run, 'nfqueue', bytes)?.byStandby?.[at]));

/** Nanoseconds of a program alone, without the clock's own. */
export function stepOf(
  { runs }: Results,
  on: 'steps' | 'stepsOnBoth',
  program: 'bridge' | 'direct',
  bytes: number,
): Figure | undefined {
  const net = (step: StepCost | undefined): number | undefined => step && step[program] - step.empty;
  return over(runs, (run) => net(run[on].find((step) => step.bytes === bytes)));
}

export const memoryOf = ({ runs }: Results, subject: Engine, of: keyof Omit<Memory, 'subject'>): Figure | undefined =>
  over(runs, (run) => run.memory.find((memory) => memory.subject === subject)?.[of]);

function targetOf(pair: Pair, ratio: number, isLowerBound: boolean, isUpperBound: boolean): Target | undefined {
  const { least } = TARGETS.find((target) => isSame(target, pair)) ?? {};
  if (least === undefined) return undefined;
  const isReached = ratio >= least;
  // Where both are bounds, what they share draws the ratio towards 1.
  const isOpen = isReached ? isUpperBound : isLowerBound && !isUpperBound;
  return { least, result: isOpen ? 'open' : isReached ? 'met' : 'missed' };
}

const isSame = (one: Pair, other: Pair): boolean =>
  (['measure', 'bytes', 'subject', 'against'] as const).every((key) => one[key] === other[key]);

export function ratioOf(
  { runs }: Results,
  measure: Measure,
  subject: Engine,
  against: DeviceUnderTest,
  bytes: number,
): Ratio | undefined {
  const those = (run: Run): number => rateIn(run, measure, against, bytes) ?? NaN;
  const ratio = over(runs, (run) => (rateIn(run, measure, subject, bytes) ?? NaN) / those(run));
  if (ratio === undefined) return undefined;
  const isLowerBound = runs.some((run) => isBoundIn(run, measure, subject, bytes));
  const isUpperBound = runs.some((run) => isBoundIn(run, measure, against, bytes));
  const pair = { measure, bytes, subject, against };
  const target = targetOf(pair, ratio.median, isLowerBound, isUpperBound);
  return { ...pair, ...ratio, isLowerBound, isUpperBound, ...(target && { target }) };
}

/** Every engine against the report's design and the NFQUEUE daemon, driver mode against the least that a driver can do, too. */
export function ratiosOf(results: Results): Ratio[] {
  const isAsked = (subject: Engine, against: Reference): boolean =>
    against === 'baseline' ? subject === 'driver' : subject !== against;
  return sizesOf(results).flatMap((bytes) =>
    MEASURES.flatMap((measure) =>
      ENGINES.flatMap((subject) =>
        REFERENCES.filter((against) => isAsked(subject, against)).flatMap(
          (against) => ratioOf(results, measure, subject, against, bytes) ?? [],
        ),
      ),
    ),
  );
}

export interface Agreement {
  readonly runs: number;
  /** Neither side is a bound. */
  readonly compared: readonly Ratio[];
  readonly apart: readonly Ratio[];
  readonly bounds: readonly Ratio[];
  /** Apart too, but a bound may differ with the generator or the sink, not with the engine. */
  readonly boundsApart: readonly Ratio[];
}

const isBound = ({ isLowerBound, isUpperBound }: Ratio): boolean => isLowerBound || isUpperBound;

/** Do complete runs say the same? Of fewer than two nobody can tell. */
export function agreementOf(results: Results): Agreement {
  const all = ratiosOf(results).filter(({ values }) => values.length > 1);
  const bounds = all.filter(isBound);
  const compared = all.filter((ratio) => !isBound(ratio));
  const isApart = ({ spread }: Ratio): boolean => spread > AGREEMENT;
  return {
    runs: results.runs.length,
    compared,
    apart: compared.filter(isApart),
    bounds,
    boundsApart: bounds.filter(isApart),
  };
}

/** Three digits: more would be noise. */
export const rounded = (value: number): string => value.toLocaleString('en-US', { maximumSignificantDigits: 3 });

export function boundOf({ isLowerBound, isUpperBound }: { isLowerBound?: boolean; isUpperBound?: boolean }): string {
  if (isLowerBound && isUpperBound) return '~ ';
  return isLowerBound ? '≥ ' : isUpperBound ? '≤ ' : '';
}

type Shown = Figure & { readonly isLowerBound?: boolean; readonly isUpperBound?: boolean };

/** The median, with its bound; '-' for what was not measured. */
export function show(figure: Shown | undefined, text: (value: number) => string = rounded): string {
  return figure === undefined ? '-' : `${boundOf(figure)}${text(figure.median)}`;
}

/** With the lowest and the highest run. */
export function showRange(figure: Shown | undefined, text: (value: number) => string = rounded): string {
  const range = (figure?.values.length ?? 0) > 1 && figure ? ` (${text(figure.min)} to ${text(figure.max)})` : '';
  return `${show(figure, text)}${range}`;
}

const nameOf = ({ bytes, measure, subject, against }: Pair): string =>
  `${bytes} bytes, ${measure}: ${subject}/${against}`;

/** A line for each ratio that fell below what the checked-in runs leave room for. Never about absolute figures. */
export function compareWith(checkedIn: Results, fresh: Results): string[] {
  const now = ratiosOf(fresh);
  return ratiosOf(checkedIn).flatMap((was) => {
    const is = now.find((each) => isSame(each, was));
    if (is === undefined || is.median >= was.min * (1 - REGRESSION)) return [];
    return [
      `${nameOf(was)} was ${show(was)} (lowest ${rounded(was.min)}), is ${show(is)}: ` +
        `more than ${REGRESSION * 100} % below the lowest`,
    ];
  });
}

export function percent(share: number): string {
  return `${rounded(Math.round(share * 1000) / 10)} %`;
}

/** In words, for the terminal and the document. */
export function agreementText({ runs, compared, apart, bounds, boundsApart }: Agreement): string {
  if (runs < 2) return `${runs} complete run: whether others agree is not known.`;
  const list = (ratios: readonly Ratio[]): string =>
    ratios.map((ratio) => `${nameOf(ratio)} (${percent(ratio.spread)})`).join('; ');
  return [
    `${runs} complete runs. Of ${compared.length} ratios without a bound, ${compared.length - apart.length} differ by ` +
      `${percent(AGREEMENT)} or less between runs.`,
    ...(apart.length > 0 ? [`Apart: ${list(apart)}.`] : []),
    ...(bounds.length > 0 ? [`Of the ${bounds.length} with a bound, ${bounds.length - boundsApart.length} do.`] : []),
    ...(boundsApart.length > 0 ? [`Those that differ by more: ${list(boundsApart)}.`] : []),
  ].join(' ');
}

export const showTarget = ({ target }: Ratio): string => (target ? `≥ ${target.least}: ${target.result}` : '');

function ratioTable(results: Results): string {
  const all = ratiosOf(results);
  const rows = sizesOf(results).flatMap((bytes) =>
    MEASURES.flatMap((measure) =>
      ENGINES.flatMap((subject) => {
        const its = all.filter((each) => isSame(each, { measure, bytes, subject, against: each.against }));
        if (its.length === 0) return [];
        const ratios = REFERENCES.map((against) => show(its.find((each) => each.against === against)));
        const targets = its.filter(({ target }) => target).map((each) => `/${each.against} ${showTarget(each)}`);
        const spread = Math.max(...its.map((each) => each.spread));
        return [[String(bytes), measure, subject, ...ratios, percent(spread), targets.join(', ')]];
      }),
    ),
  );
  return table(['bytes', 'measure', 'engine', ...REFERENCES.map((name) => `/${name}`), 'spread', 'target'], rows);
}

function figureTable(results: Results): string {
  const microseconds = (value: number): string => rounded(value / 1000);
  const rows = sizesOf(results).flatMap((bytes) =>
    DEVICES_UNDER_TEST.filter((subject) => rateOf(results, 'overload', subject, bytes)).map((subject) => [
      ...[String(bytes), subject, show(offeredOf(results, subject, bytes))],
      ...MEASURES.map((measure) => show(rateOf(results, measure, subject, bytes))),
      show(costOf(results, subject, bytes)),
      ...(['p50', 'p99'] as const).map((what) => show(latencyOf(results, subject, bytes, 0.5, what), microseconds)),
    ]),
  );
  return table(
    ['bytes', 'subject', 'offered/s', 'overload/s', 'lossless/s', 'ns each', 'p50 us', 'p99 us at 50 %'],
    rows,
  );
}

/** For the terminal: ratios, figures, and whether runs agree. */
export function summaryTables(results: Results): string {
  return [ratioTable(results), figureTable(results), agreementText(agreementOf(results))].join('\n\n');
}
