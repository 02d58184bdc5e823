// SPDX-License-Identifier: Apache-2.0
// One page for whoever is called at night. From top to bottom: is traffic flowing, which engine carries it, what is being
// lost, which gateway is it, what does it cost.
import { CloudwatchDashboard } from '@cdktf/provider-aws/lib/cloudwatch-dashboard';
import { Construct } from 'constructs';
import { partitionOf } from '../iam';
import { EC2_FRAGMENTS_PER_SECOND } from '../config/limits';
import { GATEWAY_DIMENSIONS, type GatewayMetric, groupDimensions, METRIC_NAMESPACE, type MetricName } from './metrics';

// CloudWatch's grid has 24 columns.
const COLUMNS = 24;
const HEADING_HEIGHT = 2;
const GRAPH_HEIGHT = 6;

const PERIOD = 60;

export interface GatewayDashboardProps {
  readonly baseName: string;
  readonly region: string;
  readonly groupName: string;
  readonly loadBalancer: { readonly LoadBalancer: string; readonly TargetGroup: string };
  readonly functionName: string;
  readonly failureQueueName: string;
  readonly logGroupName: string;
}

/** Namespace, name and dimensions, as the dashboard's JSON has them, and options last. */
type Metric = readonly (string | Readonly<Record<string, string | boolean>>)[];

type Statistic = 'Average' | 'Sum' | 'Maximum' | 'Minimum';

interface Graph {
  readonly title: string;
  readonly metrics: readonly Metric[];
  readonly stat: Statistic;
  readonly stacked?: boolean;
  /** A line across, where something changes. */
  readonly mark?: { readonly label: string; readonly value: number };
}

interface Section {
  readonly question: string;
  readonly hint: string;
  readonly graphs: readonly Graph[];
}

/** A dashboard of five sections. */
export class GatewayDashboard extends Construct {
  public readonly url: string;

  public constructor(scope: Construct, id: string, props: GatewayDashboardProps) {
    super(scope, id);
    const { region } = props;
    const name = `${props.baseName}-gateways`;
    const body = { start: '-PT3H', widgets: widgetsOf(sectionsOf(props), region) };
    new CloudwatchDashboard(this, 'dashboard', { dashboardName: name, dashboardBody: JSON.stringify(body) });
    this.url = `https://${consoleOf(region)}/cloudwatch/home?region=${region}#dashboards/dashboard/${name}`;
  }
}

function consoleOf(region: string): string {
  const consoles: Record<string, string> = {
    'aws-cn': 'console.amazonaws.cn',
    'aws-us-gov': 'console.amazonaws-us-gov.com',
    'aws-eusc': 'console.amazonaws-eusc.eu',
  };
  return consoles[partitionOf(region)] ?? `${region}.console.aws.amazon.com`;
}

/** The metrics that graphs are made of, each by its name alone. */
interface Sources {
  readonly props: GatewayDashboardProps;
  readonly ofGroup: (namespace: string, name: string) => Metric;
  readonly gateway: (name: MetricName) => Metric;
  readonly each: (name: GatewayMetric, stat: Statistic) => Metric;
  readonly balancer: (name: string) => Metric;
  readonly hosts: (name: string) => Metric;
  readonly group: (name: string) => Metric;
}

function sourcesOf(props: GatewayDashboardProps): Sources {
  const ofGroup = (namespace: string, name: string): Metric => [
    ...[namespace, name],
    ...Object.entries(groupDimensions(props.groupName)).flat(),
  ];
  const gateway = (name: MetricName): Metric => ofGroup(METRIC_NAMESPACE, name);
  const each = (name: GatewayMetric, stat: Statistic) => eachGateway(props.groupName, name, stat);
  const { LoadBalancer, TargetGroup } = props.loadBalancer;
  const balancer = (name: string): Metric => ['AWS/NetworkELB', name, 'LoadBalancer', LoadBalancer];
  const hosts = (name: string): Metric => [
    ...['AWS/NetworkELB', name],
    ...['TargetGroup', TargetGroup, 'LoadBalancer', LoadBalancer],
  ];
  const group = (name: string): Metric => ofGroup('AWS/AutoScaling', name);
  return { props, ofGroup, gateway, each, balancer, hosts, group };
}

function sectionsOf(props: GatewayDashboardProps): readonly Section[] {
  const sources = sourcesOf(props);
  return [trafficFlow, engines, losses, eachOfThem, costs].map((section) => section(sources));
}

function trafficFlow({ balancer, gateway, hosts }: Sources): Section {
  return {
    question: 'Is traffic flowing?',
    hint: 'The load balancer counts what mirror sources send, the gateways what they see. Bytes without packets: look at healthy hosts.',
    graphs: [
      { title: 'Mirrored bytes at the load balancer', stat: 'Sum', metrics: [balancer('ProcessedBytes_UDP')] },
      {
        title: 'Packets/s per gateway',
        stat: 'Average',
        metrics: [gateway('PacketsPerSecond'), gateway('PacketsModifiedPerSecond')],
      },
      { title: 'Bytes/s per gateway', stat: 'Average', metrics: [gateway('BytesPerSecond')] },
      {
        title: 'Healthy and unhealthy gateways',
        stat: 'Maximum',
        metrics: [hosts('HealthyHostCount'), hosts('UnHealthyHostCount')],
      },
    ],
  };
}

function engines({ gateway, props }: Sources): Section {
  return {
    question: 'Which engine carries it?',
    hint: `XDP alone when all is well. The journals of all gateways are in the log group ${props.logGroupName}.`,
    graphs: [
      {
        title: 'Datagrams/s by engine, mean per gateway (XDP in a mixed fleet: an estimate)',
        stat: 'Average',
        stacked: true,
        // Without XDP the gateways count as modified what netfilter did.
        metrics: [
          [{ expression: 'modified * attached', label: 'XDP', id: 'xdp' }],
          [...gateway('PacketsModifiedPerSecond'), { id: 'modified', visible: false }],
          [...gateway('XdpAttached'), { id: 'attached', visible: false }],
          gateway('NfqueuePacketsPerSecond'),
          gateway('StandbyPacketsPerSecond'),
        ],
      },
      { title: 'XDP attached (1) or not (0), the worst gateway', stat: 'Minimum', metrics: [gateway('XdpAttached')] },
      {
        title: 'By less than was asked for (1) or not (0), the worst gateway',
        stat: 'Maximum',
        metrics: [gateway('Degraded')],
      },
      {
        title: 'Nanoseconds that a packet costs in the XDP program',
        stat: 'Average',
        metrics: [gateway('ProcessingNanoseconds')],
      },
    ],
  };
}

function losses({ gateway, props }: Sources): Section {
  return {
    question: 'What is being lost?',
    hint: 'All of these are zero when all is well.',
    graphs: [
      {
        title: 'Lost on a gateway, per second',
        stat: 'Maximum',
        metrics: [gateway('PacketsLostPerSecond'), gateway('MalformedPacketsPerSecond')],
      },
      {
        title: 'Where: the legacy queue, a redirect, a processor, an interface, forwarding',
        stat: 'Maximum',
        metrics: [
          gateway('NfqueueDropsPerSecond'),
          gateway('RedirectDropsPerSecond'),
          gateway('SoftnetDropsPerSecond'),
          gateway('InterfaceDropsPerSecond'),
          gateway('ForwardingDropsPerSecond'),
        ],
      },
      {
        title: 'Over EC2’s allowances',
        stat: 'Maximum',
        metrics: [
          gateway('PpsAllowanceExceeded'),
          gateway('BandwidthAllowanceExceeded'),
          gateway('ConntrackAllowanceExceeded'),
        ],
      },
      {
        title: 'Second interfaces: launches given up, errors, undelivered events',
        stat: 'Sum',
        metrics: [
          gateway('LaunchesAbandoned'),
          ['AWS/Lambda', 'Errors', 'FunctionName', props.functionName],
          ['AWS/SQS', 'ApproximateNumberOfMessagesVisible', 'QueueName', props.failureQueueName],
        ],
      },
    ],
  };
}

function eachOfThem({ each, gateway }: Sources): Section {
  return {
    question: 'Which gateway is it?',
    hint: 'Each by its instance id. One in service that is not here sends no metrics. A rollout replaces all of them.',
    graphs: [
      {
        title: 'By less than was asked for (1) or not (0), each gateway',
        stat: 'Maximum',
        metrics: [each('Degraded', 'Maximum')],
      },
      { title: 'Packets/s, each gateway', stat: 'Average', metrics: [each('PacketsPerSecond', 'Average')] },
      {
        title: 'Rollouts: percent done, and how they ended',
        stat: 'Maximum',
        metrics: [
          gateway('RolloutPercent'),
          gateway('RolloutsSucceeded'),
          gateway('RolloutsRolledBack'),
          gateway('RolloutsFailed'),
          gateway('RolloutsCancelled'),
        ],
      },
      {
        title: 'IP fragments/s that count against EC2’s limit, each gateway; what is beyond is dropped',
        stat: 'Maximum',
        metrics: [each('FragmentsPerSecond', 'Maximum')],
        mark: { label: 'EC2’s limit', value: EC2_FRAGMENTS_PER_SECOND },
      },
    ],
  };
}

function costs({ balancer, gateway, group, ofGroup, props }: Sources): Section {
  return {
    question: 'What does it cost?',
    hint: 'Instances and load balancer capacity units are most of the bill.',
    graphs: [
      {
        title: 'Gateways',
        stat: 'Average',
        metrics: [group('GroupDesiredCapacity'), group('GroupInServiceInstances'), group('GroupPendingInstances')],
      },
      { title: 'Load balancer capacity units (UDP)', stat: 'Sum', metrics: [balancer('ConsumedLCUs_UDP')] },
      {
        title: 'Processors, memory and disks of the gateways, percent',
        stat: 'Average',
        metrics: [ofGroup('AWS/EC2', 'CPUUtilization'), gateway('MemoryUsedPercent'), gateway('DiskUsedPercent')],
      },
      {
        title: 'Bytes of logs and metrics',
        stat: 'Sum',
        metrics: [['AWS/Logs', 'IncomingBytes', 'LogGroupName', props.logGroupName]],
      },
    ],
  };
}

/**
 * A search, since instances come and go: whoever sent the metric while the graph lasts is a line, which CloudWatch labels by
 * what tells it from the others, the instance id.
 */
function eachGateway(groupName: string, name: GatewayMetric, stat: Statistic): Metric {
  const terms = Object.entries({ ...groupDimensions(groupName), MetricName: name }).map(
    ([key, value]) => `${key}="${value}"`,
  );
  const schema = [METRIC_NAMESPACE, ...GATEWAY_DIMENSIONS].join(',');
  return [{ expression: `SEARCH('{${schema}} ${terms.join(' ')}', '${stat}', ${PERIOD})`, id: 'each' }];
}

function widgetsOf(sections: readonly Section[], region: string): object[] {
  return sections.flatMap(({ question, hint, graphs }, index) => {
    const y = index * (HEADING_HEIGHT + GRAPH_HEIGHT);
    const width = COLUMNS / graphs.length;
    const heading = { type: 'text', x: 0, y, width: COLUMNS, height: HEADING_HEIGHT };
    return [
      { ...heading, properties: { markdown: `## ${question}\n${hint}` } },
      ...graphs.map((graph, column) => ({
        type: 'metric',
        x: column * width,
        y: y + HEADING_HEIGHT,
        width,
        height: GRAPH_HEIGHT,
        properties: propertiesOf(graph, region),
      })),
    ];
  });
}

function propertiesOf({ title, metrics, stat, stacked = false, mark }: Graph, region: string): object {
  return {
    title,
    region,
    stat,
    metrics,
    stacked,
    view: 'timeSeries',
    period: PERIOD,
    yAxis: { left: { min: 0 } },
    ...(mark ? { annotations: { horizontal: [mark] } } : {}),
  };
}
