// SPDX-License-Identifier: Apache-2.0
// Where the machine itself counts what it lost: every column of the kernel's texts has a value of its own here, so that a
// number from the wrong one shows. The texts are those of Linux 6.12, the programs' those of iproute2 and ethtool on ENA.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { REPOSITORY } from '../../../lab/support/host';

const SCRIPT = path.join(REPOSITORY, 'userdata/xdp-monitoring.sh');

/** Sums of powers of two tell which of them were added. */
const powers = (count: number) => Array.from({ length: count }, (_, at) => 2 ** at);
const sumOf = (...at: number[]) => at.reduce((sum, each) => sum + 2 ** each, 0);
const hex = (value: number) => value.toString(16).padStart(8, '0');

const SOFTNET = [1, 2]
  .map((processor) => powers(15).map((value) => hex(value * processor)))
  .map((row) => row.join(' '));

const DEV_HEADER = [
  'Inter-|   Receive                                                |  Transmit',
  ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
];
/** Of each interface another multiple. */
const INTERFACES = { lo: 7, ens5: 1, ens6: 3, vxlan1: 5, br0: 11, ens7: 13 };
const DEV = Object.entries(INTERFACES).map(
  ([name, factor]) =>
    `${name.padStart(6)}: ${powers(16)
      .map((value) => value * factor)
      .join(' ')}`,
);
/** From the received ones on; errors and drops, coming in and going out. */
const TROUBLE = sumOf(2, 3, 10, 11);

const SNMP =
  'Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers ' +
  'OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates OutTransmits';
const ICMP = 'InMsgs InErrors InCsumErrors InDestUnreachs';
const TCP_EXT = 'SyncookiesSent SyncookiesRecv PFMemallocDrop TCPMinTTLDrop IPReversePathFilter TCPTimeWaitOverflow';
const IP_EXT = 'InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets';
const ARP =
  'entries  allocs   destroys hash_grows lookups  hits     res_failed rcv_probes_mcast rcv_probes_ucast ' +
  'periodic_gc_runs forced_gc_runs unresolved_discards table_fulls';

const counted = (protocol: string, names: string, factor: number) => [
  `${protocol}: ${names}`,
  `${protocol}: ${powers(names.split(' ').length)
    .map((value) => value * factor)
    .join(' ')}`,
];
/** Only of the columns that mean a loss of mirrored datagrams. */
const FORWARDING =
  sumOf(...['InAddrErrors', 'InDiscards', 'FragFails'].map((name) => SNMP.split(' ').indexOf(name))) +
  2 ** 20 * sumOf(TCP_EXT.split(' ').indexOf('IPReversePathFilter')) +
  2 ** 30 * sumOf(IP_EXT.split(' ').indexOf('InNoRoutes'));
const UNRESOLVED = sumOf(ARP.split(/ +/).indexOf('unresolved_discards'));

const PROC: Readonly<Record<string, readonly string[]>> = {
  'net/softnet_stat': SOFTNET,
  'net/dev': [...DEV_HEADER, ...DEV],
  'net/snmp': [...counted('Ip', SNMP, 1), ...counted('Icmp', ICMP, 1)],
  'net/netstat': [...counted('TcpExt', TCP_EXT, 2 ** 20), ...counted('IpExt', IP_EXT, 2 ** 30)],
  'net/stat/arp_cache': [
    ARP,
    ...[1, 2].map((by) => powers(13).map((value) => hex(value * by))).map((it) => it.join(' ')),
  ],
};

const QUEUES = Object.entries({ lo: 404, ens5: 101, ens6: 202, ens7: 303 }).map(([dev, drops], at) => ({
  ...{ kind: 'mq', handle: `800${at}:`, dev, root: true, options: {}, bytes: 32 + at, packets: 64 + at, drops },
  ...{ overlimits: 128 + at, requeues: 256 + at, backlog: 512 + at, qlen: 1024 + at },
}));
const TC = `#!/bin/bash
case "$*" in
'-s -j qdisc show root') printf '%s\n' '${JSON.stringify(QUEUES)}' ;;
*) exit 1 ;;
esac`;

const ALLOWANCES = ['bw_in', 'bw_out', 'pps', 'conntrack', 'linklocal'];
const ETHTOOL = `#!/bin/bash
case "$*" in
'-S ens5') by=1 ;;
'-S ens6') by=100 ;;
*) exit 1 ;;
esac
printf 'NIC statistics:\\n     tx_timeout: 4000\\n'
${ALLOWANCES.map((name, at) => `printf '     ${name}_allowance_exceeded: %d\\n' $((${2 ** at} * by))`).join('\n')}
printf '     conntrack_allowance_available: 136812\\n     queue_0_tx_cnt: 5000\\n'`;

describe('the machine’s own losses', () => {
  let folder: string;
  const file = (name: string, text: string, mode = 0o644) => {
    const where = path.join(folder, name);
    mkdirSync(path.dirname(where), { recursive: true });
    writeFileSync(where, text, { mode });
  };
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'losses-'));
    for (const [name, lines] of Object.entries(PROC)) file(`proc/${name}`, lines.map((line) => `${line}\n`).join(''));
    file('run/primary', 'ens5\n');
    file('run/eni', 'ens6\n');
    file('bin/tc', TC, 0o755);
    file('bin/ethtool', ETHTOOL, 0o755);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function losses(): Record<string, number> {
    const within = (name: string) => path.join(folder, name);
    const PATH = `${within('bin')}:${process.env.PATH}`;
    const env = { PATH, PROC_FOLDER: within('proc'), RUN_FOLDER: within('run') };
    const { stdout, stderr, status } = spawnSync('bash', [SCRIPT, '--losses'], { env, encoding: 'utf8' });
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    return JSON.parse(stdout) as Record<string, number>;
  }

  const OF_ENS6 = {
    'interface_dropped ens6': 3 * TROUBLE,
    'queue_dropped ens6': 202,
    ...{ 'ena_bw_in_allowance_exceeded ens6': 100, 'ena_bw_out_allowance_exceeded ens6': 200 },
    ...{ 'ena_pps_allowance_exceeded ens6': 400, 'ena_conntrack_allowance_exceeded ens6': 800 },
  };
  const OF_ALL_OTHERS = {
    softnet_dropped: 2 + 4,
    'interface_dropped ens5': TROUBLE,
    // What it was sent and could not queue. Errors are malformed packets, and it sends nothing.
    'interface_dropped vxlan1': 5 * sumOf(3),
    'interface_dropped br0': 11 * TROUBLE,
    'queue_dropped ens5': 101,
    ...{ 'ena_bw_in_allowance_exceeded ens5': 1, 'ena_bw_out_allowance_exceeded ens5': 2 },
    ...{ 'ena_pps_allowance_exceeded ens5': 4, 'ena_conntrack_allowance_exceeded ens5': 8 },
    forwarding_dropped: FORWARDING + 3 * UNRESOLVED,
  };

  test('are read from the columns that have them, of the interfaces that mirrored packets pass, each by itself', () => {
    expect(losses()).toEqual({ ...OF_ALL_OTHERS, ...OF_ENS6 });
  });

  test('are those of the others while there is no second interface', () => {
    rmSync(path.join(folder, 'run/eni'));
    expect(losses()).toEqual(OF_ALL_OTHERS);
  });

  test('lack a queue that cannot be read, and nothing else', () => {
    file('bin/tc', '#!/bin/sh\nexit 1', 0o755);
    const { 'queue_dropped ens5': first, 'queue_dropped ens6': second, ...rest } = { ...OF_ALL_OTHERS, ...OF_ENS6 };
    expect([first, second]).toEqual([101, 202]);
    expect(losses()).toEqual(rest);
  });

  test('lack allowances where a driver counts none', () => {
    file('bin/ethtool', "#!/bin/sh\necho 'no stats available' >&2; exit 94", 0o755);
    const all = Object.entries({ ...OF_ALL_OTHERS, ...OF_ENS6 });
    expect(losses()).toEqual(Object.fromEntries(all.filter(([name]) => !name.startsWith('ena_'))));
  });

  test('are known in a namespace, too, which has no file of neighbours', () => {
    rmSync(path.join(folder, 'proc/net/stat'), { recursive: true });
    expect(losses()).toMatchObject({ forwarding_dropped: FORWARDING });
  });
});
