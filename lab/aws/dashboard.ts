// SPDX-License-Identifier: Apache-2.0
// What an operator sees: the synthesized dashboard drawn as CloudWatch lays it out, with three hours of a sample fleet. Reads
// cdktf.out (make synth), writes docs/dashboard.svg.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as echarts from 'echarts';
import { REPOSITORY } from '../support/host';
import { compute, type Points } from './metric-math';
import { MINUTES, type Statistic, valuesOf, valuesOfEach } from './sample-fleet';
import { searchOf } from './search';

/** A column and a row of CloudWatch's grid, in pixels. */
const [COLUMN, ROW] = [60, 47];
const MARGIN = 16;
const COLOURS = ['#1f77b4', '#ff7f0e', '#2ca02c', '#d62728', '#9467bd'];
const [INK, FAINT, LINES] = ['#16191f', '#545b64', '#eaeded'];
const FONT = 'Helvetica, Arial, sans-serif';

interface Widget {
  readonly type: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly properties: {
    readonly markdown?: string;
    readonly title?: string;
    readonly stat?: Statistic;
    readonly stacked?: boolean;
    readonly metrics?: readonly (readonly unknown[])[];
    readonly annotations?: { readonly horizontal: readonly { readonly label: string; readonly value: number }[] };
  };
}

interface Line {
  readonly label: string;
  readonly values: readonly (number | null)[];
  /** A line across the graph, not measured. */
  readonly isMark?: boolean;
}

interface Options {
  readonly label?: string;
  readonly expression?: string;
  readonly id?: string;
  readonly visible?: boolean;
}

type Resources = Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, unknown>>>>>>;

/**
 * The picture as SVG, of all `resource`s of a synthesized stack.
 *
 * @throws Error where the dashboard has a metric or an expression that no sample is made for
 */
export function draw(resources: Resources): string {
  const [dashboard] = Object.values(resources.aws_cloudwatch_dashboard ?? {});
  if (dashboard === undefined) throw new Error('the stack has no dashboard');
  // What the picture shows of other resources is in the stack, too.
  const body = String(dashboard.dashboard_body).replace(/\$\{(\w+)\.(\w+)\.(\w+)\}/g, (...match: string[]) => {
    const [reference = '', type = '', id = '', attribute = ''] = match;
    const value = resources[type]?.[id]?.[attribute];
    return typeof value === 'string' ? value : reference;
  });
  const { widgets } = JSON.parse(body) as { widgets: readonly Widget[] };
  const width = Math.max(...widgets.map((widget) => widget.x + widget.width)) * COLUMN + 2 * MARGIN;
  const height = Math.max(...widgets.map((widget) => widget.y + widget.height)) * ROW + 2 * MARGIN;
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
  const graphs = widgets.filter(({ type }) => type === 'metric').map(graphOf);
  chart.setOption({
    ...{ backgroundColor: '#ffffff', animation: false, textStyle: { fontFamily: FONT } },
    graphic: widgets.filter(({ type }) => type === 'text').flatMap(headingOf),
    title: graphs.map(({ title }) => title),
    legend: graphs.map(({ legend }) => legend),
    grid: graphs.map(({ grid }) => grid),
    xAxis: graphs.map(({ xAxis }) => xAxis),
    yAxis: graphs.map(({ yAxis }) => yAxis),
    series: graphs.flatMap(({ series }) => series),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return `${svg}\n`;
}

const left = (widget: Widget): number => MARGIN + widget.x * COLUMN;
const top = (widget: Widget): number => MARGIN + widget.y * ROW;

function headingOf(widget: Widget): object[] {
  const [heading = '', ...text] = (widget.properties.markdown ?? '').split('\n');
  const line = (y: number, style: object) => ({
    ...{ type: 'text', left: left(widget), top: top(widget) + y, silent: true },
    style: { fontFamily: FONT, ...style },
  });
  return [
    line(18, { text: heading.replace(/^#+ /, ''), fontSize: 20, fontWeight: 'bold', fill: INK }),
    line(50, { text: text.join(' '), fontSize: 13, fill: FAINT }),
  ];
}

function graphOf(widget: Widget, index: number) {
  const { title = '', stacked = false } = widget.properties;
  const lines = [...linesOf(widget), ...marksOf(widget)];
  const [x, y] = [left(widget), top(widget)];
  const [width, height] = [widget.width * COLUMN, widget.height * ROW];
  // The same metric may stand in several graphs.
  const unique = (label: string): string => `${index} ${label}`;
  return {
    title: {
      ...{ text: title, left: x, top: y + 4 },
      textStyle: {
        fontSize: 12,
        fontWeight: 'normal',
        lineHeight: 15,
        color: INK,
        width: width - 40,
        overflow: 'break',
      },
    },
    legend: {
      ...{ data: lines.map(({ label }) => unique(label)), formatter: (name: string) => name.replace(/^\d+ /, '') },
      ...{ left: x, top: y + height - 60, width: width - 20, itemWidth: 10, itemHeight: 10, itemGap: 16, icon: 'rect' },
      textStyle: { fontSize: 10, color: FAINT },
    },
    grid: { left: x + 44, top: y + 48, width: width - 72, height: height - 136 },
    xAxis: {
      ...{ gridIndex: index, type: 'value', min: 0, max: MINUTES, interval: 60, splitLine: { show: false } },
      axisLabel: { formatter: (minute: number) => `${9 + minute / 60}:00`, fontSize: 10, color: FAINT },
    },
    yAxis: {
      ...{ gridIndex: index, type: 'value', min: 0, splitNumber: 3, splitLine: { lineStyle: { color: LINES } } },
      ...(lines.every(({ values }) => values.every((value) => (value ?? 0) === 0)) ? { max: 1, interval: 1 } : {}),
      axisLabel: { formatter: short, fontSize: 10, color: FAINT },
    },
    series: lines.map(({ label, values, isMark = false }, at) => ({
      ...{ type: 'line', name: unique(label), xAxisIndex: index, yAxisIndex: index, symbol: 'none' },
      ...{ color: isMark ? INK : COLOURS[at % COLOURS.length] },
      lineStyle: { width: 1.5, type: isMark ? 'dashed' : 'solid' },
      ...(stacked ? { stack: unique('all'), areaStyle: { opacity: 0.5 } } : {}),
      data: values.map((value, minute) => [minute, value]),
    })),
  };
}

function marksOf({ properties: { annotations } }: Widget): Line[] {
  return (annotations?.horizontal ?? []).map(({ label, value }) => ({
    ...{ label, isMark: true },
    values: Array<number>(MINUTES + 1).fill(value),
  }));
}

/** As CloudWatch reads a widget's metrics: namespace, name, dimensions in turns, options last. */
function linesOf({ properties: { metrics = [], stat = 'Average' } }: Widget): Line[] {
  const known: Record<string, Points> = {};
  const rows = metrics.map((row) => {
    const options: Options = (row.find((cell) => typeof cell === 'object') as Options | undefined) ?? {};
    if (options.expression !== undefined) return { ...options, values: [] };
    const [namespace, name] = row as string[];
    const values = valuesOf(`${namespace}/${name}`, stat);
    if (options.id !== undefined) known[options.id] = values;
    return { ...options, values, label: options.label ?? String(name) };
  });
  return rows
    .filter(({ visible }) => visible !== false)
    .flatMap(({ expression, label = expression ?? '', values }) =>
      expression === undefined ? [{ label, values }] : linesOfExpression(expression, label, known),
    );
}

/** One, or one of each gateway that a search finds. */
function linesOfExpression(expression: string, label: string, known: Readonly<Record<string, Points>>): Line[] {
  const search = searchOf(expression);
  if (search)
    return valuesOfEach(`${search.namespace}/${search.name}`).map(({ id, values }) => ({ label: id, values }));
  return [{ label, values: compute(expression, known).map((value) => value ?? null) }];
}

function short(value: number): string {
  const [by, unit] = value >= 1e9 ? [1e9, 'G'] : value >= 1e6 ? [1e6, 'M'] : value >= 1e3 ? [1e3, 'k'] : [1, ''];
  return `${Number((value / by).toFixed(1))}${unit}`;
}

function main(): void {
  const stack = join(REPOSITORY, 'cdktf.out/stacks/mirror-gateway/cdk.tf.json');
  const { resource } = JSON.parse(readFileSync(stack, 'utf8')) as { resource: Resources };
  writeFileSync(join(REPOSITORY, 'docs/dashboard.svg'), draw(resource));
}

if (require.main === module) main();
