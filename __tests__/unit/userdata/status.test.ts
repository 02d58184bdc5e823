// SPDX-License-Identifier: Apache-2.0
// What a person sees of a gateway: little enough for one look, what matters first, nothing guessed. And the same for Prometheus.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { EC2_FRAGMENTS_PER_SECOND } from '../../../constructs/config/limits';
import { REPOSITORY } from '../../../lab/support/host';
import list from '../../../userdata/metrics.json';
import { COUNTERS, hasJq } from './samples';

const testJq = hasJq ? test : test.skip;
/** Stands for the control character. */
const ESCAPE = '<ESC>';
const FOLDER = path.join(REPOSITORY, 'userdata');
const PROGRAMS = path.join(FOLDER, 'jq');

type Numbers = Readonly<Record<string, number>>;

interface Sample {
  readonly uptime: number;
  readonly processors: number;
  readonly running: number | null;
  readonly status: Readonly<Record<string, unknown>>;
  readonly machine: Numbers;
}

const SETTINGS = { target_port: 31765, min_packet_size: 1400, max_packet_size: 9000, traffic_percent: 100 };
const DEPLOYED = Object.entries(SETTINGS).map(([key, value]) => `${key}=${value}\n`);
const ENA = ['pps', 'bw_in', 'bw_out', 'conntrack'].map((name) => `ena_${name}_allowance_exceeded`);

/** Of the machine: those of interfaces, each of which has its own, and the others. */
const OF_INTERFACES = ['interface_dropped', 'queue_dropped', ...ENA];
const machineOf = (value: number, names: readonly string[] = OF_INTERFACES) => ({
  ...{ softnet_dropped: value, forwarding_dropped: value },
  ...Object.fromEntries(names.map((name) => [`${name} ens5`, value])),
});
const NOTHING_LOST = machineOf(0, OF_INTERFACES.slice(0, 2));

/** Two seconds after the one before. */
function sample(number: number, status: object = {}, rest: Partial<Sample> = {}): Sample {
  const uptime = 1000 + 2 * number;
  const what = {
    version: '1.2.3',
    engine: 'direct',
    xdp_mode: 'driver',
    interface: 'ens5',
    attached: true,
    state: 'healthy',
    reason: '',
  };
  return {
    uptime,
    processors: 2,
    running: 4000,
    status: { ...what, uptime, ...COUNTERS, stats_map: 7, nfqueue_socket: 0, config: SETTINGS, ...status },
    machine: NOTHING_LOST,
    ...rest,
  };
}

function jq(program: string, samples: readonly Sample[], values: object): string {
  const named = Object.entries({ list, ec2_fragments_per_second: EC2_FRAGMENTS_PER_SECOND, ...values }).flatMap(
    ([key, value]) => ['--argjson', key, JSON.stringify(value)],
  );
  const args = ['-r', '-L', PROGRAMS, ...named, '-f', path.join(PROGRAMS, program)];
  const input = samples.map((each) => JSON.stringify(each)).join('\n');
  const { stdout, stderr } = spawnSync('jq', program === 'status.jq' ? ['-n', ...args] : args, {
    input,
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  return stdout.replaceAll('\u001b', ESCAPE);
}

function look(before: Sample, now: Sample, how: object = {}): string[] {
  const once = { enable_xdp: true, deployed: DEPLOYED.join(''), colour: false, every: 0, rows: 0 };
  return jq('status.jq', [before, now], { ...once, ...how })
    .split('\n')
    .slice(0, -1);
}

const prometheus = (only: Sample): string[] => jq('prometheus.jq', [only], {}).split('\n').slice(0, -1);

/** Rate and total of a row, as they stand there; undefined without such a row. */
function cells(lines: readonly string[], name: string): string[] | undefined {
  return lines
    .find((line) => line.startsWith(`  ${name} `))
    ?.trim()
    .split(/ +/)
    .slice(1);
}

describe(`the status${hasJq ? '' : ' (SKIPPED: jq is not installed)'}`, () => {
  testJq(
    'has the verdict first, then what carries the traffic, then rates and totals, then settings and version',
    () => {
      const lines = look(
        sample(0, { packets_seen: 1_000_000, bytes_processed: 5 }),
        sample(1, {
          packets_seen: 1_024_690,
          bytes_processed: 2_000_000_005,
          packets_modified: 12_000,
          standby_packets: 3,
        }),
      );
      expect(lines.slice(0, 2)).toEqual(['healthy', 'engine direct, mode driver, interface ens5, for 66 min']);
      expect(cells(lines, 'packets_seen')).toEqual(['12,345', '1,024,690']);
      expect(cells(lines, 'packets_modified')).toEqual(['6,000', '12,000']);
      expect(cells(lines, 'bytes_processed')).toEqual(['1,000,000,000', '2,000,000,005']);
      expect(cells(lines, 'xdp_packets')).toEqual(['6,000', '12,000']);
      expect(cells(lines, 'standby_packets')).toEqual(['2', '3']);
      expect(lines.slice(-7, -3)).toEqual([
        'fragments: none',
        'not forwarded: nothing',
        'lost: nothing',
        'of these, by a full backlog: nothing',
      ]);
      expect(lines.slice(-3, -1).join(' ')).toBe(
        'settings: target_port=31765 min_packet_size=1400 max_packet_size=9000 traffic_percent=100',
      );
      expect(lines.at(-1)).toBe('version 1.2.3');
    },
  );

  testJq('names a place of loss where something was lost, and no other', () => {
    const lines = look(
      sample(0, { nfqueue_dropped: 10 }, { machine: { 'interface_dropped ens5': 0, forwarding_dropped: 7 } }),
      sample(1, { nfqueue_dropped: 30 }, { machine: { 'interface_dropped ens5': 0, forwarding_dropped: 7 } }),
    );
    expect(lines.slice(lines.indexOf('lost') + 1, -3).map((line) => line.trim().split(/ +/))).toEqual([
      ['nfqueue_dropped', '10', '30'],
      ['forwarding_dropped', '0', '7'],
    ]);
  });

  testJq('adds up what interfaces count, but no rate of one that was not there before', () => {
    const lines = look(
      sample(0, {}, { machine: { 'interface_dropped ens5': 10 } }),
      sample(1, {}, { machine: { 'interface_dropped ens5': 30, 'interface_dropped ens6': 5000 } }),
    );
    expect(cells(lines, 'interface_dropped')).toEqual(['10', '5,030']);
  });

  testJq('has no rate of what began anew, and says so with a dash', () => {
    const lines = look(sample(0, { packets_seen: 5 }), sample(1, { packets_seen: 900, stats_map: 8 }));
    expect(cells(lines, 'packets_seen')).toEqual(['-', '900']);
    expect(cells(lines, 'standby_packets')).toEqual(['0', '0']);
  });

  testJq('without XDP has no number of XDP', () => {
    const rolledBack = { engine: 'nfqueue', xdp_mode: 'none', interface: 'br0', attached: false, packets_modified: 80 };
    const lines = look(sample(0, rolledBack), sample(1, rolledBack, { running: 119 }));
    expect(lines[1]).toBe('engine nfqueue, interface br0, for 119 s');
    expect(cells(lines, 'xdp_packets')).toEqual(['-', '-']);
    expect(cells(lines, 'packets_modified')).toEqual(['0', '80']);
  });

  testJq('without a loader has neither settings nor numbers of XDP, and stays a status', () => {
    const unknown = { config: {}, packets_seen: null, packets_modified: null, bytes_processed: null };
    const lines = look(sample(0, unknown), sample(1, unknown, { running: null }));
    expect(cells(lines, 'packets_seen')).toEqual(['-', '-']);
    expect(lines.at(-2)).toBe('of these, by a full backlog: nothing');
    expect(lines[1]).toBe('engine direct, mode driver, interface ens5');
  });

  testJq.each([
    ['degraded', true, 'sudo deploy_xdp.sh attach, which says why if it cannot'],
    ['degraded', false, 'sudo deploy_xdp.sh rollback'],
    [
      'broken',
      true,
      'sudo deploy_xdp.sh network-up, if it is not mended within 10 s; journalctl -u mirror-gateway-network says why',
    ],
  ])('says what to do when %s, with enable_xdp=%s', (state, enable_xdp, what) => {
    const lines = look(sample(0), sample(1, { state, reason: 'the reason' }), { enable_xdp });
    expect(lines[0]).toBe(`${state}: the reason`);
    expect(
      lines
        .slice(
          1,
          lines.findIndex((line) => line.startsWith('engine')),
        )
        .join(' '),
    ).toBe(`to do: ${what}`);
  });

  describe('of fragments', () => {
    const sent = (a_second: number, rest: object = {}) => {
      const counted = { fragments_due: 2 * a_second, fragments_sent: a_second, kernel_fragments: a_second };
      const lines = look(sample(0, rest), sample(1, { ...counted, ...rest }), { colour: true });
      const from = lines.findIndex((line) => line.includes('fragments'));
      const plain = lines.map((line) => line.replace(/<ESC>\[[\d;]*m/g, '').replace(/ +/g, ' '));
      const to = plain.findIndex((line, at) => at > from && !line.startsWith(' '));
      return { lines: plain.slice(from, to), isRed: lines.slice(from, to).map((line) => line.includes('<ESC>[1;31m')) };
    };

    testJq('says that there are none where all leaves whole, also if some did not before', () => {
      expect(sent(0).lines).toEqual(['fragments: none']);
      const before = { fragments_due: 9, fragments_sent: 9, kernel_fragments: 12_000 };
      expect(look(sample(0, before), sample(1, before))).toContain('fragments: none now, 12,009 so far');
    });

    testJq.each(['off', 'absent'])("names EC2's limit, and that ENA's bypass is %s", (fragment_bypass) => {
      expect(sent(1000, { fragment_bypass })).toEqual({
        lines: [
          ...['fragments', ' fragments_sent 500 1,000', ' kernel_fragments 500 1,000'],
          ` EC2 drops all beyond 1,024 a second; ENA's fragment bypass is ${fragment_bypass}`,
        ],
        isRed: [false, false, false, false],
      });
    });

    testJq('stands out beyond the limit, with what is dropped and where the remedy is', () => {
      expect(sent(60_000)).toEqual({
        lines: [
          ...['fragments', ' fragments_sent 30,000 60,000', ' kernel_fragments 30,000 60,000'],
          ...[' EC2 drops 58,976 of them a second, all beyond 1,024;', ' to do: docs/troubleshooting.md, Fragments'],
        ],
        isRed: [false, false, false, true, true],
      });
    });

    testJq("does not count EC2's limit with ENA's bypass", () => {
      expect(sent(60_000, { fragment_bypass: 'on' })).toMatchObject({
        lines: expect.arrayContaining([
          " ENA's fragment bypass is on: EC2's limit of 1,024 a second does not count",
        ]) as unknown,
        isRed: [false, false, false, false],
      });
    });
  });

  testJq('says where a setting is not what was deployed', () => {
    const changed = { config: { ...SETTINGS, traffic_percent: 10 } };
    const lines = look(sample(0, changed), sample(1, changed));
    expect(lines.slice(-3, -1).join(' ')).toMatch(/max_packet_size=9000 traffic_percent=10 \(deployed: 100\)$/);
  });

  const worst = () => {
    const all = (value: number) => Object.fromEntries(Object.keys(COUNTERS).map((name) => [name, value]));
    const status = (value: number) => ({
      ...all(value),
      copies_lost: value,
      state: 'degraded',
      reason: 'word '.repeat(40),
    });
    return [
      sample(0, status(0), { machine: machineOf(0) }),
      sample(1, status(2 ** 52), { machine: machineOf(2 ** 52) }),
    ] as const;
  };

  testJq('is 80 columns wide at most, whatever it says, and at most 25 lines long while all is well', () => {
    expect(look(sample(0), sample(1)).length).toBeLessThanOrEqual(25);
    const lines = look(...worst());
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    const shown = list.counters.flatMap(({ names }) => Object.keys(names)).filter((name) => name !== 'fragments_due');
    for (const name of shown) expect(lines.join('\n')).toContain(`  ${name} `);
  });

  testJq('has colours only where it may: the verdict and losses in theirs, zeros dim', () => {
    const [before, now] = [sample(0, { failed: 1 }), sample(1, { failed: 3 })];
    expect(look(before, now).join('')).not.toContain(ESCAPE);
    const lines = look(before, now, { colour: true });
    expect(lines[0]).toBe('<ESC>[1;32mhealthy<ESC>[0m');
    expect(lines.find((line) => line.includes('failed'))).toMatch(/^<ESC>\[1;31m.*<ESC>\[0m$/);
    expect(lines.find((line) => line.includes('standby_packets'))).toMatch(/^<ESC>\[2m.*<ESC>\[0m$/);
  });

  testJq('in a terminal is drawn over the one before, line by line, and never scrolls', () => {
    const lines = look(...worst(), { every: 2, rows: 24 });
    expect(lines).toHaveLength(24);
    expect(lines[0]).toMatch(/^<ESC>\[Hevery 2 s, \d\d:\d\d:\d\d UTC; Ctrl-C ends it<ESC>\[K$/);
    expect(lines.slice(0, -1).every((line) => line.endsWith('<ESC>[K'))).toBe(true);
    expect(lines.at(-1)).toBe('<ESC>[J');
  });

  testJq('without one is a block after the other', () => {
    const lines = look(sample(0), sample(1), { every: 2 });
    expect(lines.at(-1)).toBe('');
    expect(lines.join('')).not.toContain(ESCAPE);
  });
});

describe(`for Prometheus${hasJq ? '' : ' (SKIPPED: jq is not installed)'}`, () => {
  testJq('every counter of the list is there, in base units, with its meaning and its type', () => {
    const text = prometheus(sample(0, {}, { machine: machineOf(5) })).join('\n');
    for (const { names, meaning } of list.counters) {
      for (const [name, help] of Object.entries(names)) {
        if (meaning !== undefined) {
          expect(text).toMatch(new RegExp(`^mirror_gateway_packets_lost_total\\{place="${name}"`, 'm'));
          continue;
        }
        const metric = `mirror_gateway_${name === 'bytes_processed' ? 'processed_bytes' : name}_total`;
        expect(text).toContain(`# HELP ${metric} ${help}\n# TYPE ${metric} counter\n${metric}`);
      }
    }
  });

  testJq.each([
    ['healthy', 1, 0],
    ['degraded', 1, 1],
    ['broken', 0, 1],
  ])('%s is up %d and degraded %d, as for CloudWatch', (state, up, degraded) => {
    const lines = prometheus(sample(0, { state }));
    expect(lines).toContain(`mirror_gateway_up ${up}`);
    expect(lines).toContain(`mirror_gateway_degraded ${degraded}`);
    expect(lines).toContain('mirror_gateway_fragment_bypass 0');
    expect(lines).toContain(
      `mirror_gateway_info{engine="direct",xdp_mode="driver",interface="ens5",state="${state}"} 1`,
    );
  });

  testJq('a counter that begins anew is another series', () => {
    const series = (status: object) => prometheus(sample(0, status)).find((line) => /^\w+_seen_total/.test(line));
    expect(series({ packets_seen: 5 })).toBe('mirror_gateway_packets_seen_total{origin="xdp-7"} 5');
    expect(series({ packets_seen: 900, attached: false })).toBe(
      'mirror_gateway_packets_seen_total{origin="netfilter"} 900',
    );
  });

  testJq('an interface’s counter is a series of its own: one that joins is no growth', () => {
    const lines = prometheus(sample(0, {}, { machine: { 'interface_dropped ens5': 3, 'interface_dropped ens6': 4 } }));
    expect(lines.filter((line) => line.includes('interface_dropped'))).toEqual([
      'mirror_gateway_packets_lost_total{place="interface_dropped",interface="ens5"} 3',
      'mirror_gateway_packets_lost_total{place="interface_dropped",interface="ens6"} 4',
    ]);
  });

  testJq('what is unknown is left out, its type and all', () => {
    const lines = prometheus(sample(0, { packets_seen: null }));
    expect(lines.filter((line) => line.includes('packets_seen') || line.includes('ena_'))).toEqual([]);
  });

  testJq('labels are escaped', () => {
    expect(prometheus(sample(0, { interface: 'a"b\\c' })).join('\n')).toContain('interface="a\\"b\\\\c"');
  });
});

test("the meaning of a metric names EC2's limit as the stack knows it", () => {
  expect(list.metrics.FragmentsPerSecond.meaning).toContain(EC2_FRAGMENTS_PER_SECOND.toLocaleString('en-US'));
});

test('the script hands its views the values that these tests do', () => {
  const script = readFileSync(path.join(FOLDER, 'lib/status.sh'), 'utf8');
  for (const name of ['list', 'ec2_fragments_per_second', 'enable_xdp', 'deployed', 'colour', 'every', 'rows'])
    expect(script).toMatch(new RegExp(`--arg(json)? ${name} `));
});
