// SPDX-License-Identifier: Apache-2.0
// The troubleshooting page, step by step: on a sound gateway each command prints what the page says; then the thing is
// broken, the command prints what the page gives for that cause, and the page's remedy makes the gateway whole again.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DRIVER_MODE_MTU } from '../../constructs/config/limits';
import { INSTALLED } from '../../constructs/user-data/user-data';
import { inNamespace, must, Progress, run, sleep, waitFor } from '../../lab/support/host';
import { Agent, Monitoring } from '../../lab/namespaces/monitoring';
import {
  deploy,
  LAB,
  LEGACY_PID_FILE,
  plugSecondary,
  SETTINGS_FILE,
  toggleTags,
  unplugSecondary,
} from '../../lab/namespaces/namespaces';
import { Packet, pcap } from '../../lab/packets/packet';
import { Unit } from '../../lab/namespaces/stress';
import { send } from '../../lab/packets/traffic';
import { type Cause, isShown, type Step, troubleshooting } from '../../lab/namespaces/troubleshooting';
import { expectDelivered, mirror, useLab } from './gateway';

const page = troubleshooting();
const steps = page.steps.filter(({ place }) => place === 'gateway');
const progress = new Progress('troubleshooting');
const FOREIGN = join(INSTALLED, 'bpf/udp_df_modifier.bpf.o');
const PATH = `${join(INSTALLED, 'userdata')}:${process.env.PATH ?? ''}`;
const LARGE = 1428;

function shell(command: string): Promise<{ stdout: string }> {
  const script = `${page.preamble}\n{ ${command}\n} 2>&1`;
  return run(...inNamespace(LAB.primary.namespace, 'env', `PATH=${PATH}`, 'bash', '-c', script));
}

const gateway = (command: string) => must(...inNamespace(LAB.primary.namespace, 'sh', '-c', command));
const sink = (command: string) => must(...inNamespace(LAB.sink.namespace, 'sh', '-c', command));

// --- traffic --------------------------------------------------------------------------------------------------------

const datagram = (port = 31765) =>
  Packet.udp({ from: '198.51.100.7:1024', to: `203.0.113.9:${port}` }).totalLength(LARGE);
const FEEDS = {
  sound: mirror(datagram().df()),
  'other vni': mirror(datagram().df(), { vni: 7 }),
  'other port': mirror(datagram(31766).df()),
  cut: mirror(datagram().df().build().subarray(0, 128)),
  small: mirror(datagram().totalLength(1000).df()),
  'without df': mirror(datagram()),
  fragment: mirror(datagram().mf()),
  expired: mirror(datagram().df().ttl(1)),
} as const;
type Feed = keyof typeof FEEDS | 'nothing';

/** While mirrored datagrams of a kind come in, few enough for the slowest engine and for what gives up after a hundred losses. */
async function under<T>(feed: Feed, work: () => Promise<T>): Promise<T> {
  if (feed === 'nothing') return work();
  const folder = mkdtempSync(join(tmpdir(), 'feed-'));
  const file = join(folder, 'frame.pcap');
  writeFileSync(file, pcap([FEEDS[feed]]));
  const replay = ['tcpreplay', '--loop=0', '--pps=15', `--intf1=${LAB.source.interface}`, file] as const;
  const child = spawn(...inNamespace(LAB.source.namespace, ...replay), { stdio: 'ignore' });
  const ended = once(child, 'exit');
  try {
    await sleep(200); // a few of them
    return await work();
  } finally {
    child.kill();
    await ended;
    rmSync(folder, { recursive: true });
  }
}

// --- breaking -------------------------------------------------------------------------------------------------------

interface Harm {
  /** Default: nothing but other traffic. */
  readonly harm?: () => Promise<unknown>;
  /** What the page's remedy leaves to do, or cannot do in a lab. */
  readonly mend?: () => Promise<unknown>;
  /** Default: sound. */
  readonly feed?: Feed;
}

const xdp = new Unit('xdp', () => 200);
let monitoring: Monitoring;
let agent: Agent;
const startMonitoring = () => (monitoring = Monitoring.start({ seconds: 10 }));
const set = (...pairs: string[]) => deploy('config', 'set', ...pairs);

async function whole(): Promise<void> {
  await deploy('network-up');
  await deploy('attach');
}

/** Nobody answers for the IPsec VM, and nobody remembers who did. */
async function hideSink(): Promise<void> {
  await sink(`ip link set ${LAB.sink.interface} arp off`);
  await gateway(`ip neigh del ${LAB.sink.address} dev br0`);
}

async function showSink(): Promise<void> {
  await sink(`ip link set ${LAB.sink.interface} arp on`);
  await gateway('ip neigh flush dev br0');
}

/** A program that reads where the packet may not reach. */
async function makeUnsafe(): Promise<void> {
  await deploy('detach');
  const folder = join(INSTALLED, 'bpf');
  const source = readFileSync(join(folder, 'udp_df_direct.bpf.c'), 'utf8');
  const unsafe = source.replace('__u32 only = 0,', '__u32 only = *(__u32 *)(long)ctx->data,');
  writeFileSync(join(folder, 'unsafe.bpf.c'), unsafe);
  await must('make', ['-C', folder, 'unsafe.bpf.o']);
  copyFileSync(join(folder, 'unsafe.bpf.o'), join(folder, 'udp_df_direct.bpf.o'));
  ['unsafe.bpf.c', 'unsafe.bpf.o'].forEach((name) => rmSync(join(folder, name)));
  await deploy('attach');
}

/** As if the stack had deployed it. */
function setMode(mode: string): void {
  writeFileSync(SETTINGS_FILE, readFileSync(SETTINGS_FILE, 'utf8').replace(/^XDP_MODE=.*$/m, `XDP_MODE=${mode}`));
}

/** The same; 9001 is its default. */
async function setEgressMtu(mtu: number): Promise<void> {
  writeFileSync(SETTINGS_FILE, readFileSync(SETTINGS_FILE, 'utf8').replace(/^EGRESS_MTU=.*$/m, `EGRESS_MTU=${mtu}`));
  await whole();
}

/** A veth takes XDP in driver mode only while its peer sends frames that fit a page. */
async function peers(mtu: number): Promise<void> {
  for (const { namespace, interface: name } of [LAB.source, LAB.sink])
    await must('ip', ['-n', namespace, 'link', 'set', name, 'mtu', String(mtu)]);
}

let hung = 0;
/** The NFQUEUE daemon hangs, and its queue is full. */
async function hang(): Promise<void> {
  await deploy('rollback');
  hung = legacyPid();
  process.kill(hung, 'SIGSTOP');
  await send(LAB.source, Array<Buffer>(9000).fill(FEEDS.sound), 20_000);
}

function legacyPid(): number {
  return Number(readFileSync(LEGACY_PID_FILE, 'utf8'));
}

async function loseRedirects(): Promise<void> {
  xdp.start();
  await waitFor('loader', () => xdp.log.includes('updated on') || undefined, { timeoutMs: 20_000, progress });
  await gateway('ip link set ens6 down');
}

/** By heading and the first words of a cause. */
const HARMS: Readonly<Record<string, Harm>> = {
  'Primary interface and VXLAN: no mirrored packet': { feed: 'nothing' },
  'Primary interface and VXLAN: the session has another network id': { feed: 'other vni' },
  'Primary interface and VXLAN: the session’s packet length': { feed: 'cut' },
  'Primary interface and VXLAN: they go to another port': { feed: 'other port', mend: () => set('target_port=31765') },
  'Settings: somebody changed the port': { harm: () => set('target_port=31766') },
  'Settings: datagrams longer than': { harm: () => set('max_packet_size=1420') },
  'Bridge: the secondary interface is not attached': {
    harm: unplugSecondary,
    mend: () => plugSecondary().then(whole),
  },
  'Bridge: it is there, but in no bridge': { harm: () => gateway('ip link set ens6 nomaster') },
  'Bridge: it is down': { harm: () => gateway('ip link set ens6 down') },
  'Bridge: vxlan1 was deleted': { harm: () => gateway('ip link delete vxlan1') },
  'Bridge: br0 was deleted': { harm: () => gateway('ip link delete br0') },
  'Rules: somebody flushed': { harm: () => gateway('nft flush ruleset') },
  'Rules: a table was deleted': { harm: () => gateway('nft delete table bridge mirror_gateway') },
  'Rules: the rules for what the XDP program hands': {
    harm: () => gateway('nft delete table ip mirror_gateway_handover'),
  },
  'Rules: another program has switched it on': {
    harm: () => gateway('sysctl -qw net.bridge.bridge-nf-call-iptables=1'),
  },
  'Forwarding: somebody switched it off': { harm: () => gateway('sysctl -qw net.ipv4.ip_forward=0') },
  'Route: the route is gone': { harm: () => gateway('ip route flush dev br0') },
  'Neighbour: nobody answers': { harm: hideSink, mend: showSink },
  'Secondary interface: somebody lowered its MTU': { harm: () => gateway('ip link set ens6 mtu 600') },
  'DF is still set: they are no longer than': { feed: 'small', mend: () => set('min_packet_size=1400') },
  'DF is still set: they are longer than': {
    harm: async () => {
      await setEgressMtu(1400);
      // The kernel asks for the neighbour, anew since the network was made again, only for what it forwards.
      await send(LAB.source, Array<Buffer>(5).fill(FEEDS.sound), 10);
      await set('max_packet_size=1420');
    },
    mend: () => setEgressMtu(9001),
  },
  'DF is still set: their sender sets no DF': { feed: 'without df' },
  'Needs: it is not built': { harm: () => Promise.resolve(rmSync(join(INSTALLED, 'bpf/udp_df_direct.bpf.o'))) },
  'Needs: another program has the interface': {
    harm: async () => {
      await deploy('detach');
      await gateway(`ip link set dev ens5 xdpgeneric obj ${FOREIGN} sec xdp`);
    },
  },
  'The kernel’s verdict: the verifier refuses': { harm: makeUnsafe },
  'Driver mode: it was asked for': {
    harm: async () => {
      setMode('driver');
      await peers(DRIVER_MODE_MTU);
      await deploy('attach');
    },
    mend: async () => {
      setMode('auto');
      await set('max_packet_size=9000').catch(() => undefined); // driver mode refuses it
      await deploy('detach');
      await set('max_packet_size=9000');
      await peers(LAB.mtu);
      await deploy('attach');
    },
  },
  'Only the standby carries traffic: XDP was detached': { harm: () => deploy('detach') },
  'Only the standby carries traffic: somebody rolled back': { harm: () => deploy('rollback') },
  'Only the standby carries traffic: traffic_percent is below 100': {
    harm: async () => {
      await set('traffic_percent=50');
      process.kill(legacyPid(), 'SIGKILL');
    },
    mend: () => set('traffic_percent=100'),
  },
  'Only the standby carries traffic: it hangs or is too slow': {
    harm: hang,
    mend: () => Promise.resolve(process.kill(hung, 'SIGCONT')), // systemd would kill it in the end
  },
  'In the gateway’s programs: malformed': { feed: 'cut' },
  'In the gateway’s programs: their source fragments them': { feed: 'fragment' },
  'In the gateway’s programs: their TTL is used up': { feed: 'expired' },
  'In the gateway’s programs: the secondary interface is down': {
    harm: loseRedirects,
    feed: 'small',
    mend: () => xdp.stop(),
  },
  'In the gateway’s programs: nobody answers': { harm: hideSink, mend: showSink },
  'Fragments: datagrams longer than egress_mtu': { harm: () => setEgressMtu(1400) },
  'Fragments: the driver has no bypass': { harm: () => setEgressMtu(1400) },
  'Alarms without data: the settings are gone': {
    harm: () => Promise.resolve(renameSync(SETTINGS_FILE, `${SETTINGS_FILE}.gone`)),
    mend: () => Promise.resolve(renameSync(`${SETTINGS_FILE}.gone`, SETTINGS_FILE)),
  },
  'Alarms without data: monitoring does not run': {
    harm: () => monitoring.stop(),
    mend: () => Promise.resolve(startMonitoring()),
  },
  'Alarms without data: the metadata service does not answer': {
    harm: () => gateway('ip address delete 169.254.169.254/32 dev lo'),
    mend: () => gateway('ip address add 169.254.169.254/32 dev lo'),
  },
  'Alarms without data: in no group': {
    harm: () => Promise.resolve(toggleTags()),
    mend: () => Promise.resolve(toggleTags()),
  },
  'Alarms without data: no agent': {
    harm: () => agent.stop(),
    mend: async () => (agent = await Agent.start(progress)),
  },
};

const nameOf = ({ heading }: Step, { words }: Cause) => `${heading}: ${words}`.replaceAll("'", '’');
const keyOf = (step: Step, cause: Cause) => Object.keys(HARMS).filter((key) => nameOf(step, cause).startsWith(key));
/** What needs AWS, systemd or a package from the network, somebody else plays in the lab. */
const runsHere = (remedy: string | undefined): remedy is string =>
  remedy !== undefined && !/^(aws|systemctl|deploy_xdp.sh agent)\b/.test(remedy);

const cases = steps.flatMap((step) =>
  step.causes.map((cause): [string, Step, Cause] => [nameOf(step, cause), step, cause]),
);

test('each cause on the page that a lab can have is broken here, and nothing else', () => {
  expect(cases.filter(([, step, cause]) => keyOf(step, cause).length !== 1).map(([name]) => name)).toEqual([]);
  const broken = new Set(cases.flatMap(([, step, cause]) => keyOf(step, cause)));
  expect(Object.keys(HARMS).filter((key) => !broken.has(key))).toEqual([]);
});

describe('the troubleshooting page', () => {
  const lab = useLab('direct/generic');
  const reasons = new Set<string>();

  beforeAll(async () => {
    const settings = readFileSync(SETTINGS_FILE, 'utf8').replace(/^XDP_ENGINE=.*$/m, 'XDP_ENGINE=auto');
    writeFileSync(SETTINGS_FILE, settings); // as a stack has it by default
    setMode('auto');
    await setEgressMtu(9001);
    agent = await Agent.start(progress);
    startMonitoring();
  });
  afterAll(() => Promise.all([monitoring.stop(), agent.stop(), xdp.stop()]));

  /** Counters take two looks, neighbours and programs a moment. */
  async function comesToShow(feed: Feed, command: string, shows: readonly string[]): Promise<string> {
    let printed = '';
    const shown = async () => isShown((printed = (await shell(command)).stdout), shows) || undefined;
    await under(feed, () => waitFor(command, shown, { timeoutMs: 20_000, everyMs: 200, progress })).catch(() =>
      expect(printed).toBe(shows.join('\n')),
    );
    return printed;
  }

  async function noteReason(): Promise<void> {
    const { stdout } = await shell('deploy_xdp.sh health');
    if (stdout.startsWith('{')) reasons.add((JSON.parse(stdout) as { reason: string }).reason);
  }

  /** The same traffic no longer shows the cause. */
  async function heals(remedy: string, feed: Feed, step: Step, cause: Cause): Promise<void> {
    await shell(remedy);
    if (feed === 'sound') return;
    const { stdout } = await under(feed, () => shell(step.command));
    expect(isShown(stdout, cause.shows)).toBe(false);
  }

  /** Healthy by the engine that was asked for, and a large datagram arrives without its DF. */
  async function isWhole(): Promise<void> {
    expect(JSON.parse(await deploy('health'))).toMatchObject({ state: 'healthy', engine: 'direct' });
    const packet = datagram().df();
    const outcome = await lab.send([mirror(packet)]);
    expectDelivered(outcome, { packet, from: '198.51.100.7:1024', length: LARGE });
  }

  it.each(steps.map((step): [string, Step] => [`${step.heading}: ${step.command}`, step]))(
    'says what a sound gateway prints, and that it is no cause: %s',
    async (_, { command, sound, causes }) => {
      const printed = await comesToShow('sound', command, sound);
      expect(causes.filter(({ shows }) => isShown(printed, shows))).toEqual([]);
    },
  );

  it.each(cases)('finds and mends the cause: %s', async (_, step, cause) => {
    const [key = ''] = keyOf(step, cause);
    const { harm, mend, feed = 'sound' } = HARMS[key] ?? {};
    expect({ cause, isMended: runsHere(cause.remedy) || mend !== undefined || harm === undefined }).toMatchObject({
      isMended: true,
    });
    try {
      await harm?.();
      await comesToShow(feed, step.command, cause.shows);
      await noteReason();
    } finally {
      if (runsHere(cause.remedy)) await heals(cause.remedy, feed, step, cause);
      await mend?.();
    }
    await comesToShow('sound', step.command, step.sound);
    await isWhole();
  });

  it('sends the operator from each reason that a broken gateway gave to its section, and from no other', () => {
    const given = [...reasons].filter((reason) => reason !== '');
    const leads = (row: string, reason: string) => isShown(reason, [row]);
    expect(given.filter((reason) => !page.reasons.some((row) => leads(row, reason)))).toEqual([]);
    expect(page.reasons.filter((row) => !given.some((reason) => leads(row, reason)))).toEqual([]);
  });
});

test('a page that promises what no gateway prints is found out', () => {
  expect(isShown('a 1\n', ['a <n>'])).toBe(true);
  expect(isShown('a 0\n', ['a <n>'])).toBe(false);
  expect(isShown('a 1\nb\n', ['a <n>'])).toBe(false);
  expect(isShown('a 1\nb\n', ['a <n>', '…'])).toBe(true);
  expect(isShown('\n', ['(nothing)'])).toBe(true);
  expect(isShown('a\n', ['(nothing)'])).toBe(false);
});
