// SPDX-License-Identifier: Apache-2.0
// What a gateway makes of its counters: no rate where it would be a guess, and documents that CloudWatch takes.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { METRIC_NAMESPACE, METRICS } from '../../../constructs/monitoring/metrics';
import { logGroupName } from '../../../constructs/config/names';
import { type Emf, emfProblems } from '../../../lab/aws/emf';
import { REPOSITORY } from '../../../lab/support/host';
import list from '../../../userdata/metrics.json';
import { COUNTERS, documentsOf, hasJq, sample, type Sample } from './samples';

const testJq = hasJq ? test : test.skip;

const last = (...samples: (Sample | string)[]): Emf => documentsOf(...samples).at(-1) as Emf;
/** By an interface, and by its queue where that could be read. */
const dropped = (name: string, interface_: number, queue?: number) => ({
  [`interface_dropped ${name}`]: interface_,
  ...(queue === undefined ? {} : { [`queue_dropped ${name}`]: queue }),
});
const RATES = Object.keys(list.metrics).filter((name) => name.endsWith('PerSecond'));
const ENA = ['pps', 'bw_in', 'bw_out', 'conntrack'].map((name) => `ena_${name}_allowance_exceeded`);
const ofInterfaces = (names: readonly string[], value: number) =>
  Object.fromEntries(names.flatMap((name) => ['ens5', 'ens6'].map((each) => [`${name} ${each}`, value])));
const ratesOf = (document: Emf) => RATES.filter((name) => name in document);

describe(`a gateway's metrics${hasJq ? '' : ' (SKIPPED: jq is not installed)'}`, () => {
  testJq('are rates of what grew since the sample before, by the time that passed between the readings', () => {
    const document = last(
      sample(0, { packets_seen: 1000, bytes_processed: 5_000_000 }),
      sample(1, { packets_seen: 21_000, bytes_processed: 6_428_000, uptime: 1008 }),
    );
    expect(document).toMatchObject({
      PacketsPerSecond: 20_000 / 8,
      BytesPerSecond: 178_500,
      StandbyPacketsPerSecond: 0,
    });
  });

  testJq(
    'are all that the list has, with its units, for both sets of dimensions, in a document that CloudWatch takes',
    () => {
      const ena = ofInterfaces(ENA, 3);
      const machine = { ...sample(0, {}).machine, ...ena };
      const document = last(
        sample(0, {}, { machine, latency: { measured_at: 990, packets: 5, nanoseconds: 400.5 } }),
        sample(1, {}, { machine, latency: { measured_at: 1005, packets: 5, nanoseconds: 300.5 } }),
      );
      expect(emfProblems(document)).toEqual([]);
      expect(document._aws).toEqual({
        Timestamp: 1_700_000_010_000,
        LogGroupName: '/some/group',
        LogStreamName: 'i-1/metrics',
        CloudWatchMetrics: [
          {
            Namespace: METRIC_NAMESPACE,
            Dimensions: [['AutoScalingGroupName'], ['AutoScalingGroupName', 'InstanceId']],
            Metrics: Object.entries(METRICS).map(([Name, { unit }]) => ({ Name, Unit: unit })),
          },
        ],
      });
      expect(document).toMatchObject({ AutoScalingGroupName: 'some-group', InstanceId: 'i-1', Region: 'eu-central-1' });
      expect(document).toMatchObject({ ProcessingNanoseconds: 300.5, MemoryUsedPercent: 75, DiskUsedPercent: 25 });
      expect(document).toMatchObject({
        Engine: 'direct',
        XdpMode: 'driver',
        State: 'healthy',
        XdpAttached: 1,
        Degraded: 0,
      });
    },
  );

  testJq('have no rate in the first sample, but say what carries the traffic', () => {
    const [document] = documentsOf(sample(0, { packets_seen: 1e9, attached: false, state: 'degraded', reason: 'why' }));
    expect(ratesOf(document as Emf)).toEqual([]);
    expect(document).toMatchObject({ XdpAttached: 0, Degraded: 1, Reason: 'why' });
  });

  testJq.each([
    ['begins anew and is smaller', { packets_seen: 10 }],
    ['begins anew and is larger already, which only its map tells', { packets_seen: 9000, stats_map: 8 }],
    ['is another: netfilter’s, which has counted since the boot', { packets_seen: 1e9, stats_map: 0, attached: false }],
  ])('have no rate of a counter that %s, and the right one again after it', (_, changed) => {
    const [, during, after] = documentsOf(
      sample(0, { packets_seen: 5000 }),
      sample(1, changed),
      sample(2, { ...changed, packets_seen: changed.packets_seen + 500 }),
    );
    expect(during).not.toHaveProperty('PacketsPerSecond');
    expect(during).toHaveProperty('StandbyPacketsPerSecond');
    expect(after).toMatchObject({ PacketsPerSecond: 50 });
  });

  testJq('have no rate of a queue that another socket serves', () => {
    const document = last(
      sample(0, { nfqueue_packets: 5, nfqueue_socket: 1 }),
      sample(1, { nfqueue_packets: 9, nfqueue_socket: 2 }),
    );
    expect(document).not.toHaveProperty('NfqueuePacketsPerSecond');
    expect(document).toMatchObject({ PacketsPerSecond: 0 });
  });

  testJq('go on without a status, and bridge the gap with its mean', () => {
    const [, during, after] = documentsOf(
      sample(0, { packets_seen: 0 }),
      sample(1, null),
      sample(2, { packets_seen: 2000 }),
    );
    expect(during).not.toHaveProperty('PacketsPerSecond');
    expect(during).not.toHaveProperty('XdpAttached');
    expect(during).toMatchObject({ MemoryUsedPercent: 75, SoftnetDropsPerSecond: 0 });
    expect(after).toMatchObject({ PacketsPerSecond: 100 });
  });

  testJq('have no rate of counters that a status without a loader lacks', () => {
    const unknown = { packets_seen: null, packets_modified: null, bytes_processed: null };
    const document = last(sample(0, unknown), sample(1, unknown));
    expect(document).not.toHaveProperty('PacketsPerSecond');
    expect(document).toMatchObject({ XdpAttached: 1, StandbyPacketsPerSecond: 0 });
  });

  testJq('have no rate over less than a second', () => {
    expect(last(sample(0, {}), sample(0, { packets_seen: 50, uptime: 1000.5 }))).not.toHaveProperty('PacketsPerSecond');
  });

  testJq('survive a line that is none', () => {
    const [, document] = documentsOf(sample(0, {}), '{"at":', '[]', sample(1, { packets_seen: 70 }));
    expect(document).toMatchObject({ PacketsPerSecond: 7 });
  });

  testJq('count a loss where it happened, and in the sum', () => {
    const document = last(
      sample(0, {}),
      sample(
        1,
        {
          ...{ nfqueue_dropped: 10, redirects_refused: 20, redirects_unsent: 30, failed: 40 },
          ...{ packets_misrouted: 50, packets_expired: 100 },
        },
        { machine: { softnet_dropped: 60, ...dropped('ens5', 70, 90), forwarding_dropped: 80 } },
      ),
    );
    expect(document).toMatchObject({
      ...{ NfqueueDropsPerSecond: 1, RedirectDropsPerSecond: 9, InterfaceDropsPerSecond: 16 },
      ...{ ForwardingDropsPerSecond: 23, PacketsLostPerSecond: 49 },
    });
  });

  testJq('count what a full backlog drops once in the sum: its interface has it, too', () => {
    const machine = { softnet_dropped: 60, ...dropped('ens5', 60), forwarding_dropped: 0 };
    expect(last(sample(0, {}), sample(1, {}, { machine }))).toMatchObject({
      ...{ SoftnetDropsPerSecond: 6, InterfaceDropsPerSecond: 6, PacketsLostPerSecond: 6 },
    });
  });

  testJq('take nothing for lost that an interface counted before it joined', () => {
    const [, joins, after] = documentsOf(
      sample(0, {}, { machine: dropped('ens5', 100) }),
      sample(1, {}, { machine: { ...dropped('ens5', 110), ...dropped('ens6', 5000, 7000) } }),
      sample(2, {}, { machine: { ...dropped('ens5', 120), ...dropped('ens6', 5030, 7000) } }),
    );
    expect(joins).toMatchObject({ InterfaceDropsPerSecond: 1, PacketsLostPerSecond: 1 });
    expect(after).toMatchObject({ InterfaceDropsPerSecond: 4, PacketsLostPerSecond: 4 });
    expect(after).toMatchObject({ Counters: { interface_dropped: 5150, queue_dropped: 7000 } });
  });

  testJq('take nothing for lost, nor for over an allowance, because one counter could not be read for once', () => {
    const ena = (value: number) => ({ 'ena_pps_allowance_exceeded ens6': value });
    const others = { ...dropped('ens5', 10, 900), 'ena_pps_allowance_exceeded ens5': 50 };
    const [, during, after] = documentsOf(
      sample(0, {}, { machine: { ...others, ...dropped('ens6', 20, 800), ...ena(70) } }),
      sample(1, {}, { machine: { ...others, ...dropped('ens6', 20) } }),
      sample(2, {}, { machine: { ...others, ...dropped('ens6', 20, 820), ...ena(71) } }),
    );
    expect(during).toMatchObject({ InterfaceDropsPerSecond: 0, PpsAllowanceExceeded: 0 });
    expect(after).toMatchObject({ InterfaceDropsPerSecond: 1, PpsAllowanceExceeded: 1 });
  });

  testJq('count fragments of the direct engine and of the kernel, whichever began anew', () => {
    const sent = (fragments_sent: number, kernel_fragments: number, rest = {}) => ({
      ...{ fragments_due: fragments_sent, fragments_sent, kernel_fragments },
      ...rest,
    });
    const [, both, after] = documentsOf(
      sample(0, sent(0, 5000)),
      sample(1, sent(2000, 5100)),
      sample(2, sent(0, 5300, { attached: false, stats_map: 0 })),
    );
    expect(both).toMatchObject({ FragmentsPerSecond: 210 });
    expect(after).toMatchObject({ FragmentsPerSecond: 20 });
  });

  testJq.each([
    ['on', 0],
    ['off', 300],
    ['absent', 300],
  ])("count fragments against EC2's limit unless ENA's bypass is on: it is %s", (fragment_bypass, counted) => {
    const [first, document] = documentsOf(
      sample(0, { fragment_bypass }),
      sample(1, { fragment_bypass, fragments_sent: 3000, fragments_due: 3000 }),
    );
    expect(first).not.toHaveProperty(fragment_bypass === 'on' ? 'PacketsPerSecond' : 'FragmentsPerSecond');
    expect(document).toMatchObject({ FragmentsPerSecond: counted, Counters: { fragments_sent: 3000 } });
  });

  testJq('take no copy for lost that may be on its way, and none for found that was lost', () => {
    const due = (number: number, fragments_due: number, fragments_sent: number, rest = {}) =>
      sample(number, { fragments_due, fragments_sent, ...rest });
    const documents = documentsOf(
      due(0, 0, 0),
      due(1, 10_000, 9_000),
      due(2, 20_000, 15_848),
      due(3, 30_000, 26_000),
      due(4, 40_000, 36_000, { copies_lost: 3_500 }),
    );
    // Two processors may have 1152 under way.
    expect(documents.slice(1).map(({ RedirectDropsPerSecond }) => RedirectDropsPerSecond)).toEqual([0, 300, 0, 50]);
  });

  testJq('tell a measurement once', () => {
    const latency = { measured_at: 995, packets: 5, nanoseconds: 400 };
    const documents = documentsOf(
      sample(0, {}, { latency }),
      sample(1, {}, { latency }),
      sample(2, {}, { latency: { ...latency, measured_at: 1015 } }),
      sample(3, {}, { latency: { measured_at: 1025, packets: 0 } }),
    );
    expect(documents.map(({ ProcessingNanoseconds }) => ProcessingNanoseconds)).toEqual([
      undefined,
      undefined,
      400,
      undefined,
    ]);
  });

  testJq('leave out what a driver does not count', () => {
    expect(last(sample(0, {}), sample(1, {}))).not.toHaveProperty('PpsAllowanceExceeded');
  });

  testJq('stay in one datagram, whatever the reason is', () => {
    const most = Number.MAX_SAFE_INTEGER;
    const huge = Object.fromEntries(Object.keys(COUNTERS).map((name) => [name, most]));
    const machine = {
      ...{ softnet_dropped: most, forwarding_dropped: most },
      ...ofInterfaces(['interface_dropped', 'queue_dropped', ...ENA], most / 4),
    };
    const [, document] = documentsOf(sample(0, {}), sample(1, { ...huge, reason: 'ü'.repeat(4000) }, { machine }));
    expect(Buffer.byteLength(JSON.stringify(document))).toBeLessThan(4096);
    expect(document).toHaveProperty('PacketsPerSecond');
    const [, withCounters] = documentsOf(sample(0, {}), sample(1, huge, { machine }));
    expect(withCounters).toHaveProperty('Counters.packets_seen');
  });
});

test('every sum of losses is the sum of their places, and an operator on the gateway sees the same places', () => {
  // What a full backlog drops is in another place already.
  const { PacketsLostPerSecond, SoftnetDropsPerSecond: within, ...others } = list.metrics;
  expect(within.meaning).toContain('`InterfaceDropsPerSecond` has these, too');
  const lost = list.counters.find(({ group }) => group === 'lost');
  expect(Object.keys(lost?.names ?? {}).sort()).toEqual([...PacketsLostPerSecond.rate_of].sort());
  const places = Object.entries(others).filter(([name]) => name.endsWith('DropsPerSecond'));
  expect(PacketsLostPerSecond.rate_of).toEqual(
    places.flatMap(([, metric]) => ('rate_of' in metric ? metric.rate_of : [])),
  );
});

test('every interval of the clock has one sample, not before its middle, whatever a sample takes', () => {
  const [awaitTurn = ''] = /^await_turn\(\) \{[^]*?^\}/m.exec(script()) ?? [];
  const turns = 'for work in 0 0.1 0.7 0.3; do await_turn; echo $EPOCHREALTIME; sleep $work; done';
  const program = `set -euo pipefail; INTERVAL=1.0; ${awaitTurn}; ${turns}`;
  const { stdout, stderr } = spawnSync('bash', ['-c', program], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  expect(stderr).toBe('');
  const seconds = stdout.trim().split('\n').map(Number);
  const [first = NaN] = seconds;
  expect(seconds.map(Math.floor)).toEqual([0, 1, 2, 3].map((turn) => Math.floor(first) + turn));
  seconds.forEach((at) => expect(at % 1).toBeGreaterThan(0.49));
});

describe('the settings of the CloudWatch agent', () => {
  const config = JSON.parse(readConfig()) as {
    logs: {
      metrics_collected: { emf: { service_address: string } };
      logs_collected: { journald: { collect_list: { log_group_name: string; units: string[] }[] } };
    };
  };

  test('have it listen on loopback alone, where the script sends to', () => {
    expect(config.logs.metrics_collected.emf.service_address).toBe('udp://127.0.0.1:25888');
    expect(script()).toContain('/dev/udp/127.0.0.1/25888');
  });

  test('collect the journals of all our services', () => {
    const services = readdirSync(path.join(REPOSITORY, 'userdata/units')).filter((file) => file.endsWith('.service'));
    const [journal] = config.logs.logs_collected.journald.collect_list;
    expect(journal?.log_group_name).toBe(logGroupName('mirror-gateway'));
    expect([...(journal?.units ?? [])].sort()).toEqual(services.map((file) => file.replace('.service', '')).sort());
  });
});

function readConfig(): string {
  return readFileSync(path.join(REPOSITORY, 'userdata/cloudwatch-config.json'), 'utf8');
}

function script(): string {
  return readFileSync(path.join(REPOSITORY, 'userdata/xdp-monitoring.sh'), 'utf8');
}
