// SPDX-License-Identifier: Apache-2.0
// What is measured: the engines, each on the same small gateway, and the references beside them.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { inNamespace, must, type Progress, REPOSITORY, run, waitFor } from '../lab/host';
import { ADDRESSES, SmallGateway, type SmallGatewayOptions } from '../lab/small-gateway';
import { onto } from '../lab/exchange';
import { Packet } from '../lab/packet';
import { type Ends, TrialProcess } from './trials';

export const SUBJECTS = ['nfqueue', 'standby', 'bridge', 'generic', 'driver', 'ceiling', 'path'] as const;
/**
 * `generic` and `driver` are modes of the direct engine. `ceiling` is a program that only takes off the outer headers and
 * redirects, in the driver; `path` is no gateway at all: what the generator offers is counted at the primary interface.
 */
export type Subject = (typeof SUBJECTS)[number];

/** Those whose frames never become the kernel's packets. */
const IN_DRIVER: readonly Subject[] = ['driver', 'ceiling', 'path'];

/** Which core takes frames off the wire. */
export const PLACEMENTS = ['softirq', 'thread'] as const;
export type Placement = (typeof PLACEMENTS)[number];

export const PLACEMENT_MEANS: Readonly<Record<Placement, string>> = {
  softirq:
    'The generator and, as a veth has it, the polling of the primary interface share core 0; RPS hands what becomes a packet ' +
    'of the kernel to core 1, which also runs the sink behind it. What stays in the driver (driver, ceiling, path) shares core 0 ' +
    'with the generator and the sink, so its figures hold their work, too. What is too much is dropped between the cores, at a price.',
  thread:
    'The generator has core 0. A kernel thread on core 1 polls the primary interface, and all that follows, the sink included, ' +
    'stays there, in every engine; what is too much is dropped at the wire and costs the gateway nothing. Only overload means ' +
    'something: the wire holds 256 frames, so that a core which stops for 2 ms loses some at 150 000/s, without a gateway as well.',
};

const GENERATOR_CORE = 0;
const GATEWAY_CORE = 1;
const DRIVER_MTU = 3498;
const LEGACY = join(REPOSITORY, 'netfilter/modify_udp_df');
/** As deploy_xdp.sh has it. */
const QUEUE_RULE = 'PREROUTING -m mark --mark 0x4d470002 -j NFQUEUE --queue-num 0 --queue-bypass';

export interface StepCost {
  /** IP total length inside, in bytes. */
  readonly bytes: number;
  /** Nanoseconds of one run, the clock's own included: that of the empty program. */
  readonly empty: number;
  readonly bridge: number;
  readonly direct: number;
}

export class Bench {
  private readonly gateway: SmallGateway;
  private readonly namespaces: { readonly source: string; readonly gateway: string; readonly sink: string };
  private legacy: ChildProcess | undefined;
  private trial: TrialProcess | undefined;

  constructor(
    prefix: string,
    private readonly placement: Placement,
    private readonly progress: Progress,
  ) {
    this.gateway = new SmallGateway(prefix);
    this.namespaces = { source: `${prefix}s`, gateway: `${prefix}g`, sink: `${prefix}k` };
  }

  async up(): Promise<void> {
    await removeLeftovers();
    await favour(FAVOUR);
    await this.gateway.up();
    // A veth takes frames from XDP only while its peer polls.
    await this.gateway.inGateway('ethtool -K ens5 gro on');
    if (this.placement === 'softirq') {
      await sysfs(this.namespaces.gateway, `echo ${1 << GATEWAY_CORE} >/sys/class/net/ens5/queues/rx-0/rps_cpus`);
      return;
    }
    const before = await pollingThreads();
    await sysfs(this.namespaces.gateway, 'echo 1 >/sys/class/net/ens5/threaded');
    for (const thread of (await pollingThreads()).filter((pid) => !before.includes(pid))) {
      await must('taskset', ['-pc', String(GATEWAY_CORE), thread]);
      await must('renice', ['-n', String(FAVOUR), thread]);
    }
  }

  /** Puts the subject in charge, with the sink behind it. */
  async use(subject: Subject, options: SmallGatewayOptions = {}): Promise<void> {
    await this.rest();
    const { source, gateway, sink } = this.namespaces;
    // Behind RPS, packets for such a sink would wait in the same queue as those for the gateway.
    const takesPackets = this.placement === 'thread' && !IN_DRIVER.includes(subject);
    let ends: Ends = { source: `${source}:s0`, sink: `${sink}:k0`, takesPackets };
    switch (subject) {
      case 'nfqueue':
        await this.gateway.use('standby');
        await this.startLegacy();
        break;
      case 'path':
        await this.bare();
        ends = { ...ends, sink: `${gateway}:ens5` };
        break;
      case 'ceiling':
        await this.bare();
        ends = { ...ends, ceiling: `${gateway}:ens5:ens6` };
        break;
      default:
        await this.gateway.use(subject, options);
    }
    this.trial = await TrialProcess.start(ends);
  }

  run(...[bytes, pps, milliseconds]: Parameters<TrialProcess['run']>): ReturnType<TrialProcess['run']> {
    if (this.trial === undefined) throw new Error('no subject is in charge yet');
    return this.trial.run(bytes, pps, milliseconds);
  }

  /** The programs alone. */
  async stepCosts(sizes: readonly number[]): Promise<StepCost[]> {
    await this.rest();
    await this.gateway.use('standby');
    const input = Buffer.concat(
      sizes.flatMap((bytes) => {
        const packet = Packet.udp({ from: '100.64.0.1:40000', to: '203.0.113.9:31765' }).totalLength(bytes).df();
        const frame = onto(this.gateway.path, packet.build());
        const length = Buffer.alloc(4);
        length.writeUInt32LE(frame.length);
        return [length, frame];
      }),
    );
    const objects = ['bpf/udp_df_modifier.bpf.o', 'bpf/udp_df_direct.bpf.o'].map((object) => join(REPOSITORY, object));
    const interfaces = ['ens5', 'ens6', 'br0', ADDRESSES.sink.address];
    const tool = join(REPOSITORY, 'bpf/tests/step_cost');
    const command = inNamespace(
      this.namespaces.gateway,
      'taskset',
      '-c',
      String(GATEWAY_CORE),
      tool,
      ...objects,
      ...interfaces,
    );
    const said = await must(...command, { input });
    return said
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => {
        const [bytes = NaN, empty = NaN, bridge = NaN, direct = NaN] = line.split(',').map(Number);
        return { bytes, empty, bridge, direct };
      });
  }

  async down(): Promise<void> {
    await this.rest();
    await favour(0);
    await this.gateway.down();
  }

  private async rest(): Promise<void> {
    await this.trial?.stop();
    this.trial = undefined;
    await this.stopLegacy();
  }

  /** The network without an engine's program, and with an MTU at which interfaces take one. */
  private async bare(): Promise<void> {
    const { source, sink } = this.namespaces;
    await this.gateway.use('standby');
    await must('ip', ['-n', source, 'link', 'set', 's0', 'mtu', String(DRIVER_MTU)]);
    await must('ip', ['-n', sink, 'link', 'set', 'k0', 'mtu', String(DRIVER_MTU)]);
    await this.gateway.inGateway(`ip link set ens5 mtu ${DRIVER_MTU}; ip link set ens6 mtu ${DRIVER_MTU}`);
  }

  private async startLegacy(): Promise<void> {
    const [command, args] = inNamespace(this.namespaces.gateway, 'nice', '-n', String(FAVOUR), LEGACY);
    let said = '';
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said = `${said}${text}`.slice(-400)));
    this.legacy = child;
    const isServed = async (): Promise<true | undefined> => {
      if (child.exitCode !== null) throw new Error(`modify_udp_df: exit code ${child.exitCode} ${said.trim()}`);
      const rows = await this.gateway.inGateway('cat /proc/net/netfilter/nfnetlink_queue');
      return /^ *0 +\d+ +\d+ 2 /m.test(rows) || undefined;
    };
    await waitFor('program at the queue', isServed, { timeoutMs: 10_000, everyMs: 50, progress: this.progress });
    await this.gateway.inGateway(`iptables-nft -t raw -A ${QUEUE_RULE}`);
  }

  private async stopLegacy(): Promise<void> {
    const child = this.legacy;
    if (child === undefined) return;
    this.legacy = undefined;
    await this.gateway.inGateway(`iptables-nft -t raw -D ${QUEUE_RULE} 2>/dev/null || true`);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.once('close', done));
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await ended;
    clearTimeout(timer);
  }
}

/** Of all that works for a gateway, as of the generator: others who use the machine shall not take its processor. */
const FAVOUR = -20;

/** The kernel's threads for packets that an interrupt has no time for. */
async function favour(nice: number): Promise<void> {
  for (const core of [GENERATOR_CORE, GATEWAY_CORE]) {
    const thread = (await run('pgrep', ['-x', `ksoftirqd/${core}`])).stdout.trim();
    if (thread !== '') await run('renice', ['-n', String(nice), thread]);
  }
}

export const CORES = { generator: GENERATOR_CORE, gateway: GATEWAY_CORE } as const;

/** In a namespace, whose interfaces only a file system of its own shows. */
function sysfs(namespace: string, script: string): Promise<string> {
  return must(...inNamespace(namespace, 'unshare', '--mount', 'sh', '-ec', `mount -t sysfs sysfs /sys; ${script}`));
}

async function pollingThreads(): Promise<string[]> {
  return (await run('pgrep', ['napi/ens5'])).stdout.split('\n').filter(Boolean);
}

/** Namespaces of a run that was killed; the number in a name is that of its process. */
async function removeLeftovers(): Promise<void> {
  const names = (await must('ip', ['netns', 'list'])).split('\n').map((line) => line.split(' ')[0] ?? '');
  for (const name of names) {
    const pid = /^mgb(\d+)[sgk]$/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await run('ip', ['netns', 'delete', name]);
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
