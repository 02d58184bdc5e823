// SPDX-License-Identifier: Apache-2.0
// What is measured: the engines and the references, each on a minimal gateway of its own. All of them stay up, so that they take
// turns within a second.
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { LARGEST_IN_DRIVER_MODE } from '../../constructs/config/limits';
import { inNamespace, must, type Progress, REPOSITORY, run, sleep, waitFor } from '../../lab/support/host';
import { ADDRESSES, BPFFS, MTU, MINIMAL_ENGINES, MinimalGateway } from '../../lab/namespaces/minimal-gateway';
import { onto } from '../../lab/packets/exchange';
import { Packet } from '../../lab/packets/packet';
import {
  busy,
  FAVOUR,
  favour,
  GATEWAY_CORE,
  idleShare,
  pollingThreads,
  residentSet,
  restoreQueues,
  setBacklog,
  setQueues,
} from './machine';
import { type Near, CpuAffinity } from './cpu-affinity';
import { type Engine, IN_DRIVER, type Memory, type StepCost, type DeviceUnderTest } from '../results';
import { type Ends, OVERLOAD, type Trial, type TrialOptions, TrialProcess } from './trials';

/**
 * Who takes frames off the wire: the core that the generator keeps busy, which hands what becomes a packet of the kernel to
 * the gateway's by RPS; or a kernel thread on the gateway's, where then all of a gateway's work is.
 */
type Placement = 'softirq' | 'thread';

const LEGACY = join(REPOSITORY, 'netfilter/modify_udp_df');
/** As deploy_xdp.sh has it. */
const QUEUE_RULE = 'PREROUTING -m mark --mark 0x4d470002 -j NFQUEUE --queue-num 0 --queue-bypass';

/** A loader has read its object and hooked its program. */
const SETTLED_MS = 1500;
/** Whatever ends this process; but Ctrl-C is for this one alone (`detached`), which then cleans up. */
const ENDS_WITH_THIS = ['setpriv', '--pdeathsig', 'KILL'] as const;
/** As many flows as trials have that do not ask for others, as a power of two. */
const FLOW_BITS = 10;

/** What a trial counted, and what only the gateway knows. */
export interface Observed extends Trial {
  /** Frames for which the sink's ring had no room. */
  readonly refused: number;
  /** For how much of `elapsed` the gateway's processor worked, in seconds. */
  readonly worked: number;
  readonly elapsed: number;
  /** Of the NFQUEUE daemon's datagrams whose DF was cleared, the share for which its queue had no room, so that the fallback rule did. */
  readonly byStandby?: number;
}

/** Datagrams whose DF was to be cleared by the NFQUEUE daemon so far, and those of them whose DF the fallback rule cleared. */
interface Cleared {
  readonly all: number;
  readonly byStandby: number;
}

/** One subject, with its generator and its sink. Idle, it costs the others nothing. */
class Lane {
  private readonly gateway: MinimalGateway;
  private readonly namespaces: { readonly source: string; readonly gateway: string; readonly sink: string };
  private daemon: ChildProcess | undefined;
  private trial: TrialProcess | undefined;
  /** What the trial process was started for. */
  private ends: Ends | undefined;
  private mtu = 0;
  private placement: Placement = 'softirq';

  constructor(
    private readonly subject: DeviceUnderTest,
    prefix: string,
    private readonly egressMtu: number,
    private readonly progress: Progress,
  ) {
    const name = `${prefix}-${subject}`;
    this.gateway = new MinimalGateway(name);
    this.namespaces = { source: `${name}s`, gateway: `${name}g`, sink: `${name}k` };
  }

  async up(): Promise<void> {
    const { gateway, subject } = this;
    await gateway.up();
    // A veth takes frames from XDP only while its peer polls.
    await gateway.inGateway('ethtool -K ens5 gro on');
    // Else packets of a socket pass by the polling: veth_xmit in drivers/net/veth.c.
    await must(...inNamespace(this.namespaces.source, 'ethtool', '-K', 's0', 'tso', 'off'));
    const { egressMtu } = this;
    await gateway.use(MINIMAL_ENGINES.find((engine) => engine === subject) ?? 'standby', { egressMtu });
    if (subject === 'nfqueue') await this.startDaemon();
  }

  async place(placement: Placement, cores: readonly number[]): Promise<void> {
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

  async run(trial: TrialOptions, flowBits: number): Promise<Observed> {
    const process = await this.use(trial.bytes, flowBits);
    const refusedBefore = await this.refusedBySink();
    const clearedBefore = await this.clearedByLegacy();
    const { result, worked, elapsed } = await busy(() => process.run(trial));
    if (this.daemon && hasEnded(this.daemon))
      throw new Error(`modify_udp_df: ended by itself with ${howEnded(this.daemon)}`);
    const refused = (await this.refusedBySink()) - refusedBefore;
    const cleared = await this.clearedByLegacy();
    const byStandby = (cleared.byStandby - clearedBefore.byStandby) / (cleared.all - clearedBefore.all);
    return { ...result, worked, elapsed, refused, ...(Number.isFinite(byStandby) && { byStandby }) };
  }

  /** Starts what takes datagrams of so many bytes, of so many flows as a power of two. */
  async use(bytes: number, flowBits: number): Promise<TrialProcess> {
    const ends = this.endsFor(flowBits);
    const mtu = this.mtuFor(bytes) ?? this.mtu;
    if (this.trial && isDeepStrictEqual(ends, this.ends) && mtu === this.mtu) return this.trial;
    await this.trial?.stop();
    if (mtu !== this.mtu) await this.gateway.setMtu(mtu);
    this.mtu = mtu;
    this.ends = ends;
    return (this.trial = await TrialProcess.start(ends));
  }

  private endsFor(flowBits: number): Ends {
    const { source, gateway, sink } = this.namespaces;
    // Behind RPS, packets for such a sink would wait in the same queue as those for the gateway.
    const takesPackets = this.placement === 'thread' && !IN_DRIVER.includes(this.subject);
    const ends = { source: `${source}:s0`, sink: `${sink}:k0`, takesPackets, flowBits };
    if (this.subject === 'path') return { ...ends, sink: `${gateway}:ens5` };
    return this.subject === 'baseline' ? { ...ends, baseline: `${gateway}:ens5:ens6` } : ends;
  }

  /** At which interfaces take a reference's program; an engine has set its own. */
  private mtuFor(bytes: number): number | undefined {
    if (this.subject === 'baseline') return MTU.driver;
    if (this.subject !== 'path') return undefined;
    return bytes > LARGEST_IN_DRIVER_MODE ? MTU.other : MTU.driver;
  }

  /** What veth_xmit drops because its peer's ring is full: drivers/net/veth.c. */
  private async refusedBySink(): Promise<number> {
    const shown = await this.gateway.inGateway('ip -json -statistics link show dev ens6');
    const [link] = JSON.parse(shown) as { stats64: { tx: { dropped: number } } }[];
    return link?.stats64.tx.dropped ?? NaN;
  }

  private async clearedByLegacy(): Promise<Cleared> {
    if (!this.daemon) return { all: 0, byStandby: 0 };
    const of = (name: string): Promise<number> => this.gateway.counter('ip', 'mirror_gateway', name);
    return { all: await of('large_df'), byStandby: await of('standby_packets') };
  }

  /** Resident set of the long-lived processes of an engine, and what its maps take. */
  async memory(subject: Engine): Promise<Memory> {
    const maps = (await this.gateway.maps()).reduce((sum, { bytes_memlock }) => sum + bytes_memlock, 0);
    if (this.daemon?.pid !== undefined) return { subject, processes: residentSet(this.daemon.pid), maps };
    const words = this.gateway.service();
    if (words === undefined) return { subject, processes: 0, maps };
    const [command, args] = inNamespace(this.namespaces.gateway, ...ENDS_WITH_THIS, ...words);
    const loader = spawn(command, args, { stdio: 'ignore', detached: true });
    try {
      await sleep(SETTLED_MS);
      return { subject, processes: residentSet(loader.pid ?? 0), maps };
    } finally {
      await end(loader);
    }
  }

  async stepCostsOn(core: number, sizes: readonly number[]): Promise<StepCost[]> {
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
    await this.trial?.stop();
    if (this.daemon) await end(this.daemon);
    await this.gateway.down();
  }

  /** In the gateway's namespace, whose interfaces only a file system of its own shows. */
  private sysfs(script: string): Promise<string> {
    const mounted = `mount -t sysfs sysfs /sys; ${script}`;
    return must(...inNamespace(this.namespaces.gateway, 'unshare', '--mount', 'sh', '-ec', mounted));
  }

  private async startDaemon(): Promise<void> {
    const favoured = [...ENDS_WITH_THIS, 'nice', '-n', String(FAVOUR), 'taskset', '-c', String(GATEWAY_CORE), LEGACY];
    const [command, args] = inNamespace(this.namespaces.gateway, ...favoured);
    let said = '';
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said = `${said}${text}`.slice(-400)));
    this.daemon = child;
    const isServed = async (): Promise<true | undefined> => {
      if (hasEnded(child)) throw new Error(`modify_udp_df: ${howEnded(child)} ${said.trim()}`);
      const rows = await this.gateway.inGateway('cat /proc/net/netfilter/nfnetlink_queue');
      return /^ *0 +\d+ +\d+ 2 /m.test(rows) || undefined;
    };
    await waitFor('program at the queue', isServed, { timeoutMs: 10_000, everyMs: 50, progress: this.progress });
    await this.gateway.inGateway(`iptables-nft -t raw -A ${QUEUE_RULE}`);
  }
}

export class Bench {
  private readonly lanes = new Map<DeviceUnderTest, Lane>();
  private readonly cpuAffinity: CpuAffinity;
  private placed = '';
  private last: Promise<unknown> = Promise.resolve();
  private isStopped = false;

  /** @param egressMtu the longest packet that gateways send, in bytes; they cut longer ones */
  constructor(
    private readonly prefix: string,
    private readonly egressMtu: number,
    private readonly progress: Progress,
  ) {
    this.cpuAffinity = new CpuAffinity((message) => progress.say(message));
  }

  async up(subjects: readonly DeviceUnderTest[]): Promise<void> {
    await removeLeftovers();
    await favour(FAVOUR);
    await setQueues();
    for (const subject of new Set<DeviceUnderTest>([...subjects, 'standby'])) {
      this.goOn();
      const lane = new Lane(subject, this.prefix, this.egressMtu, this.progress);
      this.lanes.set(subject, lane);
      await lane.up();
    }
    await this.cpuAffinity.learn();
    await this.place('softirq');
  }

  /** Of all trials to come, until it is called again. */
  async place(placement: Placement, cores: readonly number[] = [GATEWAY_CORE]): Promise<void> {
    const wanted = `${placement} ${cores.join(' ')}`;
    if (wanted === this.placed) return;
    for (const lane of this.lanes.values()) await lane.place(placement, cores);
    this.placed = wanted;
  }

  /** One after the other, in the order of the calls: whoever calls again after each trial takes turns with others who do. */
  run(subject: DeviceUnderTest, trial: TrialOptions, flowBits = FLOW_BITS): Promise<Near<Observed>> {
    const result = this.last.then(() => {
      setBacklog(trial.pps === OVERLOAD ? 'overload' : 'other');
      const run = (): Promise<Observed> => this.lane(subject).run(trial, flowBits);
      return this.cpuAffinity.while(run, () => this.goOn());
    });
    this.last = result.catch(() => this.stop());
    return result;
  }

  /** Starts what trials need that differ from those before, outside of what is measured. */
  async prepare(subject: DeviceUnderTest, bytes: number): Promise<void> {
    await this.lane(subject).use(bytes, FLOW_BITS);
  }

  /** What waits for its turn, and what comes later, fails. */
  stop(): void {
    this.isStopped = true;
  }

  /** @throws after `stop`. */
  goOn(): void {
    if (this.isStopped) throw new Error('stopped');
  }

  /** Of the gateways' processor, at rest. */
  idleShare(): Promise<number> {
    return idleShare();
  }

  memory(subject: Engine): Promise<Memory> {
    return this.lane(subject).memory(subject);
  }

  /** The programs alone, on some cores at once: the mean. */
  async stepCosts(sizes: readonly number[], cores: readonly number[] = [GATEWAY_CORE]): Promise<StepCost[]> {
    const lane = this.lane('standby');
    const each = await Promise.all(cores.map((core) => lane.stepCostsOn(core, sizes)));
    return (each[0] ?? []).map(({ bytes }, at) => {
      const mean = (key: keyof StepCost): number =>
        each.reduce((sum, costs) => sum + (costs[at]?.[key] ?? NaN), 0) / each.length;
      return { bytes, empty: mean('empty'), bridge: mean('bridge'), direct: mean('direct') };
    });
  }

  async down(): Promise<void> {
    this.stop();
    await this.last;
    try {
      const lanes = await Promise.allSettled([...this.lanes.values()].map((lane) => lane.down()));
      for (const lane of lanes) if (lane.status === 'rejected') throw lane.reason;
    } finally {
      await favour(0).finally(restoreQueues);
    }
  }

  private lane(subject: DeviceUnderTest): Lane {
    const lane = this.lanes.get(subject);
    if (lane === undefined) throw new Error(`subject '${subject}': it is not up`);
    return lane;
  }
}

const hasEnded = ({ exitCode, signalCode }: ChildProcess): boolean => exitCode !== null || signalCode !== null;

const howEnded = ({ exitCode, signalCode }: ChildProcess): string => signalCode ?? `exit code ${exitCode}`;

async function end(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
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
    const pid = /^mgb(\d+)-/.exec(name)?.[1];
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
