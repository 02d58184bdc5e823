// SPDX-License-Identifier: Apache-2.0
// The page for whoever is called at night: five questions in order, no graph of a metric that nobody sends.
import { FUNCTION_METRICS } from '../../../lambda/shared/metrics';
import { EC2_FRAGMENTS_PER_SECOND } from '../../../constructs/config/limits';
import { DIMENSION_SETS, METRIC_NAMESPACE, METRICS } from '../../../constructs/monitoring/metrics';
import { searchOf } from '../../../lab/aws/search';
import { type Body, only, parsed, synth, VARIANTS } from './synthesized';

type Metric = readonly (string | Body)[];

interface Widget {
  readonly type: 'text' | 'metric';
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly properties: {
    readonly markdown?: string;
    readonly region?: string;
    readonly metrics?: readonly Metric[];
    readonly annotations?: Body;
  };
}

const bodyOf = (settings: Body) =>
  parsed<{ start: string; widgets: Widget[] }>(only(synth(settings), 'aws_cloudwatch_dashboard').dashboard_body);

const { widgets } = bodyOf({});
const graphs = widgets.filter(({ type }) => type === 'metric');
const metrics = graphs.flatMap(({ properties }) => properties.metrics ?? []);
const own = metrics.filter(([namespace]) => namespace === METRIC_NAMESPACE);

describe('the dashboard', () => {
  test('asks five questions, top to bottom', () => {
    const headings = widgets.filter(({ type }) => type === 'text');
    expect(headings.map(({ properties }) => properties.markdown?.split('\n')[0])).toEqual([
      '## Is traffic flowing?',
      '## Which engine carries it?',
      '## What is being lost?',
      '## Which gateway is it?',
      '## What does it cost?',
    ]);
    expect(headings.map(({ y }) => y)).toEqual(headings.map(({ y }) => y).sort((a, b) => a - b));
  });

  test('answers every question with a graph below it and before the next one', () => {
    const types = widgets.map(({ type }) => (type === 'text' ? 'T' : 'm')).join('');
    expect(types).toMatch(/^(?:Tm+){5}$/);
    expect(widgets.map(({ y }) => y)).toEqual(widgets.map(({ y }) => y).sort((a, b) => a - b));
  });

  test('lays no widget over another, and none over the edge of 24 columns', () => {
    const cells = widgets.flatMap(({ x, y, width, height }) =>
      Array.from({ length: width * height }, (_, at) => `${x + (at % width)},${y + Math.floor(at / width)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    widgets.forEach(({ x, width }) => {
      expect(Number.isInteger(x) && Number.isInteger(width)).toBe(true);
      expect(x + width).toBeLessThanOrEqual(24);
    });
  });

  test('draws only metrics of ours that gateways or the function send under the name of the group', () => {
    expect(own.length).toBeGreaterThan(8);
    own.forEach(([, name, ...dimensions]) => {
      expect(Object.keys({ ...METRICS, ...FUNCTION_METRICS })).toContain(name);
      expect(dimensions.slice(0, 2)).toEqual(['AutoScalingGroupName', 'mirror-gateway-xdp-asg']);
      expect(dimensions.slice(2).every((option) => typeof option === 'object')).toBe(true);
    });
  });

  test('draws each of our metrics somewhere', () => {
    const searched = metrics.flatMap(([first]) =>
      typeof first === 'object' ? (searchOf(String(first.expression))?.name ?? []) : [],
    );
    const drawn = new Set([...own.map(([, name]) => name), ...searched]);
    expect(Object.keys(METRICS).filter((name) => !drawn.has(name))).toEqual([]);
  });

  test('searches for three metrics of each gateway of this group, whoever they are', () => {
    const expressions = metrics.flatMap(([first]) => (typeof first === 'object' ? String(first.expression) : []));
    const searches = expressions.flatMap((expression) => searchOf(expression) ?? []);
    const dimensions = { AutoScalingGroupName: 'mirror-gateway-xdp-asg', InstanceId: null };
    expect(DIMENSION_SETS).toContainEqual(Object.keys(dimensions));
    expect(searches).toEqual(
      ['Degraded', 'PacketsPerSecond', 'FragmentsPerSecond'].map((name) => ({
        namespace: METRIC_NAMESPACE,
        name,
        dimensions,
      })),
    );
    expect(expressions).toContain(
      `SEARCH('{XDP/PacketProcessing,AutoScalingGroupName,InstanceId} AutoScalingGroupName="mirror-gateway-xdp-asg" MetricName="Degraded"', 'Maximum', 60)`,
    );
  });

  test("shows EC2's limit where it draws fragments", () => {
    const marked = graphs.filter(({ properties }) => properties.annotations);
    expect(marked.map(({ properties }) => properties.annotations)).toEqual([
      { horizontal: [{ label: 'EC2’s limit', value: EC2_FRAGMENTS_PER_SECOND }] },
    ]);
    expect(JSON.stringify(marked[0]?.properties.metrics)).toContain('FragmentsPerSecond');
  });

  test('computes only from series of the same graph', () => {
    graphs.forEach(({ properties }) => {
      const options = (properties.metrics ?? [])
        .map((metric) => metric.at(-1))
        .filter((last) => typeof last === 'object');
      const ids = options.map(({ id }) => id);
      const used = options.flatMap(({ expression }) =>
        /^SEARCH/.test(String(expression)) ? [] : ((expression as string | undefined)?.match(/[a-z]\w*/g) ?? []),
      );
      used.forEach((id) => expect(ids).toContain(id));
    });
  });

  test('asks each graph’s metrics from the region of the stack', () => {
    bodyOf({ region: 'eu-west-1' })
      .widgets.filter(({ type }) => type === 'metric')
      .forEach(({ properties }) => expect(properties.region).toBe('eu-west-1'));
  });

  test.each([
    ['eu-central-1', 'https://eu-central-1.console.aws.amazon.com/'],
    ['cn-north-1', 'https://console.amazonaws.cn/'],
    ['us-gov-west-1', 'https://console.amazonaws-us-gov.com/'],
  ])('is found at the console of %s', (region, console) => {
    const stack = synth({ region });
    expect(stack.output.dashboard_url?.value).toBe(
      `${console}cloudwatch/home?region=${region}#dashboards/dashboard/mirror-gateway-gateways`,
    );
    expect(only(stack, 'aws_cloudwatch_dashboard').dashboard_name).toBe('mirror-gateway-gateways');
  });

  test.each(VARIANTS)('is the same page for either engine: %s', (_, settings) => {
    expect(bodyOf(settings).widgets.map(({ type, x, y }) => [type, x, y])).toEqual(
      widgets.map(({ type, x, y }) => [type, x, y]),
    );
  });
});
