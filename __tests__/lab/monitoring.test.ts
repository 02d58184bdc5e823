// SPDX-License-Identifier: Apache-2.0
// From the packet to the alarm: the shipped monitoring under traffic, its datagrams caught by a real socket, and every alarm,
// graph and scaling policy of the synthesized stack held against what was caught.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { METRIC_NAMESPACE } from '../../constructs/monitoring/metrics';
import { INSTALLED } from '../../constructs/user-data/user-data';
import { type Emf, emfProblems, type Series, seriesOf } from '../../lab/aws/emf';
import { inNamespace, must, Progress, sleep, waitFor } from '../../lab/support/host';
import { Agent, measureLatency, Monitoring } from '../../lab/namespaces/monitoring';
import { deploy, LAB, SETTINGS_FILE } from '../../lab/namespaces/namespaces';
import { type Search, searchOf } from '../../lab/aws/search';
import { Stream } from '../../lab/packets/traffic-stream';
import { FUNCTION_METRICS } from '../../lambda/shared/metrics';
import { useMonitoring } from './gateway';
import { all, type Body, only, parsed, synth, type Synthesized } from '../unit/constructs/synthesized';

const progress = new Progress('monitoring');
const LIST = join(INSTALLED, 'userdata/metrics.json');

// --- what the stack waits for -----------------------------------------------------------------------------------------

interface Consumer {
  readonly who: string;
  readonly namespace: string;
  readonly name: string;
  readonly unit?: string;
  /** A value that only AWS knows at synth is null. */
  readonly dimensions: Readonly<Record<string, string | null>>;
}

const literal = (value: unknown) => (String(value).includes('${') ? null : String(value));

/** On one metric, or on all that a query of metric math names. */
function alarmsOf(stack: Synthesized): Consumer[] {
  return all(stack, 'aws_cloudwatch_metric_alarm').flatMap((alarm) => {
    const queries = (alarm.metric_query ?? []) as readonly { readonly metric?: Body }[];
    const metrics: readonly Body[] = alarm.metric_name
      ? [alarm]
      : queries.flatMap(({ metric }) => (metric ? [metric] : []));
    return metrics.map(({ namespace, metric_name, unit, dimensions }) => ({
      who: `alarm ${String(alarm.alarm_name)}`,
      namespace: String(namespace),
      name: String(metric_name),
      unit: unit as string | undefined,
      dimensions: Object.fromEntries(Object.entries(dimensions as Body).map(([key, value]) => [key, literal(value)])),
    }));
  });
}

/**
 * Namespace, name, then keys and values in turns; options, and rows that search or compute from others, are objects. A search
 * asks for a metric, too.
 */
function graphsOf(stack: Synthesized): Consumer[] {
  const { dashboard_body } = only(stack, 'aws_cloudwatch_dashboard');
  const { widgets } = parsed<{ widgets: { properties: { title?: string; metrics?: unknown[][] } }[] }>(dashboard_body);
  return widgets.flatMap(({ properties: { title, metrics = [] } }) =>
    metrics.flatMap((row) => {
      const found = typeof row[0] === 'string' ? metricOf(row) : searchOf(String((row[0] as Body).expression));
      return found ? [{ who: `graph "${title}"`, ...found }] : [];
    }),
  );
}

function metricOf(row: readonly unknown[]): Search {
  const [namespace = '', name = '', ...rest] = row.filter((cell) => typeof cell === 'string');
  const pairs = rest.flatMap((key, at) => (at % 2 === 0 ? [[key, literal(rest[at + 1])] as const] : []));
  return { namespace, name, dimensions: Object.fromEntries(pairs) };
}

function scalingOf(stack: Synthesized): Consumer[] {
  return all(stack, 'aws_autoscaling_policy').flatMap(({ name, target_tracking_configuration }) => {
    const { customized_metric_specification: custom } = target_tracking_configuration as Body;
    if (custom === undefined) return [];
    const { namespace, metric_name, unit, metric_dimension } = custom as Body;
    const pairs = (metric_dimension as { name: string; value: string }[]).map(
      (each) => [each.name, literal(each.value)] as const,
    );
    const dimensions = Object.fromEntries(pairs);
    return [
      {
        ...{ who: `policy ${String(name)}`, namespace: String(namespace), name: String(metric_name) },
        ...{ unit: unit as string, dimensions },
      },
    ];
  });
}

/** Those on metrics of gateways: the function's own are caught where the function is tested. */
function consumersOf(stack: Synthesized): Consumer[] {
  return [...alarmsOf(stack), ...graphsOf(stack), ...scalingOf(stack)].filter(
    ({ namespace, name }) => namespace === METRIC_NAMESPACE && !(name in FUNCTION_METRICS),
  );
}

function isServed({ namespace, name, unit, dimensions }: Consumer, series: readonly Series[]): boolean {
  const keys = Object.keys(dimensions);
  return series.some(
    (sent) =>
      sent.namespace === namespace &&
      sent.name === name &&
      (unit === undefined || sent.unit === unit) &&
      Object.keys(sent.dimensions).length === keys.length &&
      keys.every((key) => key in sent.dimensions && (dimensions[key] ?? sent.dimensions[key]) === sent.dimensions[key]),
  );
}

const STACKS = { XDP: synth(), netfilter: synth({ enable_xdp: 'false' }) };
const consumers = Object.values(STACKS).flatMap(consumersOf);

function unserved(documents: readonly Emf[]): string[] {
  const series = seriesOf(documents);
  const missing = consumers.filter((consumer) => !isServed(consumer, series));
  return [...new Set(missing.map(({ who, name }) => `${who}: ${name}`))];
}

// --- the gateway --------------------------------------------------------------------------------------------------------

/** ENA's counters, which no driver here has; they grow by seven with each look. */
function enaCounters(folder: string): string {
  const looks = join(folder, 'looks');
  writeFileSync(looks, '0');
  const names = ['bw_in', 'bw_out', 'pps', 'conntrack', 'linklocal'].map((name) => `${name}_allowance_exceeded`);
  const program = `#!/bin/bash
    [[ $1 == -S ]] || exec /usr/sbin/ethtool "$@"
    looks=$(<${looks})
    printf '%s' $((looks + 1)) >${looks}
    printf 'NIC statistics:\\n     tx_timeout: 0\\n'
    printf '     %s: '$((7 * looks))'\\n' ${names.join(' ')}
    printf '     queue_0_tx_cnt: 5\\n'`;
  writeFileSync(join(folder, 'ethtool'), program, { mode: 0o755 });
  return folder;
}

describe('monitoring', () => {
  const folder = mkdtempSync(join(tmpdir(), 'monitoring-'));
  const path = enaCounters(folder);
  const lab = useMonitoring(progress);
  afterAll(() => rmSync(folder, { recursive: true }));

  /** Under traffic, once everything has been sent that ever is. */
  async function capture(): Promise<Emf[]> {
    lab.stream = await Stream.start({ pps: 2000 }, progress);
    lab.monitoring = Monitoring.start({ seconds: 1.5, path });
    const first = await lab.agent.next(1);
    await measureLatency();
    const rest = await lab.agent.next(3);
    await lab.monitoring.stop();
    await lab.stream.finish();
    return [...first, ...rest];
  }

  describe('under traffic', () => {
    let documents: Emf[] = [];
    beforeAll(async () => {
      documents = await capture();
    });

    it('sends documents in the embedded metric format, each in a datagram of its own', () => {
      expect(documents.length).toBeGreaterThanOrEqual(4);
      expect(documents.flatMap(emfProblems)).toEqual([]);
      expect(lab.monitoring?.said).toEqual([]);
    });

    it('names log group, instance and region, what carries the traffic, and why if it is less than it should be', () => {
      expect(documents.at(-1)).toMatchObject({
        _aws: { LogGroupName: '/aws/ec2/xdp-packet-processor', LogStreamName: 'i-00000000000000001/metrics' },
        ...{
          AutoScalingGroupName: 'mirror-gateway-xdp-asg',
          InstanceId: 'i-00000000000000001',
          Region: 'eu-central-1',
        },
        ...{ Engine: 'direct', XdpMode: 'generic', State: 'healthy' },
      });
    });

    it('sends every metric of its list, and no other', () => {
      const { metrics } = JSON.parse(readFileSync(LIST, 'utf8')) as { metrics: object };
      const names = new Set(seriesOf(documents).map(({ name }) => name));
      expect([...names].sort()).toEqual(Object.keys(metrics).sort());
    });

    it('sends values that fit what happens', () => {
      const steady = documents.slice(2);
      for (const document of steady) {
        expect(document.PacketsPerSecond).toBeGreaterThan(1000);
        expect(document.BytesPerSecond).toBeCloseTo(1428 * Number(document.PacketsModifiedPerSecond), -4);
        expect(document).toMatchObject({
          XdpAttached: 1,
          Degraded: 0,
          StandbyPacketsPerSecond: 0,
          NfqueueDropsPerSecond: 0,
        });
        // Two interfaces; of the bandwidth two counters each.
        expect(document).toMatchObject({ PpsAllowanceExceeded: 28, BandwidthAllowanceExceeded: 56 });
      }
      const [latency] = documents.flatMap(({ ProcessingNanoseconds: each }) =>
        each === undefined ? [] : [Number(each)],
      );
      expect(latency).toBeGreaterThan(10);
      expect(latency).toBeLessThan(100_000);
    });

    it('sends what every alarm, graph and scaling policy of the stack is on: namespace, name, unit and dimensions', () => {
      expect(consumers.length).toBeGreaterThan(30);
      expect(unserved(documents)).toEqual([]);
    });
  });

  it('is found out when it stops sending what an alarm is on', async () => {
    const list = JSON.parse(readFileSync(LIST, 'utf8')) as { metrics: Record<string, object> };
    const { XdpAttached: removed, ...metrics } = list.metrics;
    expect(removed).toBeDefined();
    try {
      writeFileSync(LIST, JSON.stringify({ ...list, metrics }));
      expect(unserved(await capture())).toEqual([
        'alarm mirror-gateway-xdp-not-attached: XdpAttached',
        'graph "Datagrams/s by engine, mean per gateway (XDP in a mixed fleet: an estimate)": XdpAttached',
        'graph "XDP attached (1) or not (0), the worst gateway": XdpAttached',
      ]);
    } finally {
      writeFileSync(LIST, JSON.stringify(list, null, 2));
    }
  });

  it("tells the fragments that count against EC2's limit, whoever makes them, and none where all leaves whole", async () => {
    lab.stream = await Stream.start({ pps: 2000 }, progress);
    lab.monitoring = Monitoring.start({ seconds: 1.5, path });
    const deployed = readFileSync(SETTINGS_FILE, 'utf8');
    try {
      for (const [mtu, verb, each] of [
        [1400, 'attach', 2],
        [1400, 'rollback', 2],
        [9001, 'attach', 0],
      ] as const) {
        writeFileSync(SETTINGS_FILE, deployed.replace(/^EGRESS_MTU=.*$/m, `EGRESS_MTU=${mtu}`));
        await deploy('network-up');
        await deploy('attach');
        await deploy(verb);
        const { FragmentsPerSecond, PacketsPerSecond } = (await lab.agent.next(4)).at(-1) as Emf;
        expect(Number(FragmentsPerSecond) / Number(PacketsPerSecond)).toBeCloseTo(each, 1);
      }
    } finally {
      await lab.monitoring.stop();
      await lab.stream.finish();
      writeFileSync(SETTINGS_FILE, deployed);
      await deploy('network-up');
      await deploy('attach');
    }
  });

  // --- losses -------------------------------------------------------------------------------------------------------------

  const inGateway = (...command: string[]) => must(...inNamespace(LAB.primary.namespace, ...command));

  it('tells what is lost because the way to the IPsec VM leads elsewhere', async () => {
    lab.stream = await Stream.start({ pps: 2000 }, progress);
    lab.monitoring = Monitoring.start({ seconds: 1.5, path });
    const way = ['ip', 'route', 'replace', `${LAB.sink.address}/32`, 'dev'];
    try {
      await inGateway(...way, LAB.primary.interface);
      const document = (await lab.agent.next(4)).at(-1);
      const { ForwardingDropsPerSecond, PacketsLostPerSecond, PacketsPerSecond } = document as Emf;
      expect(Number(ForwardingDropsPerSecond) / Number(PacketsPerSecond)).toBeCloseTo(1, 1);
      expect(Number(PacketsLostPerSecond) / Number(PacketsPerSecond)).toBeCloseTo(1, 1);
      expect(document).toMatchObject({
        Degraded: 1,
        State: 'broken',
        Reason: expect.stringContaining('no route') as unknown,
      });
    } finally {
      await inGateway(...way, 'br0', 'src', LAB.secondary.address);
    }
    const after = (await lab.agent.next(3)).at(-1);
    expect(after).toMatchObject({ ForwardingDropsPerSecond: 0, Degraded: 0, State: 'healthy' });
  });

  // --- the agent ------------------------------------------------------------------------------------------------------------

  describe('the CloudWatch agent', () => {
    const home = '/opt/aws/amazon-cloudwatch-agent';
    const taken = join(folder, 'taken.json');
    let made: string | undefined;

    /** One that is there, and takes settings without the word. */
    function install(refuses: string): void {
      expect(existsSync(home)).toBe(false);
      made = mkdirSync(join(home, 'bin'), { recursive: true });
      const program = `#!/bin/sh
        [ "$1 $2 $3 $4 $5 $6" = "-a fetch-config -m ec2 -s -c" ] || exit 2
        ! grep -q '${refuses}' "\${7#file:}" && cp "\${7#file:}" ${taken}`;
      writeFileSync(join(home, 'bin/amazon-cloudwatch-agent-ctl'), program, { mode: 0o755 });
    }

    afterEach(() => {
      if (made !== undefined) rmSync(made, { recursive: true, force: true });
      rmSync(taken, { force: true });
    });

    const settings = () => JSON.parse(readFileSync(taken, 'utf8')) as { logs: Record<string, unknown> };

    it('gets its settings, with the log group of the stack', async () => {
      install('no such word');
      expect(await deploy('agent')).toBe('');
      const [shipped, group] = [readFileSync(join(INSTALLED, 'userdata/cloudwatch-config.json'), 'utf8'), settings()];
      expect(group).toEqual(JSON.parse(shipped));
      const file = '/etc/mirror-gateway/gateway.env';
      const deployed = readFileSync(file, 'utf8');
      try {
        writeFileSync(file, deployed.replace(/^LOG_GROUP=.*$/m, 'LOG_GROUP=/another/group'));
        await deploy('agent');
        expect(settings()).toHaveProperty(
          'logs.logs_collected.journald.collect_list.0.log_group_name',
          '/another/group',
        );
      } finally {
        writeFileSync(file, deployed);
      }
    });

    it('gets them without the journal if it does not know that', async () => {
      install('journald');
      expect(await deploy('agent')).toContain('does not know the journal');
      expect(settings().logs).not.toHaveProperty('logs_collected');
      expect(settings().logs).toHaveProperty('metrics_collected.emf.service_address', 'udp://127.0.0.1:25888');
    });

    it('is no reason to fail where it takes none, or is not to be had', async () => {
      install('emf');
      expect(await deploy('agent')).toContain('does not take its settings');
      rmSync(home, { recursive: true });
      expect(await deploy('agent')).toContain('no amazon-cloudwatch-agent');
    });
  });

  // --- what may be missing ---------------------------------------------------------------------------------------------------

  const becomes = (what: string, probe: () => boolean) =>
    waitFor(what, () => probe() || undefined, { timeoutMs: 20_000, everyMs: 100, progress });

  it('says once that no agent listens, and once that one does', async () => {
    await lab.agent.stop();
    lab.monitoring = Monitoring.start({ seconds: 1 });
    const { said } = lab.monitoring;
    await sleep(4000);
    expect(said).toEqual(['metrics go nowhere: no CloudWatch agent listens on 127.0.0.1/25888']);
    lab.agent = await Agent.start(progress);
    await lab.agent.next(2);
    expect(said.slice(1)).toEqual([`no longer: ${said[0]}`]);
    expect(lab.monitoring.running).toBe(true);
  });

  it('says once that the metadata service does not answer, and sends nothing', async () => {
    const known = lab.agent.datagrams.length;
    lab.monitoring = Monitoring.start({ seconds: 1, namespace: LAB.source.namespace });
    await sleep(4000);
    expect(lab.monitoring.said).toEqual([
      'no metrics: the metadata service (http://169.254.169.254/latest) does not answer',
    ]);
    expect(lab.monitoring.running).toBe(true);
    expect(lab.agent.datagrams).toHaveLength(known);
  });

  it('says once that there is no loader, and goes on with what it has without', async () => {
    const loader = join(INSTALLED, 'bpf/udp_df_modifier_loader');
    try {
      renameSync(loader, `${loader}.away`);
      lab.monitoring = Monitoring.start({ seconds: 1.5 });
      const documents = await lab.agent.next(3);
      expect(documents.flatMap(emfProblems)).toEqual([]);
      expect(documents.at(-1)).toMatchObject({ XdpAttached: 1, StandbyPacketsPerSecond: 0 });
      expect(documents.at(-1)).not.toHaveProperty('PacketsPerSecond');
      expect(lab.monitoring.said).toEqual([expect.stringMatching(/^no counters of XDP: its loader is not built/)]);
    } finally {
      renameSync(`${loader}.away`, loader);
    }
    const { said } = lab.monitoring;
    await becomes('the loader to be seen', () => said.length > 1);
    expect(said[1]).toBe(`no longer: ${said[0]}`);
  });

  it('says why there is no status, and goes on with the machine’s own metrics', async () => {
    const settings = '/etc/mirror-gateway/gateway.env';
    lab.monitoring = Monitoring.start({ seconds: 1.5 });
    await lab.agent.next(2);
    const { said } = lab.monitoring;
    try {
      renameSync(settings, `${settings}.away`);
      await becomes('a word on it', () => said.length > 0);
      const [, document] = await lab.agent.next(2);
      expect(document).toMatchObject({ SoftnetDropsPerSecond: expect.any(Number) as unknown });
      expect(document).not.toHaveProperty('XdpAttached');
      expect(said).toEqual([expect.stringMatching(/^no counters: xdp-monitoring.sh: .*gateway\.env is missing/)]);
    } finally {
      renameSync(`${settings}.away`, settings);
    }
  });
});
