// SPDX-License-Identifier: Apache-2.0
// The way of a document from a gateway to an alarm, through the real APIs of CloudWatch and CloudWatch Logs, which moto serves.
// Three things moto leaves undone are done here: it makes no metrics out of log events, computes no expressions, and its alarms
// keep the state they are given (OK from the start), whatever the data. So the forwarder puts what CloudWatch would extract,
// and the states come from lab/aws/alarm-rule.ts and lab/aws/metric-math.ts, out of the alarm and the data that moto gives back; they
// are set there with SetAlarmState.
import {
  CloudWatchClient,
  DescribeAlarmsCommand,
  GetMetricDataCommand,
  type Metric,
  type MetricAlarm,
  type MetricDataQuery,
  type MetricDatum,
  type MetricStat,
  PutMetricAlarmCommand,
  type PutMetricAlarmCommandInput,
  PutMetricDataCommand,
  SetAlarmStateCommand,
  type StandardUnit,
} from '@aws-sdk/client-cloudwatch';
import {
  CloudWatchLogsClient,
  CreateLogGroupCommand,
  CreateLogStreamCommand,
  GetLogEventsCommand,
  PutLogEventsCommand,
  ResourceAlreadyExistsException,
} from '@aws-sdk/client-cloudwatch-logs';
import { AwsQueryProtocol } from '@aws-sdk/core/protocols';
import { comparisonOf, evaluate, evaluationRange, type State, treatmentOf } from './alarm-rule';
import type { Emf } from './emf';
import { compute, type Points } from './metric-math';

// What one call carries. CloudWatch takes a thousand data; moto's query parser broods over them, at a hundred twice as long for
// each as at twenty-five.
const DATA_AT_ONCE = 25;
const EVENTS_AT_ONCE = 10_000;

// As in the tests of the function: they run on an older Node.js than the SDK would like, too.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';

export interface Connection {
  readonly region: string;
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

/** A metric that AWS itself sends: a value at a time. */
export interface AwsDatum {
  readonly namespace: string;
  readonly name: string;
  readonly dimensions: Readonly<Record<string, string>>;
  readonly value: number;
  readonly timestamp: number;
}

/** A state from this time on. */
export interface Transition {
  readonly timestamp: number;
  readonly state: State;
}

function dimensionsOf(dimensions: Readonly<Record<string, string>>): { Name: string; Value: string }[] {
  return Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value }));
}

function inPieces<T>(all: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size));
}

function groupBy<T>(all: readonly T[], keyOf: (each: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const each of all) {
    const group = groups.get(keyOf(each));
    if (group) group.push(each);
    else groups.set(keyOf(each), [each]);
  }
  return groups;
}

/** What CloudWatch makes of a document: every metric once for every set of dimensions. */
function dataOf(document: Emf): { namespace: string; datum: MetricDatum }[] {
  const { Timestamp, CloudWatchMetrics } = document._aws;
  return CloudWatchMetrics.flatMap(({ Namespace, Dimensions, Metrics }) =>
    Dimensions.flatMap((keys) =>
      Metrics.map(({ Name, Unit = 'None' }) => ({
        namespace: Namespace,
        datum: {
          MetricName: Name,
          Unit: Unit as StandardUnit,
          Value: Number(document[Name]),
          Timestamp: new Date(Timestamp),
          Dimensions: dimensionsOf(Object.fromEntries(keys.map((key) => [key, String(document[key])]))),
        },
      })),
    ),
  );
}

/** A metric by name and kinds of dimension, as an alarm and a datum both have it. */
function metricKey({ MetricName, Dimensions = [] }: MetricDatum | Metric): string {
  return JSON.stringify([MetricName, ...Dimensions.map(({ Name }) => Name).sort()]);
}

/** What an alarm is on: one metric, or an expression of several. */
function queriesOf(alarm: MetricAlarm | PutMetricAlarmCommandInput): readonly MetricDataQuery[] {
  const { Namespace, MetricName, Dimensions, Unit, Statistic: Stat, Period, Metrics = [] } = alarm;
  if (MetricName === undefined) return Metrics;
  return [
    { Id: 'it', MetricStat: { Metric: { Namespace, MetricName, Dimensions }, Unit, Stat, Period }, ReturnData: true },
  ];
}

/** In seconds: one for all that an alarm is on. */
function periodOf(alarm: MetricAlarm): number {
  const [period, ...others] = new Set(queriesOf(alarm).flatMap(({ MetricStat }) => MetricStat?.Period ?? []));
  if (period === undefined || others.length > 0)
    throw new Error(`alarm ${alarm.AlarmName}: none or several periods; only alarms on one period are judged`);
  return period;
}

export class CloudWatch {
  private readonly metrics: CloudWatchClient;
  private readonly logs: CloudWatchLogsClient;
  /** What alarms are on. */
  private readonly watched = new Set<string>();

  constructor(connection: Connection) {
    // The SDK would speak the JSON protocol, which moto does not know for CloudWatch.
    this.metrics = new CloudWatchClient({ ...connection, protocol: AwsQueryProtocol });
    this.logs = new CloudWatchLogsClient(connection);
  }

  /**
   * Log events first, as the agent sends them, then the metrics in them, as far as an alarm is on them: a fleet's minutes are
   * ten thousand data, and moto takes milliseconds for each.
   */
  async forward(documents: readonly Emf[]): Promise<void> {
    const streamOf = ({ _aws: { LogGroupName, LogStreamName } }: Emf) => JSON.stringify([LogGroupName, LogStreamName]);
    for (const [key, ofStream] of groupBy(documents, streamOf)) {
      const [group, stream] = JSON.parse(key) as [string, string];
      await this.log(group, stream, ofStream);
    }
    const data = documents.flatMap(dataOf);
    await this.putData(data.filter(({ datum }) => this.watched.has(metricKey(datum))));
  }

  async putAwsData(data: readonly AwsDatum[]): Promise<void> {
    await this.putData(
      data.map(({ namespace, name, dimensions, value, timestamp }) => ({
        namespace,
        datum: {
          MetricName: name,
          Value: value,
          Timestamp: new Date(timestamp),
          Dimensions: dimensionsOf(dimensions),
        },
      })),
    );
  }

  /** Every message of a stream, the oldest first. */
  async logged(logGroupName: string, logStreamName: string): Promise<string[]> {
    const messages: string[] = [];
    for (let nextToken: string | undefined, before: string | undefined; ; before = nextToken) {
      const page = await this.logs.send(
        new GetLogEventsCommand({ logGroupName, logStreamName, nextToken, startFromHead: true }),
      );
      messages.push(...(page.events ?? []).map(({ message }) => String(message)));
      nextToken = page.nextForwardToken;
      // The end is where the token no longer changes.
      if (nextToken === before) return messages;
    }
  }

  /** Begins without data, as in AWS. */
  async putAlarm(alarm: PutMetricAlarmCommandInput): Promise<void> {
    await this.metrics.send(new PutMetricAlarmCommand(alarm));
    for (const { MetricStat } of queriesOf(alarm))
      if (MetricStat?.Metric) this.watched.add(metricKey(MetricStat.Metric));
    await this.set(String(alarm.AlarmName), 'INSUFFICIENT_DATA');
  }

  async alarms(): Promise<MetricAlarm[]> {
    return (await this.metrics.send(new DescribeAlarmsCommand({ MaxRecords: 100 }))).MetricAlarms ?? [];
  }

  /**
   * Evaluates every alarm at the end of every period between two times, which begin a period. -> what each went through, by
   * name; moto has its last state.
   */
  async run(from: number, to: number): Promise<Map<string, Transition[]>> {
    const histories = new Map<string, Transition[]>();
    for (const alarm of await this.alarms()) {
      const history = await this.history(alarm, from, to);
      const last = history.at(-1);
      if (last) await this.set(String(alarm.AlarmName), last.state);
      histories.set(String(alarm.AlarmName), history);
    }
    return histories;
  }

  destroy(): void {
    this.metrics.destroy();
    this.logs.destroy();
  }

  private async log(logGroupName: string, logStreamName: string, documents: readonly Emf[]): Promise<void> {
    await this.create(new CreateLogGroupCommand({ logGroupName }));
    await this.create(new CreateLogStreamCommand({ logGroupName, logStreamName }));
    const events = documents.map((it) => ({ timestamp: it._aws.Timestamp, message: JSON.stringify(it) }));
    for (const logEvents of inPieces(events, EVENTS_AT_ONCE)) {
      const sent = await this.logs.send(new PutLogEventsCommand({ logGroupName, logStreamName, logEvents }));
      const refused = JSON.stringify(sent.rejectedLogEventsInfo ?? {});
      if (refused !== '{}') throw new Error(`log events of ${logStreamName} refused: ${refused}`);
    }
  }

  private async create(command: CreateLogGroupCommand | CreateLogStreamCommand): Promise<void> {
    try {
      await (command instanceof CreateLogGroupCommand ? this.logs.send(command) : this.logs.send(command));
    } catch (error) {
      if (!(error instanceof ResourceAlreadyExistsException)) throw error;
    }
  }

  private async putData(data: readonly { readonly namespace: string; readonly datum: MetricDatum }[]): Promise<void> {
    for (const [Namespace, ofNamespace] of groupBy(data, ({ namespace }) => namespace)) {
      for (const piece of inPieces(ofNamespace, DATA_AT_ONCE)) {
        const MetricData = piece.map(({ datum }) => datum);
        await this.metrics.send(new PutMetricDataCommand({ Namespace, MetricData }));
      }
    }
  }

  private async history(alarm: MetricAlarm, from: number, to: number): Promise<Transition[]> {
    const { AlarmName, Threshold, EvaluationPeriods: evaluationPeriods } = alarm;
    if (Threshold === undefined || evaluationPeriods === undefined) {
      throw new Error(`alarm ${AlarmName}: no threshold or evaluation periods; only alarms on a threshold are judged`);
    }
    const period = periodOf(alarm);
    const rule = {
      comparison: comparisonOf(alarm.ComparisonOperator),
      threshold: Threshold,
      evaluationPeriods,
      datapointsToAlarm: alarm.DatapointsToAlarm ?? evaluationPeriods,
      treatMissingData: treatmentOf(alarm.TreatMissingData),
    };
    const points = await this.points(alarm, from, to);
    const transitions: Transition[] = [];
    let state = alarm.StateValue as State;
    for (let end = 1; end <= points.length; end++) {
      const range = points.slice(Math.max(0, end - evaluationRange(rule)), end);
      const next = evaluate(rule, range, state);
      if (next !== state) transitions.push({ timestamp: from + end * period * 1000, state: next });
      state = next;
    }
    return transitions;
  }

  private async points(alarm: MetricAlarm, from: number, to: number): Promise<Points> {
    const queries = queriesOf(alarm);
    const points: Record<string, Points> = {};
    for (const { Id = '', MetricStat } of queries)
      if (MetricStat) points[Id] = await this.pointsOf(MetricStat, from, to);
    const { Id = '', Expression } = queries.find(({ ReturnData }) => ReturnData) ?? {};
    return Expression === undefined ? (points[Id] ?? []) : compute(Expression, points);
  }

  private async pointsOf(stat: MetricStat, from: number, to: number): Promise<Points> {
    const { Period = 60 } = stat;
    const query = { Id: 'it', MetricStat: stat };
    const { MetricDataResults } = await this.metrics.send(
      // GetMetricStatistics would not do: moto mixes a group's data with those of its instances.
      new GetMetricDataCommand({ StartTime: new Date(from), EndTime: new Date(to), MetricDataQueries: [query] }),
    );
    const { Timestamps = [], Values = [] } = MetricDataResults?.[0] ?? {};
    const values = new Map(Timestamps.map((time, i) => [time.getTime(), Values[i]]));
    return Array.from({ length: (to - from) / (Period * 1000) }, (_, i) => values.get(from + i * Period * 1000));
  }

  private async set(AlarmName: string, StateValue: State): Promise<void> {
    await this.metrics.send(new SetAlarmStateCommand({ AlarmName, StateValue, StateReason: 'lab/aws/alarm-rule.ts' }));
  }
}
