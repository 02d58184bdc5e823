// SPDX-License-Identifier: Apache-2.0
// The charts of docs/performance.md. An engine has the same colour and mark in each; the colours (Okabe and Ito's) are told
// apart by colour-blind readers, too.
import * as echarts from 'echarts';
import { ENGINES, type Engine, type Results } from '../results';
import {
  costOf,
  type Figure,
  flowsOf,
  latencyOf,
  MEASURES,
  type Measure,
  rateOf,
  ratioOf,
  rounded,
  sizesOf,
} from './report';

const MARKS = {
  nfqueue: { colour: '#d55e00', symbol: 'triangle' },
  standby: { colour: '#e69f00', symbol: 'rect' },
  bridge: { colour: '#0072b2', symbol: 'diamond' },
  generic: { colour: '#009e73', symbol: 'circle' },
  driver: { colour: '#cc79a7', symbol: 'roundRect' },
} as const satisfies Record<Engine, object>;
const [INK, FAINT, LINES] = ['#16191f', '#545b64', '#e3e6e8'];
const FONT = 'Helvetica, Arial, sans-serif';
const [WIDTH, HEIGHT] = [960, 480];
const [LEFT, RIGHT, TOP, BOTTOM] = [92, 132, 96, 60];
/** From one panel's axis to the next. */
const GUTTER = 28;

interface Dot {
  /** Undefined where it was not measured. */
  readonly figure: Figure | undefined;
  /** Lower or upper. */
  readonly isBound?: boolean;
}

interface Line {
  readonly name: string;
  readonly colour: string;
  readonly symbol: string;
  readonly isDashed?: boolean;
  readonly dots: readonly Dot[];
}

interface Panel {
  readonly title: string;
  readonly lines: readonly Line[];
}

interface Chart {
  readonly title: string;
  readonly subtitle: string;
  readonly x: { readonly name: string; readonly ticks: readonly string[] };
  readonly y: string;
  readonly panels: readonly Panel[];
}

/** Without the counters that echarts puts into names: they depend on what else was drawn before. */
function svgOf(option: object): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height: HEIGHT });
  chart.setOption({
    backgroundColor: '#ffffff',
    animation: false,
    textStyle: { fontFamily: FONT, color: INK },
    ...option,
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  const names = [...new Set(svg.match(/\bzr\d+-[a-z]+-?\d+/g))];
  return `${names.reduce((text, name, index) => text.replaceAll(new RegExp(`\\b${name}\\b`, 'g'), `n${index}`), svg)}\n`;
}

function titleOf({ title, subtitle }: Pick<Chart, 'title' | 'subtitle'>): object {
  return {
    ...{ text: title, subtext: subtitle, left: 16, top: 10, itemGap: 6 },
    textStyle: { fontSize: 17, color: INK },
    subtextStyle: { fontSize: 12, color: FAINT },
  };
}

const axis = { nameTextStyle: { fontSize: 13, color: INK }, axisLabel: { fontSize: 12, color: INK } };
const powers = (value: number): string => (value >= 1 ? value.toLocaleString('en-US') : String(value));

interface Frame {
  readonly left: number;
  readonly width: number;
}

/** Beside each other, with room for the lines' names right of the last one. */
function frames(count: number): Frame[] {
  const width = (WIDTH - LEFT - RIGHT - GUTTER * (count - 1)) / count;
  return Array.from({ length: count }, (_, index) => ({ left: LEFT + index * (width + GUTTER), width }));
}

/** Where it is told to be, whatever its labels need. */
const gridOf = (frame: Frame): object => ({ ...frame, top: TOP, bottom: BOTTOM, outerBoundsMode: 'none' });

interface Range {
  readonly min: number;
  readonly max: number;
  readonly ticks: readonly number[];
}

/** Around all values, from and to one of 1, 2 and 5 times a power of ten: panels beside each other have the same. */
function range(values: readonly number[]): Range {
  const positive = values.filter((value) => value > 0);
  const [least, most] = positive.length > 0 ? [Math.min(...positive), Math.max(...positive)] : [1, 1];
  const steps = Array.from({ length: 25 }, (_, index) => index - 9).flatMap((power) =>
    [1, 2, 5].map((step) => Number(`${step}e${power}`)),
  );
  const min = steps.filter((step) => step < least).at(-1) ?? least;
  const max = steps.find((step) => step > most) ?? most;
  return { min, max, ticks: steps.filter((step) => step >= min && step <= max) };
}

const atOr = (figure: Figure | undefined): number | null => (figure && figure.median > 0 ? figure.median : null);

/** Names beside the last dots, pushed apart where those are close. */
function namesOf(lines: readonly Line[], { min, max }: Range): object[] {
  const height = HEIGHT - TOP - BOTTOM;
  const y = (value: number): number => TOP + height * (1 - Math.log10(value / min) / Math.log10(max / min));
  const wanted = lines
    .flatMap((line) => {
      const last = line.dots.flatMap(({ figure }) => atOr(figure) ?? []).at(-1);
      return last === undefined ? [] : [{ line, at: y(last) }];
    })
    .sort((a, b) => a.at - b.at);
  return apart(wanted.map(({ at }) => at)).map((at, index) => ({
    ...{ type: 'text', left: WIDTH - RIGHT + 14, top: at - 8, silent: true },
    style: {
      text: wanted[index]?.line.name,
      ...{ fontFamily: FONT, fontSize: 13, fontWeight: 'bold', fill: wanted[index]?.line.colour },
    },
  }));
}

/** Sorted places, each at least a line's height below the one before, around where they want to be. */
export function apart(places: readonly number[], distance = 17): number[] {
  const groups: { readonly wanted: number[]; start: number }[] = [];
  for (const place of places) {
    groups.push({ wanted: [place], start: place });
    for (
      let last = groups.at(-1), before = groups.at(-2);
      last && before;
      last = groups.at(-1), before = groups.at(-2)
    ) {
      if (before.start + before.wanted.length * distance <= last.start) break;
      groups.pop();
      before.wanted.push(...last.wanted);
      const offsets = before.wanted.map((wanted, index) => wanted - index * distance);
      before.start = offsets.reduce((sum, offset) => sum + offset, 0) / offsets.length;
    }
  }
  return groups.flatMap(({ wanted, start }) => wanted.map((_, index) => start + index * distance));
}

function seriesOf(line: Line, panel: number): object[] {
  const { colour: color } = line;
  const data = line.dots.map(({ figure, isBound }) => ({
    value: atOr(figure),
    ...(isBound ? { itemStyle: { color: '#ffffff', borderColor: color, borderWidth: 2 } } : {}),
  }));
  const at = { xAxisIndex: panel, yAxisIndex: panel };
  return [
    {
      ...{ type: 'line', name: line.name, ...at, color, data, symbolSize: 10, connectNulls: false },
      ...{ symbol: line.symbol, showSymbol: true, lineStyle: { width: 2, type: line.isDashed ? 'dashed' : 'solid' } },
    },
    ...spreadOf(line, at),
  ];
}

/** From the lowest run to the highest. */
function spreadOf({ dots, colour }: Line, at: object): object[] {
  const known = dots.flatMap(({ figure }, index) =>
    figure && figure.min > 0 && figure.max > figure.min ? [[index, figure.min, figure.max]] : [],
  );
  if (known.length === 0) return [];
  return [
    {
      ...{ type: 'custom', ...at, data: known, encode: { x: 0, y: [1, 2] }, silent: true },
      renderItem: (_: unknown, api: echarts.CustomSeriesRenderItemAPI) => {
        const [[x = 0, y1 = 0] = [], [, y2 = 0] = []] = [1, 2].map((end) => api.coord([api.value(0), api.value(end)]));
        return { type: 'line', shape: { x1: x, y1, x2: x, y2 }, style: { stroke: colour, lineWidth: 4, opacity: 0.4 } };
      },
    },
  ];
}

function notMeasured(): object {
  return {
    ...{ type: 'text', left: 'center', top: 'middle', silent: true },
    style: { text: 'not measured', fontFamily: FONT, fontSize: 16, fill: FAINT },
  };
}

const panelTitle = (text: string, frame: Frame | undefined): object => ({
  ...{ text, left: frame?.left, top: 66, padding: 0 },
  textStyle: { fontSize: 13, fontWeight: 'bold', color: INK },
});

const categories = (panel: number, name: string, data: readonly string[]): object => ({
  ...{ ...axis, gridIndex: panel, type: 'category', data: [...data], name, nameLocation: 'middle', nameGap: 32 },
  ...{ axisTick: { alignWithLabel: true }, axisLine: { onZero: false } },
});

/** Lines over sizes or flows, on a logarithmic axis: a factor is the same height everywhere. */
function draw({ title, subtitle, x, y, panels }: Chart): string {
  const lines = panels.flatMap((panel) => panel.lines);
  const figures = lines.flatMap((line) => line.dots.flatMap(({ figure }) => figure ?? []));
  const bounds = range(figures.flatMap(({ min, max }) => [min, max]));
  const places = frames(panels.length);
  return svgOf({
    title: [titleOf({ title, subtitle }), ...panels.map((panel, index) => panelTitle(panel.title, places[index]))],
    graphic: figures.length === 0 ? [notMeasured()] : namesOf(panels.at(-1)?.lines ?? [], bounds),
    grid: places.map(gridOf),
    xAxis: places.map((_, index) => categories(index, x.name, x.ticks)),
    yAxis: places.map((_, index) => logAxis(index, y, bounds)),
    series: panels.flatMap((panel, index) => panel.lines.flatMap((line) => seriesOf(line, index))),
  });
}

const yName = (name: string): object => ({ name, nameLocation: 'middle', nameGap: 70, nameRotate: 90 });

/** Only the leftmost panel's has labels. */
function logAxis(panel: number, name: string, { min, max, ticks }: Range): object {
  const label = { ...axis.axisLabel, formatter: powers, customValues: ticks };
  return {
    ...{ ...axis, gridIndex: panel, type: 'log', min, max, axisTick: { customValues: ticks } },
    splitLine: { lineStyle: { color: LINES } },
    ...(panel === 0 ? { ...yName(name), axisLabel: label } : { axisLabel: { show: false, customValues: ticks } }),
  };
}

const lineOf = (engine: Engine, dots: readonly Dot[]): Line => ({ name: engine, ...MARKS[engine], dots });
const dotOf = (figure: (Figure & { isLowerBound?: boolean; isUpperBound?: boolean }) | undefined): Dot => ({
  figure,
  ...(figure?.isLowerBound || figure?.isUpperBound ? { isBound: true } : {}),
});

const MEASURE_TITLES: Readonly<Record<Measure, string>> = {
  overload: 'At overload',
  lossless: 'The most without loss',
};

const bytesAxis = (sizes: readonly number[]): Chart['x'] => ({
  name: 'IP total length of a mirrored datagram, bytes',
  ticks: sizes.map(String),
});

function rates(results: Results): string {
  const sizes = sizesOf(results);
  const generator: Line = {
    ...{ name: 'the generator', colour: '#000000', symbol: 'none', isDashed: true },
    dots: sizes.map((bytes) => ({ figure: rateOf(results, 'overload', 'path', bytes) })),
  };
  return draw({
    title: 'Datagrams that come whole',
    subtitle:
      'Hollow marks are lower bounds: the generator or the sink could do no more, or hardly. Bars: lowest to highest run.',
    ...{ x: bytesAxis(sizes), y: 'datagrams/s' },
    panels: MEASURES.map((measure) => ({
      title: MEASURE_TITLES[measure],
      lines: [
        ...ENGINES.map((engine) =>
          lineOf(
            engine,
            sizes.map((bytes) => dotOf(rateOf(results, measure, engine, bytes))),
          ),
        ),
        generator,
      ],
    })),
  });
}

function ratios(results: Results): string {
  const sizes = sizesOf(results);
  const bridge: Line = {
    ...{ name: 'bridge', ...MARKS.bridge, symbol: 'none', isDashed: true },
    dots: sizes.map(() => ({ figure: { median: 1, min: 1, max: 1, values: [1], spread: 0 } })),
  };
  const others = ENGINES.filter((engine) => engine !== 'bridge');
  const panels = MEASURES.map((measure) => {
    const lines = others.map((engine) =>
      lineOf(
        engine,
        sizes.map((bytes) => dotOf(ratioOf(results, measure, engine, 'bridge', bytes))),
      ),
    );
    return { title: MEASURE_TITLES[measure], lines: [...lines, bridge] };
  });
  return draw({
    title: 'Rate, in multiples of the bridge engine’s',
    subtitle: 'Hollow marks are bounds. Bars: lowest to highest run.',
    ...{ x: bytesAxis(sizes), y: 'times bridge', panels },
  });
}

function flows(results: Results): string {
  const counts = [...new Set(results.runs.flatMap((run) => run.flows.map((point) => point.flows)))].sort(
    (a, b) => a - b,
  );
  return draw({
    title: 'Datagrams that come whole, by number of flows',
    subtitle: `At overload, ${results.how.growthBytes} bytes of IP. Hollow marks are lower bounds. Bars: lowest to highest run.`,
    ...{ x: { name: 'flows', ticks: counts.map((count) => count.toLocaleString('en-US')) }, y: 'datagrams/s' },
    panels: [
      {
        title: '',
        lines: ENGINES.map((engine) =>
          lineOf(
            engine,
            counts.map((count) => dotOf(flowsOf(results, engine, count))),
          ),
        ),
      },
    ],
  });
}

/** `raised`: how far above its mark a value is written, so that equal ones are not on top of each other. */
const PERCENTILES = [
  { what: 'p50', title: 'p50', symbol: 'circle', raised: -5 },
  { what: 'p99', title: 'p99', symbol: 'diamond', raised: 0 },
  { what: 'p999', title: 'p99.9', symbol: 'triangle', raised: 12 },
] as const;

type Percentile = (typeof PERCENTILES)[number];
/** In microseconds. */
type LatencyAt = (share: number, engine: Engine, percentile: Percentile) => number | null;

const LOADS = [0.5, 0.9] as const;

/** An engine a column, its percentiles above each other. */
function latencies(results: Results, bytes: number): string {
  const at: LatencyAt = (share, engine, { what }) => {
    const nanoseconds = latencyOf(results, engine, bytes, share, what)?.median;
    return nanoseconds ? nanoseconds / 1000 : null;
  };
  const all = LOADS.flatMap((load) =>
    ENGINES.flatMap((engine) => PERCENTILES.map((each) => at(load, engine, each) ?? 0)),
  );
  const places = frames(LOADS.length);
  return svgOf({
    title: [
      titleOf({
        title: Number.isFinite(bytes) ? `Latency of datagrams of ${bytes} bytes` : 'Latency',
        subtitle:
          'From sending to the arrival of the last fragment. Each engine at a share of its own highest rate without loss.',
      }),
      ...LOADS.map((load, index) => panelTitle(`At ${load * 100} % of it`, places[index])),
    ],
    legend: percentileLegend(),
    graphic: all.every((value) => value === 0) ? [notMeasured()] : [],
    grid: places.map(gridOf),
    xAxis: places.map((_, index) => categories(index, 'engine', ENGINES)),
    yAxis: places.map((_, index) => logAxis(index, 'microseconds', range(all))),
    series: LOADS.flatMap((load, panel) =>
      PERCENTILES.map((percentile) => percentileSeries(percentile, panel, (engine) => at(load, engine, percentile))),
    ),
  });
}

const percentileLegend = (): object => ({
  ...{ data: PERCENTILES.map(({ title }) => title), orient: 'vertical', left: WIDTH - RIGHT + 20, top: TOP },
  ...{ itemWidth: 12, itemHeight: 12, itemGap: 14, textStyle: { fontSize: 13, color: INK } },
});

function percentileSeries(
  { title, symbol, raised }: Percentile,
  panel: number,
  valueOf: (engine: Engine) => number | null,
): object {
  return {
    ...{ type: 'scatter', name: title, xAxisIndex: panel, yAxisIndex: panel, symbol, symbolSize: 12, color: FAINT },
    data: ENGINES.map((engine) => ({
      ...{ value: valueOf(engine), itemStyle: { color: MARKS[engine].colour, opacity: 1 } },
    })),
    label: {
      ...{ show: true, position: 'right', distance: 6, offset: [0, -raised], fontSize: 12, color: INK },
      formatter: ({ value }: { value: number }) => rounded(value),
    },
  };
}

function costs(results: Results): string {
  const sizes = sizesOf(results).filter((bytes) => ENGINES.some((engine) => costOf(results, engine, bytes)));
  const { name, ticks } = bytesAxis(sizes);
  return svgOf({
    title: titleOf({
      title: 'What a datagram costs the gateway',
      subtitle: 'Busy time of the one processor that does all its work, divided by the datagrams that came.',
    }),
    legend: {
      ...{ data: [...ENGINES], left: LEFT, top: 62, padding: 0, itemWidth: 14, itemHeight: 14, itemGap: 22 },
      ...{ icon: 'rect', textStyle: { fontSize: 13, color: INK } },
    },
    graphic: sizes.length === 0 ? [notMeasured()] : [],
    grid: gridOf({ left: LEFT, width: WIDTH - LEFT - 24 }),
    xAxis: categories(0, name, ticks),
    yAxis: {
      ...{ ...axis, ...yName('processor, ns a datagram'), type: 'value', min: 0 },
      splitLine: { lineStyle: { color: LINES } },
    },
    series: ENGINES.map((engine) =>
      barsOf(
        engine,
        sizes.map((bytes) => costOf(results, engine, bytes)?.median ?? null),
      ),
    ),
  });
}

const barsOf = (engine: Engine, data: readonly (number | null)[]): object => ({
  ...{ type: 'bar', name: engine, color: MARKS[engine].colour, barGap: '8%', barCategoryGap: '20%', data },
  label: {
    ...{ show: true, position: 'top', rotate: 90, align: 'left', verticalAlign: 'middle', fontSize: 11, color: INK },
    formatter: ({ value }: { value?: number }) => (value ? rounded(value) : ''),
  },
});

/** By what stands behind docs/performance-. */
export function chartsOf(results: Results, latencyBytes: number): Record<string, string> {
  return {
    ratios: ratios(results),
    rates: rates(results),
    latency: latencies(results, latencyBytes),
    cost: costs(results),
    flows: flows(results),
  };
}
