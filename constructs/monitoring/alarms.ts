// SPDX-License-Identifier: Apache-2.0
// What wakes somebody, and what they should look at first.
import type { CloudwatchMetricAlarm } from '@cdktf/provider-aws/lib/cloudwatch-metric-alarm';
import { Construct } from 'constructs';
import { EC2_FRAGMENTS_PER_SECOND } from '../config/limits';
import { above, alarm, type Alarmed, lasting, type Rule } from './alarm';
import { groupDimensions, METRIC_NAMESPACE, type MetricName, unitOf } from './metrics';

const MINUTE = 60;

// Of EC2's limit on fragments: who is called before anything is dropped has time to deploy.
const FRAGMENT_SHARE = 0.8;

// A gateway samples once in every ten seconds of the clock (await_turn in xdp-monitoring.sh).
const SAMPLES_A_MINUTE = 6;

// Longer than a replacement takes from the first failed check on: launch hook, build with its whole grace, some minutes.
const REPLACEMENT_MINUTES = 40;

export interface GatewayAlarmsProps extends Alarmed {
  /** Name of the alarm on the packet rate. */
  readonly rateAlarmName: string;
  readonly groupName: string;
  /** Without XDP the alarms on its rate and its hook make no sense, and there are none. */
  readonly enableXdp: boolean;
  /** Packets/s per gateway below which the alarm on the rate fires. */
  readonly packetsPerSecond: number;
  readonly loadBalancer: { readonly LoadBalancer: string; readonly TargetGroup: string };
  readonly functionName: string;
  readonly failureQueueName: string;
}

/** Every alarm is on metrics of the list in metrics.ts or of AWS itself, and says in its description what to check first. */
export class GatewayAlarms extends Construct {
  /** Fires when nobody is healthy although the group has replaced. */
  public readonly replacementDoesNotHelp: CloudwatchMetricAlarm;
  /**
   * Names of the alarms that turn a rollout back: that a gateway runs by less than it was asked for, whichever engine that is.
   * None on health is among them: the rollout waits for health by itself, and where nobody is healthy it must be able to
   * start. Nor is what a full queue of the NFQUEUE daemon sets off: a rollout to XDP is what ends that, and one to netfilter
   * was asked for. Without data they are OK: Auto Scaling replaces nothing while one has none
   * (https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-rollback.html).
   */
  public readonly rolloutAlarmNames: readonly string[];

  public constructor(
    scope: Construct,
    id: string,
    private readonly props: GatewayAlarmsProps,
  ) {
    super(scope, id);
    if (props.enableXdp) this.watchXdp();
    const degraded = this.watchEngines();
    this.watchMachines();
    this.replacementDoesNotHelp = this.watchHosts();
    this.watchFunction();
    this.rolloutAlarmNames = [degraded.alarmName];
  }

  private watchXdp(): void {
    const { rateAlarmName, packetsPerSecond } = this.props;
    this.alarm(
      rateAlarmName,
      'XDP packet processing rate below threshold. First compare with the load balancer: when its ProcessedBytes fell too, ' +
        'the mirror sources send less; otherwise run "sudo deploy_xdp.sh status" on a gateway.',
      {
        ...this.gatewayMetric('PacketsPerSecond'),
        comparisonOperator: 'LessThanThreshold',
        threshold: packetsPerSecond,
        statistic: 'Average',
        evaluationPeriods: 2,
        period: MINUTE,
      },
    );
    this.alarm(
      this.named('xdp-not-attached'),
      'A gateway runs without its XDP program; netfilter carries its traffic. First run "sudo deploy_xdp.sh attach" there: it ' +
        'says why the program is refused.',
      {
        ...this.gatewayMetric('XdpAttached'),
        comparisonOperator: 'LessThanThreshold',
        threshold: 1,
        statistic: 'Minimum',
        ...lasting(3),
      },
    );
  }

  private watchEngines(): CloudwatchMetricAlarm {
    const degraded = this.alarm(
      this.named('degraded'),
      'A gateway runs, but by less than was asked for: a lower engine or mode, the standby, or nothing at all. First run "sudo ' +
        'deploy_xdp.sh health" on the gateway whose Degraded is 1: it names the reason.',
      {
        ...this.gatewayMetric('Degraded'),
        ...above(0),
        statistic: 'Maximum',
        ...lasting(5),
        // A rollout waits for it: see rolloutAlarmNames.
        treatMissingData: 'notBreaching',
      },
    );
    this.alarm(
      this.named('standby-carries-traffic'),
      'The standby rule clears DF because no engine does, or because the queue of the legacy program is full. First run "sudo ' +
        'deploy_xdp.sh status" on the gateway with the highest StandbyPacketsPerSecond: when nfqueue_packets grows, the program ' +
        'is too slow for its share ("sudo deploy_xdp.sh attach", or a higher xdp_traffic_percent); otherwise the journal of ' +
        'xdp-processor or modify_udp says why the engine that was asked for does not run.',
      { ...this.gatewayMetric('StandbyPacketsPerSecond'), ...above(0), statistic: 'Maximum', ...lasting(3) },
    );
    // modify_udp_df has the kernel send what its queue cannot take past it, to the fallback rule: only a queue without that drops.
    this.alarm(
      this.named('nfqueue-drops'),
      'The queue of the legacy program drops datagrams: never with modify_udp_df, whose queue is fail-open, so something else ' +
        'serves queue 0. First look on the gateway with the highest NfqueueDropsPerSecond which program that is ("sudo cat ' +
        '/proc/net/netfilter/nfnetlink_queue" has its port id, as a rule its pid); "sudo deploy_xdp.sh attach" takes the ' +
        'traffic off the queue.',
      { ...this.gatewayMetric('NfqueueDropsPerSecond'), ...above(0), statistic: 'Maximum', ...lasting(2) },
    );
    return degraded;
  }

  private watchMachines(): void {
    this.alarm(
      this.named('packets-lost'),
      'A gateway loses packets. First look at the dashboard, "What is being lost?": the graph of places says where, and for ' +
        'the highest one docs/operations.md says what to do.',
      { ...this.gatewayMetric('PacketsLostPerSecond'), ...above(0), statistic: 'Maximum', ...lasting(3) },
    );
    this.alarm(
      this.named('pps-allowance-exceeded'),
      'EC2 drops packets because a gateway is over a packet allowance. First look whether fragment-limit fires, too: then it ' +
        'is that of IP fragments, which is the same for all instance types, and a larger one does not help against this; set ' +
        'egress_mtu to 9001 and deploy. With ENA’s fragment bypass on that alarm keeps still: then "sudo deploy_xdp.sh stats" has ' +
        'the fragments. Otherwise it is that of the instance type: when the group is at its maximum size, raise ' +
        'mirroring_instance_count or take a larger ec2_instance_type.',
      { ...this.gatewayMetric('PpsAllowanceExceeded'), ...above(0), statistic: 'Maximum', ...lasting(3) },
    );
    this.alarm(
      this.named('bandwidth-allowance-exceeded'),
      'EC2 delays or drops packets because a gateway is over the bandwidth of its instance type, which is a baseline with credits ' +
        'for bursts. First look at "Bytes/s per gateway" on the dashboard: when the group is at its maximum size, raise ' +
        'mirroring_instance_count or take a larger ec2_instance_type; otherwise it grows by itself within minutes.',
      { ...this.gatewayMetric('BandwidthAllowanceExceeded'), ...above(0), statistic: 'Maximum', ...lasting(3) },
    );
    this.alarm(
      this.named('conntrack-allowance-exceeded'),
      'EC2 drops packets because a gateway has more flows than security groups can track: each mirrored flow is one, since it ' +
        'leaves under a foreign source. First raise mirroring_instance_count, or take a larger ec2_instance_type: the allowance ' +
        'grows with it.',
      { ...this.gatewayMetric('ConntrackAllowanceExceeded'), ...above(0), statistic: 'Maximum', ...lasting(3) },
    );
    // A gateway whose driver takes fragments past the limit sends 0, so that nobody need silence this.
    this.alarm(
      this.named('fragment-limit'),
      `A gateway sends IP fragments near the ${EC2_FRAGMENTS_PER_SECOND} a second that EC2 lets out of a network interface; it ` +
        'drops what is beyond, whatever the engine and the instance type. First compare egress_mtu with the sizes that are ' +
        'mirrored: datagrams longer than it leave in fragments. With 9001 they leave whole, for the IPsec VM to cut before ' +
        'encryption: set it and deploy. Or have Amazon’s ENA driver on the image, with enable_frag_bypass=1. A larger ' +
        'instance type does not help against this.',
      {
        ...this.gatewayMetric('FragmentsPerSecond'),
        ...above(FRAGMENT_SHARE * EC2_FRAGMENTS_PER_SECOND),
        statistic: 'Maximum',
        ...lasting(2),
      },
    );
    this.watchReports();
  }

  private watchReports(): void {
    this.alarm(
      this.named('no-data'),
      'No gateway reports. First look at healthy hosts on the dashboard: when there are some, the CloudWatch agent or its ' +
        'way to the logs API is broken ("systemctl status amazon-cloudwatch-agent xdp-monitoring"), not the traffic.',
      {
        ...this.gatewayMetric('PacketsPerSecond'),
        comparisonOperator: 'LessThanThreshold',
        threshold: 1,
        statistic: 'SampleCount',
        ...lasting(5),
        // A dead gateway sends no zeros.
        treatMissingData: 'breaching',
      },
    );
    this.alarm(
      this.named('silent-gateway'),
      'A gateway in service sends no metrics, so no other alarm sees it. First compare the instances of the Auto Scaling ' +
        'group with those that the dashboard has under "Which gateway is it?"; on the missing one "systemctl status amazon-cloudwatch-agent xdp-monitoring" and "sudo ' +
        'deploy_xdp.sh health" say whether it lacks the agent or more.',
      this.silentGateway(),
    );
  }

  /**
   * Gateways in service less those that report, by their samples. One that is silent makes 1, in a group of any size, since
   * nobody sends more than six a minute. Healthy ones make 0; half a gateway is let through, that is three samples lost a
   * minute in the whole group. So in a group of n the alarm is wrong only if each loses more than 1/(2n) of its samples for
   * all of the minutes: one in twenty of 10 gateways, one in a thousand of 500.
   *
   * A gateway is in service while it is being built, which may take ten minutes, and in a rollout the next one may begin when
   * one is done: a single minute in which all report ends the wait. One that leaves sends a little longer, which ends it too.
   */
  private silentGateway(): Rule {
    const dimensions = groupDimensions(this.props.groupName);
    const ofMinute = { dimensions, period: MINUTE };
    // Sent with every status, whichever engine runs.
    const reports = { namespace: METRIC_NAMESPACE, metricName: 'Degraded', unit: unitOf('Degraded') } as const;
    const inService = { namespace: 'AWS/AutoScaling', metricName: 'GroupInServiceInstances' };
    return {
      ...above(0.5),
      ...{ evaluationPeriods: 15, datapointsToAlarm: 15 },
      metricQuery: [
        {
          ...{ id: 'silent', label: 'Gateways that send nothing', returnData: true },
          expression: `in_service - samples / ${SAMPLES_A_MINUTE}`,
        },
        { id: 'in_service', metric: { ...inService, ...ofMinute, stat: 'Minimum' } },
        { id: 'samples', metric: { ...reports, ...ofMinute, stat: 'SampleCount' } },
      ],
      // If all are silent, there is no count and another alarm.
      treatMissingData: 'missing',
    };
  }

  private watchHosts(): CloudwatchMetricAlarm {
    const hosts = (metricName: string) => ({
      namespace: 'AWS/NetworkELB',
      metricName,
      dimensions: { ...this.props.loadBalancer },
    });
    this.alarm(
      this.named('unhealthy-hosts'),
      'A gateway has failed its health check for longer than building one takes. First run "sudo deploy_xdp.sh ' +
        'health" there: it names the reason.',
      {
        ...hosts('UnHealthyHostCount'),
        ...above(0),
        statistic: 'Minimum',
        ...lasting(15),
        treatMissingData: 'missing',
      },
    );
    const nobody = {
      ...hosts('HealthyHostCount'),
      comparisonOperator: 'LessThanThreshold',
      threshold: 1,
      statistic: 'Maximum',
      // A load balancer without targets reports none.
      treatMissingData: 'breaching',
    };
    this.alarm(
      this.named('no-healthy-hosts'),
      'No gateway is healthy; the load balancer sends to all of them. First look at the activity of the Auto Scaling group: ' +
        'launches that end in ABANDON point to the ENI function, instances that stay point to their health reason.',
      { ...nobody, ...lasting(3) },
    );
    return this.alarm(
      this.named('replacement-does-not-help'),
      'No gateway has been healthy for longer than a replacement takes, so replacing is suspended (ReplaceUnhealthy). First ' +
        'turn back the last rollout or revert the last setting; the process resumes by itself when a gateway is healthy.',
      // Unlike the alarm above: before the first gateway there is no datum, and nothing that replacing could not help.
      { ...nobody, ...lasting(REPLACEMENT_MINUTES), treatMissingData: 'ignore' },
    );
  }

  private watchFunction(): void {
    const { functionName, failureQueueName } = this.props;
    this.alarm(
      this.named('launches-abandoned'),
      'A launch was given up because its second interface cannot be had, and the group tries again for ever. First read the ' +
        `log group /aws/lambda/${functionName}: the line "launch of ... abandoned" says why and what to do.`,
      {
        ...this.gatewayMetric('LaunchesAbandoned'),
        ...above(0),
        statistic: 'Sum',
        ...lasting(1),
        treatMissingData: 'notBreaching',
      },
    );
    this.alarm(
      this.named('eni-function-errors'),
      'The function that attaches second interfaces failed and is called again. First wait for the next call, a minute or ' +
        `two later; when the alarm stays, read its log group /aws/lambda/${functionName}.`,
      {
        namespace: 'AWS/Lambda',
        metricName: 'Errors',
        dimensions: { FunctionName: functionName },
        ...above(0),
        statistic: 'Sum',
        ...lasting(1),
        treatMissingData: 'notBreaching',
      },
    );
    this.alarm(
      this.named('eni-events-undelivered'),
      `Launches got no second interface: their events lie in the queue ${failureQueueName}. First read one there; it names ` +
        'the instance and the error. The group has replaced these instances, so delete the messages afterwards.',
      {
        namespace: 'AWS/SQS',
        metricName: 'ApproximateNumberOfMessagesVisible',
        dimensions: { QueueName: failureQueueName },
        ...above(0),
        statistic: 'Maximum',
        ...lasting(1),
        treatMissingData: 'notBreaching',
      },
    );
  }

  private named(what: string): string {
    return `${this.props.baseName}-${what}`;
  }

  /** A metric of ours, over the whole group. */
  private gatewayMetric(metricName: MetricName) {
    return {
      namespace: METRIC_NAMESPACE,
      metricName,
      unit: unitOf(metricName),
      dimensions: groupDimensions(this.props.groupName),
      // Silence has an alarm of its own.
      treatMissingData: 'missing',
    };
  }

  private alarm(alarmName: string, alarmDescription: string, rule: Rule): CloudwatchMetricAlarm {
    return alarm(this, this.props, alarmName, alarmDescription, rule);
  }
}
