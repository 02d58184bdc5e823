// SPDX-License-Identifier: Apache-2.0
// The loader against the live kernel, in network namespaces and below a pin folder of its own. Real datagrams come from a
// second namespace: br0 sees what a bridge port receives.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { describeKeys } from '../../constructs/config/keys';
import { LARGEST_MIRRORED } from '../../constructs/config/limits';
import { mountBpffs, sleep } from '../../lab/support/host';
import { makeNextVersion } from '../../lab/namespaces/next-version';
import {
  BPF_FOLDER,
  BPF_OBJECT,
  type Config,
  DEFAULT_CONFIG,
  LOADER,
  type Stats,
  buildProgram,
  stats,
} from './program';

const NAME = `mgbpf${process.pid}`;
const GATEWAY = `${NAME}g`;
const SOURCE = `${NAME}s`;
const BPFFS = '/sys/fs/bpf';
const PINS = `${BPFFS}/${NAME}`;

interface Status extends Stats {
  readonly attached: boolean;
  readonly interface: string;
  readonly xdp_mode: string;
  readonly stats_map: number;
  readonly config: Config;
}

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

const DETACHED = { attached: false, engine: 'none', interface: '', xdp_mode: 'none' };

const inside = (namespace: string): string[] => ['nsenter', `--net=/var/run/netns/${namespace}`];

function sh(command: string): string {
  return execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function gateway(command: string): string {
  return sh(`${inside(GATEWAY).join(' ')} sh -ec '${command}'`);
}

function execute(command: readonly string[], timeout = 30_000): Result {
  const [program = '', ...args] = command;
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout });
  return { code: status, out: stdout, err: stderr };
}

function loader(verb: string, ...args: string[]): Result {
  return execute([...inside(GATEWAY), LOADER, verb, '--pin-dir', PINS, ...args]);
}

function succeed(verb: string, ...args: string[]): Result {
  const result = loader(verb, ...args);
  if (result.code !== 0) throw new Error(`${verb} ${args.join(' ')}: ${result.err}`);
  return result;
}

const attach = (...args: string[]): Result => succeed('attach', '--interface', 'br0', ...args);
const status = (): Status => {
  const { uptime, ...rest } = JSON.parse(succeed('status').out) as Status & { uptime: number };
  expect(Math.abs(uptime - os.uptime())).toBeLessThan(1);
  return rest;
};

/** What no retry heals: systemd does not try again. */
const REFUSED = 78;

/** One line, as every error is. */
function refusal(result: Result, code = 1): string {
  expect(result.code).toBe(code);
  expect(result.err.trimEnd().split('\n')).toHaveLength(1);
  return result.err.trimEnd();
}

interface LinkInfo {
  readonly id: number;
  readonly prog_id: number;
}
// bpftool 7.5 shows the link and exits with 255 all the same.
const link = (): LinkInfo => JSON.parse(sh(`bpftool -j link show pinned ${PINS}/link || true`)) as LinkInfo;

interface Rules {
  readonly active: number;
  readonly slots: readonly Config[];
}

/** The config map's one value, as the kernel holds it. */
function rulesInMap(): Rules {
  const [entry] = JSON.parse(sh(`bpftool -j map dump pinned ${PINS}/config`)) as [{ formatted: { value: Rules } }];
  return entry.formatted.value;
}

/** The XDP program that the kernel runs on an interface, or 0. */
function programOn(name: string): number {
  const [shown] = JSON.parse(gateway(`ip -j link show dev ${name}`)) as [{ xdp?: { prog: { id: number } } }];
  return shown.xdp?.prog.id ?? 0;
}

/** A UDP socket sets DF by itself, as those do whose packets are mirrored. */
function sendingCommand(times: number): [string, string[]] {
  const loop = `for ((i = 0; i < ${times}; i++)); do printf %s ${'0'.repeat(1472)} >/dev/udp/10.9.0.2/31765; done`;
  return ['nsenter', [`--net=/var/run/netns/${SOURCE}`, 'bash', '-ec', loop]];
}

function sendDatagrams(times: number): void {
  execFileSync(...sendingCommand(times));
}

/** The same beside what the caller does; the exit code. */
function sendingDatagrams(times: number): Promise<number | null> {
  const sending = spawn(...sendingCommand(times));
  return new Promise((resolve) => sending.once('exit', resolve));
}

function makeBridge(): void {
  gateway('ip link add br0 type bridge; ip link set br0 address 02:00:00:00:00:02; ip link set br0 up');
  gateway('ip addr add 10.9.0.2/24 dev br0; ip link set port0 master br0');
}

beforeAll(async () => {
  await mountBpffs();
  buildProgram();
  for (const namespace of [GATEWAY, SOURCE]) {
    sh(`ip netns add ${namespace}`);
    sh(`nsenter --net=/var/run/netns/${namespace} sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'`);
  }
  sh(`ip -n ${SOURCE} link add s0 type veth peer name port0 netns ${GATEWAY}`);
  sh(`ip -n ${SOURCE} addr add 10.9.0.1/24 dev s0; ip -n ${SOURCE} link set s0 up`);
  sh(`ip -n ${SOURCE} neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev s0 nud permanent`);
  gateway('ip link set port0 up');
  makeBridge();
});

afterEach(() => {
  loader('detach');
  execute([...inside(GATEWAY), 'ip', 'link', 'set', 'dev', 'br0', 'xdpgeneric', 'off']);
});

afterAll(() => {
  for (const namespace of [GATEWAY, SOURCE]) execute(['ip', 'netns', 'delete', namespace]);
});

describe('attach', () => {
  test('hooks the program to a bridge, with every setting at its default', () => {
    expect(status()).toEqual({ ...DETACHED, ...stats(), stats_map: 0, config: DEFAULT_CONFIG });
    expect(attach().err).toMatch(/^udp_df_modifier hooked to br0 in generic mode\n$/);
    const { packets_seen, stats_map, ...shown } = status();
    expect(packets_seen).toBeGreaterThanOrEqual(0);
    expect(stats_map).toBeGreaterThan(0);
    const counted: Partial<Stats> = stats();
    delete counted.packets_seen;
    expect(shown).toEqual({
      attached: true,
      engine: 'bridge',
      interface: 'br0',
      xdp_mode: 'generic',
      ...counted,
      config: DEFAULT_CONFIG,
    });
    expect(programOn('br0')).toBe(link().prog_id);
    expect(fs.readdirSync(PINS).sort()).toEqual(['config', 'link', 'stats']);
  });

  test('counts real datagrams', () => {
    attach();
    sendDatagrams(3);
    const { packets_matched, packets_modified, bytes_processed, packets_malformed } = status();
    expect({ packets_matched, packets_modified, bytes_processed, packets_malformed }).toEqual({
      packets_matched: 3,
      packets_modified: 3,
      bytes_processed: 4500,
      packets_malformed: 0,
    });
  });

  test('takes every setting', () => {
    attach('--target-port', '1', '--min-packet-size=28', '--max-packet-size', '9001', '--traffic-percent', '0');
    const config = { target_port: 1, min_packet_size: 28, max_packet_size: 9001, traffic_percent: 0 };
    expect(status().config).toEqual({ ...DEFAULT_CONFIG, ...config });
  });

  test('again updates the program in place: same link, counters kept, settings as given now', () => {
    attach('--traffic-percent', '37');
    sendDatagrams(1);
    const before = link();
    attach();
    expect(link().id).toBe(before.id);
    expect(link().prog_id).not.toBe(before.prog_id);
    expect(status()).toMatchObject({ packets_matched: 1, config: { traffic_percent: 100 } });
    sendDatagrams(1);
    expect(status()).toMatchObject({ packets_matched: 2 });
  });

  test('leaves no datagram uncounted while the program is swapped under traffic', async () => {
    attach();
    const sent = sendingDatagrams(4000);
    for (let swaps = 0; swaps < 10; swaps++) attach();
    expect(await sent).toBe(0);
    expect(status()).toMatchObject({ packets_matched: 4000, packets_modified: 4000 });
  });

  test('leaves a program of netlink untouched', () => {
    gateway(`ip link set dev br0 xdpgeneric obj ${BPF_OBJECT} sec xdp`);
    const foreign = programOn('br0');
    const message = refusal(loader('attach', '--interface', 'br0'), REFUSED);
    expect(message).toContain(`interface 'br0' carries another XDP program, 'udp_df_modifier' (id ${foreign})`);
    expect(message).toContain("'ip link set dev br0 xdp off'");
    expect(programOn('br0')).toBe(foreign);
    expect(fs.existsSync(PINS)).toBe(false);
  });

  test('leaves the program of another link untouched, even if it is the same one', () => {
    attach();
    const ours = programOn('br0');
    const other = execute([...inside(GATEWAY), LOADER, 'attach', '--interface', 'br0', '--pin-dir', `${PINS}2`]);
    expect(refusal(other, REFUSED)).toContain(`(id ${ours}), not pinned in '${PINS}2'`);
    expect(programOn('br0')).toBe(ours);
    expect(fs.existsSync(`${PINS}2`)).toBe(false);
  });

  test('replaces a link whose interface is gone, says so, and keeps the counters', () => {
    attach();
    sendDatagrams(1);
    gateway('ip link delete br0');
    expect(status()).toMatchObject({ ...DETACHED, packets_matched: 1 });
    makeBridge();
    expect(attach().err).toContain("the hook on interface '(gone)' is replaced");
    sendDatagrams(1);
    expect(status()).toMatchObject({ attached: true, packets_matched: 2 });
  });

  test('moves to another interface, and lets go of the first', () => {
    gateway('ip link add br1 type bridge');
    attach();
    expect(succeed('attach', '--interface', 'br1').err).toContain("the hook on interface 'br0' is replaced");
    expect(status()).toMatchObject({ interface: 'br1', attached: true });
    expect(programOn('br0')).toBe(0);
    gateway('ip link delete br1');
  });

  test('is not misled by an interface of the same index in another namespace', () => {
    attach();
    const elsewhere = execute([...inside(SOURCE), LOADER, 'status', '--pin-dir', PINS]);
    expect(JSON.parse(elsewhere.out)).toMatchObject({ attached: true, interface: '', xdp_mode: 'none' });
  });

  test('refuses driver mode on a bridge, and hooks nothing', () => {
    expect(refusal(loader('attach', '--interface', 'br0', '--mode', 'driver'), REFUSED)).toMatch(
      /^interface 'br0' refuses --mode driver: .* a bridge or VXLAN device has no such mode.* use --mode generic$/,
    );
    expect(status()).toMatchObject(DETACHED);
    expect(programOn('br0')).toBe(0);
  });

  test('hooks in driver mode where the driver can, and changes the mode on request', () => {
    const on = (mode: string): Result => succeed('attach', '--interface', 'port0', '--mode', mode);
    on('driver');
    expect(status()).toMatchObject({ interface: 'port0', xdp_mode: 'driver' });
    sendDatagrams(1);
    expect(on('generic').err).toContain("the hook on interface 'port0' is replaced");
    expect(status()).toMatchObject({ interface: 'port0', xdp_mode: 'generic', packets_matched: 1 });
  });

  test('replaces settings that another version laid out differently, and keeps the counters', () => {
    attach();
    sendDatagrams(1);
    fs.unlinkSync(`${PINS}/config`);
    sh(`bpftool map create ${PINS}/config type array key 4 value 24 entries 1 name config`);
    expect(attach().err).toContain(`'${PINS}/config' is of another version: replaced`);
    sendDatagrams(1);
    expect(status()).toMatchObject({ packets_matched: 2, config: DEFAULT_CONFIG });
  });

  describe('of another version, with one counter more', () => {
    let other: string;
    beforeAll(async () => {
      other = path.join(os.tmpdir(), `${NAME}-other`);
      await makeNextVersion(other);
    });
    afterAll(() => fs.rmSync(other, { recursive: true }));

    const upgrade = (...args: string[]): string =>
      execute([...inside(GATEWAY), `${other}/bpf/udp_df_modifier_loader`, ...args, '--pin-dir', PINS]).err;

    test('moves the counters, keeps the link, and so does the way back', () => {
      attach();
      sendDatagrams(3);
      const before = link();
      expect(upgrade('attach', '--interface', 'br0')).toBe(
        `'${PINS}/stats' is of another version: replaced\nudp_df_modifier updated on br0 in generic mode\n`,
      );
      expect(link().id).toBe(before.id);
      sendDatagrams(2);
      expect(status()).toMatchObject({ packets_matched: 5, packets_modified: 5, bytes_processed: 7500 });
      attach();
      sendDatagrams(1);
      expect(status()).toMatchObject({ packets_matched: 6, packets_modified: 6, bytes_processed: 9000 });
      expect(fs.readdirSync(PINS).sort()).toEqual(['config', 'link', 'stats']);
    });

    test('leaves no datagram uncounted under traffic', async () => {
      attach();
      const sent = sendingDatagrams(4000);
      for (let swaps = 0; swaps < 5; swaps++) {
        upgrade('attach', '--interface', 'br0');
        attach();
      }
      expect(await sent).toBe(0);
      expect(status()).toMatchObject({ packets_matched: 4000, packets_modified: 4000 });
    });
  });

  test('keeps a pin that is no XDP link, beside its own', async () => {
    attach();
    fs.renameSync(`${PINS}/config`, `${PINS}/old`);
    execute(['rm', `${PINS}/link`]);
    // The kernel lets go of a link that nobody holds in its own time (kernel/bpf/syscall.c, bpf_link_put).
    for (let tries = 0; tries < 50 && programOn('br0') !== 0; tries++) await sleep(100);
    fs.renameSync(`${PINS}/old`, `${PINS}/link`);
    expect(attach().err).toContain(`'${PINS}/link' is no XDP link: moved to '${PINS}/link_foreign'`);
    expect(status()).toMatchObject({ attached: true });
    expect(fs.existsSync(`${PINS}/link_foreign`)).toBe(true);
    succeed('detach');
    execute(['rm', '-r', PINS]);
  });
});

describe('attach says what is wrong', () => {
  let folder: string;
  beforeAll(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'loader-'));
    fs.chmodSync(folder, 0o755);
  });
  afterAll(() => fs.rmSync(folder, { recursive: true }));

  function compile(name: string, program: string): string {
    const source = path.join(folder, `${name}.c`);
    const object = path.join(folder, `${name}.o`);
    fs.writeFileSync(source, program);
    const include = ['-I', BPF_FOLDER, '-idirafter', `/usr/include/${sh('uname -m').trim()}-linux-gnu`];
    execFileSync('clang', ['-target', 'bpf', '-O2', '-g', ...include, '-c', source, '-o', object]);
    return object;
  }

  test.each([
    [
      'a misspelt verb',
      ['atach'],
      /^'atach' is no verb: give preflight, attach, run, detach, status, measure or config; see --help$/,
    ],
    ['no interface', ['attach'], /^--interface is missing: name the interface to hook/],
    ['an unknown interface', ['attach', '--interface', 'nope'], /^interface 'nope' is not in this network namespace/],
    ['a port of 0', ['attach', '--target-port', '0'], /^--target-port '0' is not allowed: .* from 1 to 65535$/],
    ['a port of 65536', ['attach', '--target-port', '65536'], /^--target-port '65536' is not allowed/],
    ['a negative port', ['attach', '--target-port', '-1'], /^--target-port '-1' is not allowed/],
    ['a hexadecimal port', ['attach', '--target-port', '0x10'], /^--target-port '0x10' is not allowed/],
    ['a port and a rest', ['attach', '--target-port', '80 '], /^--target-port '80 ' is not allowed/],
    ['an empty port', ['attach', '--target-port', ''], /^--target-port '' is not allowed/],
    ['a signed port', ['attach', '--target-port', '+80'], /^--target-port '\+80' is not allowed/],
    ['a port of 2^64 + 80', ['attach', '--target-port', '18446744073709551696'], /^--target-port '1844.*not allowed/],
    ['101 percent', ['attach', '--traffic-percent', '101'], /^--traffic-percent '101' is .* from 0 to 100$/],
    ['37.5 percent', ['attach', '--traffic-percent', '37.5'], /^--traffic-percent '37.5' is not allowed/],
    ['a minimum of 9002', ['attach', '--min-packet-size', '9002'], /^--min-packet-size '9002' .* 28 to 9001$/],
    ['a maximum of 0', ['attach', '--max-packet-size', '0'], /^--max-packet-size '0' is not allowed/],
    [
      'a minimum at the maximum',
      ['attach', '--interface', 'br0', '--max-packet-size', '1400'],
      /^--min-packet-size 1400 must be less than --max-packet-size 1400/,
    ],
    ['an unknown mode', ['attach', '--mode', 'native'], /^--mode 'native' is not allowed: give generic or driver$/],
    ['an unknown option', ['attach', '--port', '1'], /^'--port' is no option; see --help$/],
    ['a value forgotten', ['attach', '--interface'], /^'--interface' needs a value; see --help$/],
    ['an argument too many', ['attach', 'br0'], /^'br0' is one argument too many; see --help$/],
    [
      'an object that is missing',
      ['attach', '--interface', 'br0', '--object', '/nowhere.o'],
      /^cannot read the BPF object '\/nowhere.o': No such file or directory; build it with make -C bpf/,
    ],
    [
      'an object that is none',
      ['attach', '--interface', 'br0', '--object', '/etc/passwd'],
      /^cannot read the BPF object '\/etc\/passwd': no BPF object/,
    ],
  ])('%s', (_, args, message) => {
    expect(refusal(execute([...inside(GATEWAY), LOADER, ...args]))).toMatch(message);
  });

  test.each([
    ['on another file system', `/tmp/${NAME}`],
    ['in a folder that is missing', `${BPFFS}/nowhere/pins`],
  ])('a pin folder %s', (_, pins) => {
    const result = execute([...inside(GATEWAY), LOADER, 'attach', '--interface', 'br0', '--pin-dir', pins]);
    expect(refusal(result, REFUSED)).toContain(
      `--pin-dir '${pins}' must lie in a BPF file system, such as /sys/fs/bpf`,
    );
    expect(programOn('br0')).toBe(0);
    expect(fs.existsSync(pins)).toBe(false);
  });

  test('an object of another version', () => {
    const other = compile('other', 'char LICENSE[] __attribute__((section("license"), used)) = "GPL";');
    expect(refusal(loader('attach', '--interface', 'br0', '--object', other), REFUSED)).toContain(
      `the BPF object '${other}' is of another version than this loader: build both anew`,
    );
  });

  test('a program that the verifier refuses, in the words of the verifier; nothing stays behind', () => {
    const source = fs.readFileSync(path.join(BPF_FOLDER, 'udp_df_modifier.bpf.c'), 'utf8');
    const unsafe = source.replace('__u32 only = 0,', '__u32 only = *(__u32 *)frame.at,');
    expect(unsafe).not.toBe(source);
    const result = loader('attach', '--interface', 'br0', '--object', compile('unsafe', unsafe));
    expect(result.code).toBe(REFUSED);
    expect(result.err).toContain('invalid access to packet');
    expect(result.err).toMatch(/the kernel refused the BPF program: the lines above say why\n$/);
    expect(status()).toMatchObject(DETACHED);
    expect(programOn('br0')).toBe(0);
  });

  test('a user without privileges', () => {
    const copy = path.join(folder, 'loader');
    fs.copyFileSync(LOADER, copy);
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];
    expect(refusal(execute([...inside(GATEWAY), ...nobody, copy, 'attach', '--interface', 'br0']))).toContain(
      'not permitted; run as root',
    );
  });
});

describe('status', () => {
  test('shows the settings in force and changes none, whatever settings are given', () => {
    attach('--target-port', '4000');
    const { out } = succeed('status', '--target-port', '5000');
    expect((JSON.parse(out) as Status).config.target_port).toBe(4000);
    expect(status().config.target_port).toBe(4000);
  });

  test('shows the settings given while nothing is attached', () => {
    const { out } = succeed('status', '--target-port', '5000');
    expect((JSON.parse(out) as Status).config.target_port).toBe(5000);
  });
});

describe('the number of the map of counters', () => {
  test('stays while they go on, and is another when they begin anew', () => {
    attach();
    const first = status().stats_map;
    attach();
    expect(status().stats_map).toBe(first);
    succeed('detach');
    attach();
    expect(status().stats_map).not.toBe(first);
  });
});

describe('measure', () => {
  const measured = () =>
    JSON.parse(succeed('measure').out) as { measured_at: number; packets: number; nanoseconds?: number };
  const counted = () =>
    (JSON.parse(gateway(`bpftool -j prog show id ${programOn('br0')}`)) as { run_cnt?: number }).run_cnt;

  test('tells what a packet costs, from the kernel’s own statistics, which it switches off again', async () => {
    attach();
    const sending = sendingDatagrams(4000);
    const { measured_at, packets, nanoseconds } = measured();
    await sending;
    expect(measured_at).toBeCloseTo(os.uptime(), -2);
    expect(packets).toBeGreaterThan(0);
    expect(nanoseconds).toBeGreaterThan(0);
    expect(nanoseconds).toBeLessThan(1_000_000);
    const after = counted();
    sendDatagrams(3);
    expect(counted()).toBe(after);
  });

  test('says of no packet what it costs where there was none, and nothing is hooked', () => {
    const { packets, nanoseconds } = measured();
    expect({ packets, nanoseconds }).toEqual({ packets: 0, nanoseconds: undefined });
  });
});

describe('config', () => {
  test('changes only what is given, while packets flow', () => {
    attach();
    expect(JSON.parse(succeed('config', '--traffic-percent', '0').out)).toEqual({
      ...DEFAULT_CONFIG,
      traffic_percent: 0,
    });
    sendDatagrams(2);
    expect(status()).toMatchObject({ packets_matched: 2, packets_modified: 0, packets_left_to_netfilter: 2 });
    succeed('config', '--traffic-percent', '100', '--min-packet-size', '1499');
    sendDatagrams(1);
    expect(status()).toMatchObject({ packets_modified: 1, config: { min_packet_size: 1499, traffic_percent: 100 } });
    expect(JSON.parse(succeed('config').out)).toEqual(status().config);
  });

  test('puts new rules beside those in force, then turns to them: a packet sees all of the old or all of the new', () => {
    attach('--target-port', '4000');
    const before = rulesInMap();
    succeed('config', '--target-port', '5000', '--min-packet-size', '100');
    const after = rulesInMap();
    expect(after.active).toBe(1 - before.active);
    expect(after.slots[before.active]).toEqual(before.slots[before.active]);
    expect(after.slots[after.active]).toMatchObject({ target_port: 5000, min_packet_size: 100 });
  });

  test('waits for the packets on the way before it touches the other rules', () => {
    attach();
    const traced = execute([
      ...['strace', '-f', '-e', 'trace=membarrier,munmap', ...inside(GATEWAY)],
      ...[LOADER, 'config', '--pin-dir', PINS, '--target-port', '5000'],
    ]);
    expect(traced.err).toMatch(/membarrier\(MEMBARRIER_CMD_GLOBAL, 0.*\)\s+= 0/);
  });

  test('takes one change at a time, and every change', async () => {
    attach();
    const changes = Array.from({ length: 20 }, (_, i) => {
      const args = ['config', '--pin-dir', PINS, i % 2 ? '--target-port' : '--min-packet-size', String(100 + i)];
      const child = spawn('nsenter', [`--net=/var/run/netns/${GATEWAY}`, LOADER, ...args], { stdio: 'ignore' });
      return new Promise<number | null>((resolve) => child.once('close', resolve));
    });
    expect(await Promise.all(changes)).toEqual(changes.map(() => 0));
    const { target_port, min_packet_size } = status().config;
    expect({ odd: target_port % 2, even: min_packet_size % 2 }).toEqual({ odd: 1, even: 0 });
  });

  test('refuses bounds that exclude each other, and keeps the old ones', () => {
    attach();
    expect(refusal(loader('config', '--max-packet-size', '1400'))).toContain(
      '--min-packet-size 1400 must be less than --max-packet-size 1400',
    );
    expect(status().config).toEqual(DEFAULT_CONFIG);
  });

  test('checks settings while nothing is attached, and attaches nothing', () => {
    expect(JSON.parse(succeed('config', '--traffic-percent', '1').out)).toEqual({
      ...DEFAULT_CONFIG,
      traffic_percent: 1,
    });
    expect(refusal(loader('config', '--traffic-percent', '101'))).toContain("--traffic-percent '101' is not allowed");
    expect(fs.existsSync(PINS)).toBe(false);
  });
});

describe('detach', () => {
  test('unhooks the program, removes every pin, and says when there was none', () => {
    attach();
    expect(succeed('detach').err).toBe('udp_df_modifier detached from interface br0\n');
    expect(programOn('br0')).toBe(0);
    expect(fs.existsSync(PINS)).toBe(false);
    expect(succeed('detach').err).toBe(`nothing was attached by way of '${PINS}'\n`);
    expect(status()).toEqual({ ...DETACHED, ...stats(), stats_map: 0, config: DEFAULT_CONFIG });
  });

  test('leaves the program of somebody else alone', () => {
    gateway(`ip link set dev br0 xdpgeneric obj ${BPF_OBJECT} sec xdp`);
    const foreign = programOn('br0');
    succeed('detach');
    expect(programOn('br0')).toBe(foreign);
  });
});

describe('a thousand times attached and detached', () => {
  const CYCLES = Number(process.env.LEAK_CYCLES ?? 1000);
  const kinds = { programs: 'prog', maps: 'map', links: 'link' } as const;
  const ours = new Set(['udp_df_modifier', 'config', 'stats']);

  /** What the kernel holds of ours; links are those of XDP. */
  function held(): Record<string, number> {
    const count = (kind: string): number => {
      const all = JSON.parse(sh(`bpftool -j ${kind} list || true`)) as { name?: string; type: string }[];
      return all.filter(({ name, type }) => (kind === 'link' ? type === 'xdp' : ours.has(name ?? ''))).length;
    };
    return Object.fromEntries(Object.entries(kinds).map(([name, kind]) => [name, count(kind)]));
  }

  /** Peak memory of each attach, in KiB. */
  function cycle(times: number): number[] {
    const measured = `/usr/bin/time -f %M ${LOADER} attach --interface br0 --pin-dir ${PINS} 2>&1 | tail -n 1`;
    const script = `for i in $(seq ${times}); do ${measured}; ${LOADER} detach --pin-dir ${PINS} 2>/dev/null; done`;
    const { out } = execute([...inside(GATEWAY), 'bash', '-c', script], 300_000);
    return out.trim().split('\n').map(Number);
  }

  test('leaves no program, map, link or file behind, and takes no more memory each time', async () => {
    await sleep(1000); // what the tests before had is freed after a grace period
    const before = held();
    const memory = cycle(CYCLES);
    expect(memory).toHaveLength(CYCLES);
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value) / values.length;
    const [first, last] = [mean(memory.slice(0, CYCLES / 10)), mean(memory.slice(-CYCLES / 10))];
    process.stderr.write(
      `${CYCLES} attach/detach cycles: peak memory of an attach ${first.toFixed(0)} KiB in the first tenth, ` +
        `${last.toFixed(0)} KiB in the last\n`,
    );
    expect(Math.abs(last - first) / first).toBeLessThan(0.05);
    for (let tries = 0; tries < 50 && JSON.stringify(held()) !== JSON.stringify(before); tries++) await sleep(100);
    expect(held()).toEqual(before);
    expect(fs.existsSync(PINS)).toBe(false);
  }, 400_000);
});

describe('preflight', () => {
  const preflight = (...args: string[]): Result => loader('preflight', ...args);

  test('finds what an attach needs, and changes nothing', () => {
    const { code, out } = preflight('--interface', 'br0');
    expect(code).toBe(0);
    const [kernel = '', ...others] = out.trim().split('\n');
    expect(kernel).toMatch(/^ok {3}kernel +\d+\.\d+\S*, libbpf v[\d.]+$/);
    expect(others.map((line) => line.slice(0, 17).trim())).toEqual([
      ...['ok   privileges', 'ok   shared maps', 'ok   per-CPU maps', 'ok   XDP links', 'ok   pins'],
      ...['ok   interface', 'ok   no other XDP'],
    ]);
    expect(out).toContain('br0: driver bridge, MTU 1500');
    expect(fs.existsSync(PINS)).toBe(false);
    expect(programOn('br0')).toBe(0);
  });

  test('knows its own program from that of somebody else', () => {
    attach();
    expect(preflight('--interface', 'br0').out).toContain('the program on br0 is ours');
    const other = execute([...inside(GATEWAY), LOADER, 'preflight', '--interface', 'br0', '--pin-dir', `${PINS}2`]);
    expect(other.code).toBe(REFUSED);
    expect(other.out).toMatch(
      /^FAIL no other XDP br0 carries program \d+ of somebody else: it is left alone; detach it/m,
    );
  });

  test.each([
    [
      'an interface that is missing',
      ['--interface', 'nope'],
      /^FAIL interface +'nope' is not in this network namespace; /m,
    ],
    [
      'a folder that holds no pins',
      ['--pin-dir', '/tmp/pins'],
      /^FAIL pins +'\/tmp' is no BPF file system; mount one: /m,
    ],
  ])('names %s, and the remedy', (_, args, message) => {
    const { code, out } = preflight(...args);
    expect(code).toBe(REFUSED);
    expect(out).toMatch(message);
  });

  test('names the oldest kernel there may be', () => {
    const old = execute([...inside(GATEWAY), 'setarch', '--uname-2.6', LOADER, 'preflight']);
    expect(old.code).toBe(REFUSED);
    expect(old.out).toMatch(
      /^FAIL kernel +2\.6\.\S+: XDP needs 4\.18 at the least; use a newer image, netfilter carries/m,
    );
  });

  test('names each feature that the kernel lacks, and since when Linux has it', () => {
    const lacking = new Set<string>();
    // From one bpf() on all are refused, as a kernel without the features would.
    for (let call = 1; call <= 12; call++) {
      const inject = ['strace', '-f', '-o', '/dev/null', '-e', `inject=bpf:error=EINVAL:when=${call}+`];
      const { out } = execute([...inside(GATEWAY), ...inject, LOADER, 'preflight', '--pin-dir', PINS]);
      for (const [line] of out.matchAll(/^FAIL .*$/gm)) lacking.add(line);
    }
    const all = [...lacking].join('\n');
    expect(all).toMatch(/^FAIL shared maps +refused: Invalid argument; Linux 5\.5 has it; use a newer image$/m);
    expect(all).toMatch(/^FAIL per-CPU maps +refused: Invalid argument; Linux 4\.6 has it; use a newer image$/m);

    const confined = ['strace', '-f', '-o', '/dev/null', '-e', 'inject=unshare:error=EPERM'];
    const { out } = execute([...inside(GATEWAY), ...confined, LOADER, 'preflight', '--pin-dir', PINS]);
    expect(out).toMatch(/^skip XDP links +not probed: this user may make no network namespace$/m);
  });

  test('names the capabilities that are missing', () => {
    const weak = ['setpriv', '--bounding-set=-bpf,-sys_admin', '--inh-caps=-bpf,-sys_admin'];
    const { code, out } = execute([...inside(GATEWAY), ...weak, LOADER, 'preflight', '--interface', 'br0']);
    expect(code).toBe(REFUSED);
    expect(out).toMatch(
      /^FAIL privileges +this user may not load XDP programs: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON/m,
    );
  });
});

describe('run', () => {
  let running: ChildProcess | undefined;
  afterEach(() => running?.kill('SIGKILL'));

  interface Run {
    readonly child: ChildProcess;
    readonly log: () => string;
    readonly ended: Promise<number | null>;
    readonly says: (text: string) => Promise<void>;
  }

  function run(args: string[] = []): Run {
    const child = spawn(
      'nsenter',
      [`--net=/var/run/netns/${GATEWAY}`, LOADER, 'run', '--interface', 'br0', '--pin-dir', PINS, ...args],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    running = child;
    let log = '';
    let changed: () => void = () => undefined;
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (text: Buffer) => {
        log += text.toString();
        changed();
      });
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const says = async (text: string): Promise<void> => {
      const deadline = setTimeout(() => child.kill('SIGKILL'), 20_000);
      while (!log.includes(text) && child.exitCode === null && child.signalCode === null)
        await Promise.race([new Promise<void>((resolve) => (changed = resolve)), ended]);
      clearTimeout(deadline);
      expect(log).toContain(text);
    };
    return { child, log: () => log, ended, says };
  }

  test('leaves the program hooked when it is stopped, and sums up what passed', async () => {
    const { child, log, ended, says } = run();
    await says('udp_df_modifier hooked to br0');
    sendDatagrams(2);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(log()).toMatch(/^br0: \d+ seen, 2 modified, 0 left to netfilter, 0 malformed$/m);
    expect(log()).toContain("br0 stays hooked until 'detach'");
    expect(status()).toMatchObject({ attached: true, packets_matched: 2 });
  });

  test('leaves the program hooked when it is killed, and goes on with the same link', async () => {
    const first = run();
    await first.says('hooked to br0');
    const before = link();
    first.child.kill('SIGKILL');
    await first.ended;
    sendDatagrams(1);
    expect(status()).toMatchObject({ attached: true, packets_modified: 1 });
    const second = run();
    await second.says('updated on br0');
    expect(link().id).toBe(before.id);
    expect(status()).toMatchObject({ packets_modified: 1 });
  });

  test('tells systemd when it is ready', () => {
    const listen = `
import os, shutil, socket, subprocess, sys, tempfile
folder = tempfile.mkdtemp()
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(folder + "/notify")
listener.settimeout(20)
child = subprocess.Popen(sys.argv[1:], env={**os.environ, "NOTIFY_SOCKET": folder + "/notify"}, stderr=subprocess.DEVNULL)
try:
    print(listener.recv(100).decode())
finally:
    child.kill()
    shutil.rmtree(folder)
`;
    const command = [...inside(GATEWAY), LOADER, 'run', '--interface', 'br0', '--pin-dir', PINS];
    expect(execute(['python3', '-c', listen, ...command]).out).toBe('READY=1\n');
  });

  test('ends with an error when the interface goes, so that its unit starts again', async () => {
    const { log, ended, says } = run();
    await says('udp_df_modifier hooked to br0');
    gateway('ip link delete br0');
    const code = await ended;
    makeBridge();
    expect(code).toBe(1);
    expect(log()).toContain("interface 'br0' is gone or was unhooked");
  });

  test('ends when another process unhooks the program', async () => {
    const { log, ended, says } = run();
    await says('udp_df_modifier hooked to br0');
    succeed('detach');
    expect(programOn('br0')).toBe(0);
    expect(await ended).toBe(1);
    expect(log()).toContain("interface 'br0' is gone or was unhooked");
  });

  test('does not start where it cannot hook', async () => {
    const { ended } = run(['--mode', 'driver']);
    expect(await ended).toBe(REFUSED);
  });
});

describe('the direct engine, in driver mode', () => {
  const destination = ['--ipsec-vm-ip', '10.9.1.9', '--ipsec-vm-port', '8081'];
  const direct = (...args: string[]): Result =>
    loader('attach', '--bridge', 'br0', '--engine', 'direct', '--interface', 'first', '--mode', 'driver', ...args);
  const complete = (): Result => direct('--secondary', 'second', ...destination);

  beforeAll(() => {
    for (const name of ['first', 'second']) {
      gateway(`ip link add name ${name} type veth peer name ${name}p`);
      gateway(`ip link set ${name} up; ip link set ${name}p up`);
    }
    gateway('ip addr add 10.9.1.1/24 dev first');
  });
  afterAll(() => {
    for (const name of ['first', 'second']) gateway(`ip link delete ${name}`);
  });

  test('hooks both interfaces, and lets go of both', () => {
    expect(complete()).toMatchObject({ code: 0, err: 'udp_df_direct hooked to first in driver mode\n' });
    expect(programOn('second')).not.toBe(0);
    expect(fs.readdirSync(PINS).sort()).toEqual(['config', 'ids', 'link', 'secondary_link', 'stats']);
    expect(status()).toMatchObject({ attached: true, engine: 'direct', interface: 'first', xdp_mode: 'driver' });
    expect(succeed('detach').err).toBe('udp_df_direct detached from interface first\n');
    expect([programOn('first'), programOn('second'), fs.existsSync(PINS)]).toEqual([0, 0, false]);
  });

  const dump = <T>(map: string): T[] => JSON.parse(gateway(`bpftool -j map dump ${map}`)) as T[];
  const counters = (): number[] =>
    dump<{ formatted: { value: { blocks: number } } }>(`pinned ${PINS}/ids`).map(
      ({ formatted }) => formatted.value.blocks,
    );

  test('begins identifications at random, and goes on with them where the program is replaced', () => {
    complete();
    const begun = counters();
    expect(new Set(begun).size).toBeGreaterThan(1000);
    complete();
    expect(counters()).toEqual(begun);
    succeed('detach');
    complete();
    expect(counters()).not.toEqual(begun);
    succeed('detach');
  });

  test.each([
    ['has none run on frames that leave where nothing can be cut', 9001, false],
    ['has its second program cut them where br0 sends less than may come', 1449, true],
    ['has none where br0 sends all that may come', 1450, false],
  ])('%s', (_, mtu, cuts) => {
    gateway(`ip link set br0 mtu ${mtu}`); // the primary interface has 1500, of which 50 are the mirror's headers
    complete();
    const ids = (JSON.parse(gateway('bpftool -j map list')) as { id: number; name?: string; type: string }[])
      .filter(({ name, type }) => name === 'tx_single' && type === 'devmap')
      .map(({ id }) => id);
    // struct bpf_devmap_val: the interface, then the number of the program, 32 bits each.
    const [entry] = dump<{ value: string[] }>(`id ${Math.max(...ids)}`);
    expect(entry?.value.slice(4).some((byte) => Number(byte) !== 0)).toBe(cuts);
    succeed('detach');
    gateway('ip link set br0 mtu 1500');
  });

  test.each(['attach', 'detach'])('%s takes over what a loader that was killed left beside its names', (verb) => {
    complete();
    for (const name of ['link', 'secondary_link']) fs.renameSync(`${PINS}/${name}`, `${PINS}/${name}_new`);
    expect(status()).toMatchObject({ attached: true, interface: 'first', xdp_mode: 'driver' });
    const { code, err } = verb === 'attach' ? complete() : loader('detach');
    expect(code).toBe(0);
    for (const name of ['link', 'secondary_link'])
      expect(err).toContain(`'${PINS}/${name}' is taken over from a loader that was killed`);
    if (verb === 'attach') expect(err).toContain('udp_df_direct updated on first in driver mode');
    else expect([programOn('first'), programOn('second'), fs.existsSync(PINS)]).toEqual([0, 0, false]);
  });

  test.each([
    ['nothing', ['--max-packet-size', '3448'], 0, /^ok +sizes +datagrams of at most 3448 bytes fit the MTU of 3498/m],
    [
      'datagrams that fit no page',
      ['--max-packet-size', '3449'],
      REFUSED,
      /^FAIL sizes +max_packet_size 3449: driver mode takes datagrams of at most 3448 bytes; set it to that, or/m,
    ],
    [
      'a secondary interface that is gone',
      ['--max-packet-size', '3448', '--secondary', 'third'],
      REFUSED,
      /^FAIL interface +'third' is not in this network namespace/m,
    ],
  ])('preflight finds all that it needs, or names %s', (_, args, code, line) => {
    const wanted = ['--engine', 'direct', '--mode', 'driver', '--interface', 'first', '--secondary', 'second'];
    const answer = loader('preflight', ...wanted, ...args);
    expect(answer.out).toMatch(line);
    expect(answer.out).toMatch(/^ok +copies +a redirect to several interfaces at once is available$/m);
    expect(answer.code).toBe(code);
    expect(fs.existsSync(PINS)).toBe(false);
  });

  test('gives way to the bridge engine, which is hooked before both interfaces are let go', () => {
    complete();
    expect(attach().err).toMatch(/^udp_df_modifier hooked to br0 in generic mode\n/m);
    expect(status()).toMatchObject({ attached: true, engine: 'bridge', interface: 'br0' });
    expect([programOn('first'), programOn('second')]).toEqual([0, 0]);
  });

  test("leaves another's program on the secondary interface alone", () => {
    gateway(`ip link set dev second xdpgeneric obj ${BPF_OBJECT} sec xdp`);
    const foreign = programOn('second');
    const message = refusal(complete(), REFUSED);
    expect(message).toContain(`interface 'second' carries another XDP program, 'udp_df_modifier' (id ${foreign})`);
    expect([programOn('first'), programOn('second')]).toEqual([0, foreign]);
    gateway('ip link set dev second xdpgeneric off');
  });

  test('lets go of the secondary interface if the primary one refuses', () => {
    gateway('ip link set first mtu 9000; ip link set firstp mtu 9000');
    const { code } = complete();
    gateway('ip link set first mtu 1500; ip link set firstp mtu 1500');
    expect(code).not.toBe(0);
    expect([programOn('first'), programOn('second')]).toEqual([0, 0]);
  });

  test('is tried again where an interface or an address may still come', () => {
    gateway('ip addr flush dev first');
    const message = refusal(complete());
    gateway('ip addr add 10.9.1.1/24 dev first');
    expect(message).toContain("interface 'first' has no IPv4 address");
    expect(refusal(direct('--secondary', 'none', ...destination))).toContain("'none' does not tell its MTU");
  });

  test('names what is missing', () => {
    const missing = '--secondary, --ipsec-vm-ip or --ipsec-vm-port is missing';
    expect(refusal(direct(...destination))).toContain(missing);
    expect(refusal(direct('--secondary', 'second'))).toContain(missing);
  });
});

test('allows what the stack allows', () => {
  const { out } = execute([LOADER, '--help']);
  for (const name of Object.keys(DEFAULT_CONFIG)) {
    const key = name.replace(/^traffic/, 'xdp_traffic');
    const { allowed, byDefault } = describeKeys().find((each) => each.key === key) ?? {};
    const [, min, max] = /from (\d+) to (\d+)/.exec(allowed ?? '') ?? [];
    expect(out).toContain(`--${name.replaceAll('_', '-')} ${min}..${max} (${byDefault})\n`);
  }
  const beyond = execute([LOADER, 'config', '--min-packet-size', String(LARGEST_MIRRORED)]);
  expect(refusal(beyond)).toContain(
    `must be less than ${LARGEST_MIRRORED}, the longest datagram that is mirrored whole`,
  );
});

test('--help names every verb and setting', () => {
  const { code, out } = execute([LOADER, '--help']);
  expect(code).toBe(0);
  for (const word of [
    'attach',
    'run',
    'detach',
    'status',
    'measure',
    'config',
    '--interface',
    '--pin-dir',
    '--mode',
    '--object',
  ])
    expect(out).toContain(word);
  expect(out).toContain('--traffic-percent 0..100 (100)');
  expect(execute([LOADER, 'attach', '--help']).out).toBe(out);
});
