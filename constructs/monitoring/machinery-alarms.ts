// SPDX-License-Identifier: Apache-2.0
// What wakes somebody when the fleet cannot grow or be replaced, or when what acts on it (rules, functions, the replacement
// guard) was not reached.
import { Construct } from 'constructs';
import { above, alarm, type Alarmed, lasting, type Rule } from './alarm';
import { groupDimensions, METRIC_NAMESPACE, unitOf } from './metrics';

// Longer than a launch takes: the hook at its longest (10 minutes), one more launch after it, and some for EC2.
const LAUNCH_MINUTES = 25;

export interface MachineryAlarmsProps extends Alarmed {
  readonly groupName: string;
  readonly rolloutFunctionName: string;
  /** What lies in it, by the queue's name. */
  readonly queues: Readonly<Record<string, { readonly id: string; readonly what: string }>>;
  /** The stack's rules of EventBridge: how each is called here, and by AWS. */
  readonly rules: Readonly<Record<string, { readonly name: string; readonly consequence: string }>>;
}

export class MachineryAlarms extends Construct {
  public constructor(
    scope: Construct,
    id: string,
    private readonly props: MachineryAlarmsProps,
  ) {
    super(scope, id);
    this.watchLaunches();
    this.watchFunction();
    Object.entries(props.queues).forEach(([name, { id: called, what }]) => this.watchQueue(name, called, what));
    Object.values(props.rules).forEach(({ name, consequence }, index) => {
      this.watchRule(Object.keys(props.rules)[index] ?? '', name, consequence);
    });
  }

  private watchLaunches(): void {
    const ofMinute = { dimensions: groupDimensions(this.props.groupName), period: 60 };
    const ofGroup = (metricName: string) => ({ namespace: 'AWS/AutoScaling', metricName, ...ofMinute });
    this.alarm(
      'gateways-missing',
      'Fewer gateways are in service than the group wants, for longer than a launch takes. First look at the activity of the ' +
        'Auto Scaling group ("aws autoscaling describe-scaling-activities"): it says what refuses launches, or which instances ' +
        'end before they are in service.',
      {
        ...above(0),
        evaluationPeriods: LAUNCH_MINUTES,
        datapointsToAlarm: LAUNCH_MINUTES,
        metricQuery: [
          { id: 'missing', label: 'Gateways missing', returnData: true, expression: 'desired - in_service' },
          { id: 'desired', metric: { ...ofGroup('GroupDesiredCapacity'), stat: 'Maximum' } },
          { id: 'in_service', metric: { ...ofGroup('GroupInServiceInstances'), stat: 'Maximum' } },
        ],
        treatMissingData: 'notBreaching',
      },
    );
    this.alarm(
      'launches-failed',
      'Launches of gateways fail; the group tries again. First read the log group ' +
        `/aws/lambda/${this.props.rolloutFunctionName}: the line "a launch failed" has EC2's reason (no capacity in a zone, a ` +
        'quota of vCPUs, a key that AWSServiceRoleForAutoScaling may not use).',
      {
        namespace: METRIC_NAMESPACE,
        metricName: 'LaunchesFailed',
        unit: unitOf('LaunchesFailed'),
        dimensions: groupDimensions(this.props.groupName),
        ...above(0),
        statistic: 'Sum',
        ...lasting(1),
        treatMissingData: 'notBreaching',
      },
    );
  }

  private watchFunction(): void {
    const { rolloutFunctionName } = this.props;
    this.alarm(
      'rollout-function-errors',
      'The rollout function failed; what it was to do is tried again within five minutes. First read the log group ' +
        `/aws/lambda/${rolloutFunctionName} when it stays.`,
      {
        namespace: 'AWS/Lambda',
        metricName: 'Errors',
        dimensions: { FunctionName: rolloutFunctionName },
        ...above(0),
        statistic: 'Sum',
        ...lasting(1),
        treatMissingData: 'notBreaching',
      },
    );
  }

  private watchQueue(queueName: string, called: string, what: string): void {
    this.alarm(
      called,
      `${what} First read a message of the queue ${queueName}; it names the event and the error. Delete the messages afterwards.`,
      {
        namespace: 'AWS/SQS',
        metricName: 'ApproximateNumberOfMessagesVisible',
        dimensions: { QueueName: queueName },
        ...above(0),
        statistic: 'Maximum',
        ...lasting(1),
        treatMissingData: 'notBreaching',
      },
    );
  }

  private watchRule(called: string, ruleName: string, consequence: string): void {
    this.alarm(
      `rule-failed-${called}`,
      `EventBridge could not call the target of the rule ${ruleName}: ${consequence}. First read the message in its ` +
        'dead-letter queue: ERROR_CODE and ERROR_MESSAGE among its attributes say why, as a rule a missing permission; deploy again.',
      {
        // For good, after its retries: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html.
        namespace: 'AWS/Events',
        metricName: 'FailedInvocations',
        dimensions: { RuleName: ruleName },
        ...above(0),
        statistic: 'Sum',
        ...lasting(1),
        treatMissingData: 'notBreaching',
      },
    );
  }

  private alarm(what: string, description: string, rule: Rule): void {
    alarm(this, this.props, `${this.props.baseName}-${what}`, description, rule);
  }
}
