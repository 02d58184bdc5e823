// SPDX-License-Identifier: Apache-2.0
// CloudWatch for alarms to be tried on: moto keeps logs, metrics and alarms behind the real API. What it lacks is done here:
// documents of the embedded metric format become metrics, and alarms take states.
import {
  CloudWatchClient,
  DescribeAlarmsCommand,
  type Dimension,
  GetMetricStatisticsCommand,
  type MetricAlarm,
  type MetricDatum,
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
} from '@aws-sdk/client-cloudwatch-logs';
import { AwsQueryProtocol } from '@aws-sdk/core/protocols';
import { type AlarmRule, type AlarmState, type DataPoint, EXTRA_PERIODS, stateAfter } from './alarm-rule';
import type { Emf } from './emf';
import { type Moto, startMoto } from './moto';

/** What AWS itself measures, or the function: `at` in milliseconds since 1970. */
export interface Datum {
  readonly namespace: string;
  readonly name: string;
  readonly unit?: string;
  readonly dimensions: Readonly<Record<string, string>>;
  readonly at: number;
  readonly value: number;
}

// PutMetricData and PutLogEvents, API references.
const MOST_DATA = 1000;
const MOST_EVENTS = 10_000;

export class CloudWatch {
  private constructor(
    private readonly moto: Moto,
    private readonly metrics: CloudWatchClient,
    private readonly logs: CloudWatchLogsClient,
  ) {}

  static async start(): Promise<CloudWatch> {
    const moto = await startMoto();
    const settings = {
      region: 'eu-central-1',
      endpoint: `http://127.0.0.1:${moto.port}`,
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    };
    // The newer protocols of this service are none that moto speaks.
    const metrics = new CloudWatchClient({ ...settings, protocol: AwsQueryProtocol });
    return new CloudWatch(moto, metrics, new CloudWatchLogsClient(settings));
  }

  async stop(): Promise<void> {
    this.metrics.destroy();
    this.logs.destroy();
    await this.moto.stop();
  }

  async reset(): Promise<void> {
    await this.moto.reset();
  }

  /** As the agent does with what comes over UDP, and CloudWatch Logs with what the agent sends. */
  async take(documents: readonly Emf[]): Promise<void> {
    for (const events of groups(documents, ({ _aws }) => `${_aws.LogGroupName} ${_aws.LogStreamName}`)) {
      const { LogGroupName: logGroupName, LogStreamName: logStreamName } = events[0]._aws;
      await this.logs.send(new CreateLogGroupCommand({ logGroupName })).catch(alreadyExists);
      await this.logs.send(new CreateLogStreamCommand({ logGroupName, logStreamName })).catch(alreadyExists);
      for (const logEvents of chunks(events, MOST_EVENTS)) {
        const messages = logEvents.map((each) => ({ timestamp: each._aws.Timestamp, message: JSON.stringify(each) }));
        await this.logs.send(new PutLogEventsCommand({ logGroupName, logStreamName, logEvents: messages }));
      }
    }
    await this.put(documents.flatMap(dataOf));
  }

  async put(data: readonly Datum[]): Promise<void> {
    for (const ours of groups(data, ({ namespace }) => namespace))
      for (const chunk of chunks(ours, MOST_DATA))
        await this.metrics.send(
          new PutMetricDataCommand({ Namespace: ours[0].namespace, MetricData: chunk.map(metricDatum) }),
        );
  }

  async events(logGroupName: string, logStreamName: string): Promise<string[]> {
    const { events = [] } = await this.logs.send(
      new GetLogEventsCommand({ logGroupName, logStreamName, startFromHead: true, limit: MOST_EVENTS }),
    );
    return events.map(({ message = '' }) => message);
  }

  async putAlarm(alarm: PutMetricAlarmCommandInput): Promise<void> {
    await this.metrics.send(new PutMetricAlarmCommand(alarm));
  }

  /** Every alarm's state after each minute from `from` to `to` was evaluated; both in milliseconds since 1970. */
  async evaluate(from: number, to: number): Promise<Record<string, AlarmState>> {
    const { MetricAlarms = [] } = await this.metrics.send(new DescribeAlarmsCommand({ MaxRecords: 100 }));
    const states: Record<string, AlarmState> = {};
    for (const alarm of MetricAlarms) {
      const { AlarmName = '' } = alarm;
      states[AlarmName] = await this.stateOf(alarm, from, to);
      const StateReason = 'by the M-out-of-N rule';
      await this.metrics.send(new SetAlarmStateCommand({ AlarmName, StateValue: states[AlarmName], StateReason }));
    }
    return states;
  }

  private async stateOf(alarm: MetricAlarm, from: number, to: number): Promise<AlarmState> {
    const { Period = 60, EvaluationPeriods: evaluationPeriods = 1, TreatMissingData = 'missing' } = alarm;
    const rule: AlarmRule = {
      evaluationPeriods,
      datapointsToAlarm: alarm.DatapointsToAlarm ?? evaluationPeriods,
      treatMissingData: TreatMissingData as AlarmRule['treatMissingData'],
    };
    const points = await this.pointsOf(alarm, from, to);
    const seen = evaluationPeriods + EXTRA_PERIODS;
    const before = Array<DataPoint>(seen).fill(undefined);
    let state: AlarmState = 'INSUFFICIENT_DATA'; // as a new alarm's
    for (let end = 1; end <= (to - from) / 1000 / Period; end++)
      state = stateAfter(rule, [...before, ...points.slice(0, end)].slice(-seen), state);
    return state;
  }

  private async pointsOf(alarm: MetricAlarm, from: number, to: number): Promise<DataPoint[]> {
    const { Namespace, MetricName, Dimensions, Unit, Statistic = 'Average', Period = 60 } = alarm;
    const { Datapoints = [] } = await this.metrics.send(
      new GetMetricStatisticsCommand({
        ...{ Namespace, MetricName, Dimensions, Unit, Period, Statistics: [Statistic] },
        ...{ StartTime: new Date(from), EndTime: new Date(to) },
      }),
    );
    const values = new Map(Datapoints.map((point) => [point.Timestamp?.getTime(), point[Statistic]]));
    return Array.from({ length: (to - from) / 1000 / Period }, (_, period) => {
      const value = values.get(from + period * Period * 1000);
      return value === undefined ? undefined : breaches(alarm, value);
    });
  }
}

function breaches({ ComparisonOperator, Threshold = NaN, AlarmName }: MetricAlarm, value: number): boolean {
  switch (ComparisonOperator) {
    case 'GreaterThanThreshold':
      return value > Threshold;
    case 'GreaterThanOrEqualToThreshold':
      return value >= Threshold;
    case 'LessThanThreshold':
      return value < Threshold;
    case 'LessThanOrEqualToThreshold':
      return value <= Threshold;
    default:
      throw new Error(`${AlarmName}: comparison operator ${ComparisonOperator} is none that this rule knows`);
  }
}

function dataOf(document: Emf): Datum[] {
  return document._aws.CloudWatchMetrics.flatMap(({ Namespace, Dimensions, Metrics }) =>
    Dimensions.flatMap((keys) =>
      Metrics.map(({ Name, Unit }) => ({
        ...{ namespace: Namespace, name: Name, unit: Unit, at: document._aws.Timestamp, value: Number(document[Name]) },
        dimensions: Object.fromEntries(keys.map((key) => [key, String(document[key])])),
      })),
    ),
  );
}

function metricDatum({ name, unit, dimensions, at, value }: Datum): MetricDatum {
  return {
    ...{ MetricName: name, Unit: unit as StandardUnit | undefined, Timestamp: new Date(at), Value: value },
    Dimensions: Object.entries(dimensions).map(([Name, Value]): Dimension => ({ Name, Value })),
  };
}

function groups<T>(all: readonly T[], keyOf: (each: T) => string): [T, ...T[]][] {
  const known = new Map<string, [T, ...T[]]>();
  for (const each of all) {
    const group = known.get(keyOf(each));
    if (group) group.push(each);
    else known.set(keyOf(each), [each]);
  }
  return [...known.values()];
}

function chunks<T>(all: readonly T[], most: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / most) }, (_, at) => all.slice(at * most, (at + 1) * most));
}

function alreadyExists(error: Error): void {
  if (error.name !== 'ResourceAlreadyExistsException') throw error;
}
