// SPDX-License-Identifier: Apache-2.0
// What is measured: the engines, each on the same small gateway, and the references beside them.
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { inNamespace, must, type Progress, REPOSITORY, run, sleep, waitFor } from '../lab/host';
import { ADDRESSES, BPFFS, MTU, SmallGateway } from '../lab/small-gateway';
import { onto } from '../lab/exchange';
import { Packet } from '../lab/packet';
import { FAVOUR, favour, GATEWAY_CORE, pollingThreads, residentSet } from './machine';
import { type Engine, IN_DRIVER, type Memory, type StepCost, type Subject } from './results';
import { type Ends, type Trial, type TrialOptions, TrialProcess } from './trials';

/**
 * Who takes frames off the wire: the core that the generator keeps busy, which hands what becomes a packet of the kernel to
 * the gateway's by RPS; or a kernel thread on the gateway's, where then all of a gateway's work is.
 */
export type Placement = 'softirq' | 'thread';

const LEGACY = join(REPOSITORY, 'netfilter/modify_udp_df');
/** As deploy_xdp.sh has it. */
const QUEUE_RULE = 'PREROUTING -m mark --mark 0x4d470002 -j NFQUEUE --queue-num 0 --queue-bypass';

/** A loader has read its object and hooked its program. */
const SETTLED_MS = 1500;
/** Whatever ends this process. */
const ENDS_WITH_THIS = ['setpriv', '--pdeathsig', 'KILL'] as const;
/** As many flows as trials have that do not ask for others, as a power of two. */
const FLOW_BITS = 10;

export interface UseOptions {
  /** IP total length of the datagrams to come: longer ones need interfaces that take them. */
  readonly bytes: number;
  readonly flowBits?: number;
}

export class Bench {
  private readonly gateway: SmallGateway;
  private readonly namespaces: { readonly source: string; readonly gateway: string; readonly sink: string };
  private legacy: ChildProcess | undefined;
  private trial: TrialProcess | undefined;
  private placement: Placement = 'softirq';

  constructor(
    prefix: string,
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
    // Else packets of a socket pass by the polling: veth_xmit in drivers/net/veth.c.
    await must(...inNamespace(this.namespaces.source, 'ethtool', '-K', 's0', 'tso', 'off'));
    await this.place('softirq');
  }

  /** Of all trials to come, until it is called again. */
  async place(placement: Placement, cores: readonly number[] = [GATEWAY_CORE]): Promise<void> {
    const mask = placement === 'thread' ? 0 : cores.reduce((sum, core) => sum | (1 << core), 0);
    const before = await pollingThreads();
    this.placement = placement;
    await this.sysfs(`
      echo ${Number(placement === 'thread')} >/sys/class/net/ens5/threaded
      echo ${mask.toString(16)} >/sys/class/net/ens5/queues/rx-0/rps_cpus`);
    // Since Linux 6.17 a thread ends when it is told to stop polling, and the next one is another.
    for (const thread of (await pollingThreads()).filter((pid) => !before.includes(pid))) {
      await must('taskset', ['-pc', String(GATEWAY_CORE), thread]);
      await must('renice', ['-n', String(FAVOUR), thread]);
    }
  }

  /** Puts the subject in charge, with the sink behind it. */
  async use(subject: Subject, { bytes, flowBits = FLOW_BITS }: UseOptions): Promise<void> {
    await this.rest();
    const { source, gateway, sink } = this.namespaces;
    // Behind RPS, packets for such a sink would wait in the same queue as those for the gateway.
    const takesPackets = this.placement === 'thread' && !IN_DRIVER.includes(subject);
    let ends: Ends = { source: `${source}:s0`, sink: `${sink}:k0`, takesPackets, flowBits };
    switch (subject) {
      case 'nfqueue':
        await this.gateway.use('standby');
        await this.startLegacy();
        break;
      case 'path':
        await this.bare(bytes > MTU.driver ? MTU.other : MTU.driver);
        ends = { ...ends, sink: `${gateway}:ens5` };
        break;
      case 'ceiling':
        await this.bare(MTU.driver);
        ends = { ...ends, ceiling: `${gateway}:ens5:ens6` };
        break;
      default:
        await this.gateway.use(subject);
    }
    this.trial = await TrialProcess.start(ends);
  }

  run(options: TrialOptions): Promise<Trial> {
    if (this.trial === undefined) throw new Error('no subject is in charge yet');
    return this.trial.run(options);
  }

  /** Datagrams of which netfilter had to clear DF so far, and those of them that the standby did. */
  async clearedByNetfilter(): Promise<{ readonly all: number; readonly byStandby: number }> {
    const of = (name: string): Promise<number> => this.gateway.counter('ip', 'mirror_gateway', name);
    return { all: await of('large_df'), byStandby: await of('standby_packets') };
  }

  /** Resident set of the long-lived processes of the engine in charge, and what its maps take. */
  async memory(subject: Engine): Promise<Memory> {
    const maps = (await this.gateway.maps()).reduce((sum, { bytes_memlock }) => sum + bytes_memlock, 0);
    if (this.legacy?.pid !== undefined) return { subject, processes: residentSet(this.legacy.pid), maps };
    const words = this.gateway.service();
    if (words === undefined) return { subject, processes: 0, maps };
    const [command, args] = inNamespace(this.namespaces.gateway, ...ENDS_WITH_THIS, ...words);
    const loader = spawn(command, args, { stdio: 'ignore' });
    try {
      await sleep(SETTLED_MS);
      return { subject, processes: residentSet(loader.pid ?? 0), maps };
    } finally {
      await end(loader);
    }
  }

  /** The programs alone, on some cores at once: the mean. */
  async stepCosts(sizes: readonly number[], cores: readonly number[] = [GATEWAY_CORE]): Promise<StepCost[]> {
    await this.rest();
    await this.gateway.use('standby');
    const each = await Promise.all(cores.map((core) => this.stepCostsOn(core, sizes)));
    return (each[0] ?? []).map(({ bytes }, at) => {
      const mean = (key: keyof StepCost): number =>
        each.reduce((sum, costs) => sum + (costs[at]?.[key] ?? NaN), 0) / each.length;
      return { bytes, empty: mean('empty'), bridge: mean('bridge'), direct: mean('direct') };
    });
  }

  private async stepCostsOn(core: number, sizes: readonly number[]): Promise<StepCost[]> {
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
    const tool = ['taskset', '-c', String(core), join(REPOSITORY, 'bpf/tests/step_cost')];
    const command = inNamespace(this.namespaces.gateway, ...tool, ...objects, ...interfaces);
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
  private async bare(mtu: number): Promise<void> {
    await this.gateway.use('standby');
    await this.gateway.setMtu(mtu);
  }

  /** In the gateway's namespace, whose interfaces only a file system of its own shows. */
  private sysfs(script: string): Promise<string> {
    const mounted = `mount -t sysfs sysfs /sys; ${script}`;
    return must(...inNamespace(this.namespaces.gateway, 'unshare', '--mount', 'sh', '-ec', mounted));
  }

  private async startLegacy(): Promise<void> {
    const favoured = [...ENDS_WITH_THIS, 'nice', '-n', String(FAVOUR), 'taskset', '-c', String(GATEWAY_CORE), LEGACY];
    const [command, args] = inNamespace(this.namespaces.gateway, ...favoured);
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
    await end(child);
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once('close', done));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await ended;
  clearTimeout(timer);
}

/** Namespaces and pins of a run that was killed; the number in a name is that of its process. */
async function removeLeftovers(): Promise<void> {
  const namespaces = (await must('ip', ['netns', 'list'])).split('\n').map((line) => line.split(' ')[0] ?? '');
  const isLeft = (name: string): boolean => {
    const pid = /^mgb(\d+)[sgk]?$/.exec(name)?.[1];
    return pid !== undefined && !isAlive(Number(pid));
  };
  for (const name of namespaces.filter(isLeft)) await run('ip', ['netns', 'delete', name]);
  for (const name of readdirSync(BPFFS).filter(isLeft)) rmSync(join(BPFFS, name), { recursive: true });
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
