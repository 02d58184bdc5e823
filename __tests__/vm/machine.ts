// SPDX-License-Identifier: Apache-2.0
// What the VM tests share: a machine booted from user data that cdktf synthesized, all cases played through it, and what
// must be true of every gateway, whatever its release and engine.
import { join } from 'node:path';
import { type Case, cases, firstDatagram, play, type Verdict } from '../../lab/packets/cases';
import type { Flood } from '../../lab/namespaces/flood';
import { inNamespace, must, Progress, REPOSITORY, waitFor } from '../../lab/support/host';
import { type Release } from '../../lab/vm/image';
import {
  DEFAULT_EGRESS_MTU,
  ENGINES,
  DEFAULT_ENGINE,
  type Engine,
  isXdp,
  longestDatagram,
  settingsOf,
  statusOf,
} from '../../lab/namespaces/engines';
import { synthesize } from '../../lab/support/synth';
import { Receiver } from '../../lab/packets/traffic';
import { Stream } from '../../lab/packets/traffic-stream';
import { type CloudInitResult, type Computer, PROBE } from '../../lab/vm/computer';
import { bootContainer } from '../../lab/vm/container';
import { bootVm, VM_LAB, type VmOptions } from '../../lab/vm/vm';

export interface MachineOptions {
  readonly release: Release;
  readonly baked: boolean;
  /** The image brings the programs of this bundle (default: they are built on the machine). */
  readonly prebuilt?: boolean;
  /** Boots a kernel of its own (default: a container on this machine's). */
  readonly emulated?: boolean;
  readonly engine: Engine;
  readonly secondary: NonNullable<VmOptions['secondary']>;
}

interface Status extends ReturnType<typeof statusOf> {
  readonly packets_modified: number;
  readonly packets_matched: number;
  readonly standby_packets: number;
}

const MINUTE = 60_000;
const HEALTH = `http://${VM_LAB.primary.address}:8079/healthz`;

/** Off from the last test of the enclosing `describe`, on from the first. */
export function useMachine(options: MachineOptions): Machine {
  const machine = new Machine(options);
  beforeAll(() => machine.boot(), 30 * MINUTE);
  afterAll(() => machine.powerOff(), MINUTE);
  return machine;
}

export class Machine {
  private running?: Computer;
  private socket?: Receiver;
  cloudInit: CloudInitResult = { errors: ['cloud-init has not run'], warnings: {} };
  verdicts: ReadonlyMap<string, Verdict> = new Map();
  strays: readonly string[] = [];
  private egressMtu = DEFAULT_EGRESS_MTU;

  constructor(readonly options: MachineOptions) {}

  get vm(): Computer {
    if (this.running) return this.running;
    throw new Error('the machine is not up: its beforeAll failed');
  }

  async boot(): Promise<void> {
    const { release, baked, prebuilt, engine, secondary, emulated = false } = this.options;
    const progress = new Progress(`debian${release} ${baked ? 'baked' : 'base'} ${engine}`);
    const stack = await synthesize({
      ...(engine === DEFAULT_ENGINE ? {} : settingsOf(engine)),
      aws_ipsec_vm_ip: VM_LAB.sink.address,
      aws_ipsec_vm_port: VM_LAB.sink.port,
    });
    const options = { release, baked, prebuilt, stack, secondary, progress };
    const vm = await (emulated ? bootVm(options) : bootContainer({ ...options, engine }));
    this.running = vm;
    if (secondary === 'late') await this.attachSecondaryWhenAwaited(); // and with it the sink
    const receiver = await Receiver.start(VM_LAB.sink, '0.0.0.0', VM_LAB.sink.port); // its address may come later
    this.socket = receiver;
    const first = firstDatagram(vm, receiver);
    first.catch(() => undefined); // what cloud-init says comes first
    this.cloudInit = await vm.waitForCloudInit();
    progress.say(`user data has run to its end, ${((Date.now() - vm.bootedAt) / 1000).toFixed(1)} s after power-on`);
    if (this.cloudInit.errors.length > 0) throw new Error(`cloud-init failed\n${await vm.lastWords()}`);
    progress.say(`first datagram delivered ${(await first).toFixed(1)} s after power-on`);
    await this.play();
  }

  /** All cases again, through the machine as it is now. */
  async play(): Promise<void> {
    if (!this.socket) throw new Error('the machine is not up: its beforeAll failed');
    const { engine } = await this.status();
    const carries = ENGINES.find((each) => statusOf(each).engine === engine) ?? 'standby';
    const longest = longestDatagram(this.options.engine);
    const { verdicts, strays } = await play(this.socket, carries, longest, this.egressMtu);
    this.verdicts = new Map(verdicts.map((verdict) => [nameOf(verdict.case), verdict]));
    this.strays = strays;
  }

  /** As an operator would change it; the engine learns it when it is attached. */
  async setEgressMtu(mtu: number): Promise<void> {
    const begin = isXdp(this.options.engine) ? 'attach' : 'rollback';
    const settings = '/etc/mirror-gateway/gateway.env';
    await this.vm.exec(
      `sed -i 's/^EGRESS_MTU=.*/EGRESS_MTU=${mtu}/' ${settings} && deploy_xdp.sh network-up && deploy_xdp.sh ${begin}`,
    );
    this.egressMtu = mtu;
  }

  /** Work under a steady stream that an emulated machine could keep up with; what was wrong with it afterwards. */
  async streamThrough(work: () => Promise<void>): Promise<string[]> {
    await Stream.build();
    await this.socket?.stop(); // the stream's receiver has its port meanwhile
    const stream = await Stream.start({ pps: 100, bytes: [1428, 2852], flows: 200 }, this.vm.progress, VM_LAB);
    try {
      await work();
      const { sent, report, lost } = await stream.finish();
      const { received, duplicates, corrupt, frames_with_df } = report;
      this.vm.progress.say(`${sent.sent} datagrams sent at ${sent.pps}/s, ${received} received`);
      return [
        ...lost.map(([from, to]) => `lost: ${from} to ${to}`),
        ...Object.entries({ duplicates, corrupt, frames_with_df }).flatMap(([name, count]) =>
          count > 0 ? `${name}: ${count}` : [],
        ),
        ...(sent.sent === 0 ? ['nothing was sent'] : []),
      ];
    } finally {
      stream.abort();
      this.socket = await Receiver.start(VM_LAB.sink, '0.0.0.0', VM_LAB.sink.port);
    }
  }

  async powerOff(): Promise<void> {
    await this.socket?.stop();
    await this.running?.powerOff();
  }

  async state(unit: string): Promise<string> {
    return (await this.vm.tryExec(`systemctl is-active ${unit}`)).stdout.trim();
  }

  async status(): Promise<Status> {
    return JSON.parse(await this.vm.exec('deploy_xdp.sh status --json')) as Status;
  }

  async becomesHealthy(timeoutMs = this.options.emulated ? 5 * MINUTE : 2 * MINUTE): Promise<void> {
    let last = '';
    const probe = async (): Promise<true | undefined> => {
      last = await this.health().catch((error: Error) => error.message);
      return last.includes('"healthy"') || undefined;
    };
    try {
      await waitFor('healthy gateway', probe, {
        timeoutMs,
        progress: this.vm.progress,
        detail: () => last.slice(0, 300),
      });
    } catch (error) {
      throw new Error(`${(error as Error).message}: ${last}\n${await this.journal()}`, { cause: error });
    }
  }

  /** What the units said since the boot: what a failure has to show. */
  async journal(): Promise<string> {
    const units = '-u "mirror-gateway*" -u "xdp*" -u modify_udp -t deploy_xdp.sh';
    const { stdout, stderr } = await this.vm.tryExec(
      `journalctl -b --no-pager -n 120 -o short-precise ${units}`,
      PROBE,
    );
    return stdout + stderr;
  }

  /** Runs what ends a service, and waits for the next process of it. */
  async restarts(service: string, command: string): Promise<void> {
    const mainPid = (): Promise<string> => this.vm.exec(`systemctl show -P MainPID ${service}`);
    const timeoutMs = this.options.emulated ? 5 * MINUTE : MINUTE;
    const pid = await mainPid();
    await this.vm.exec(command, { timeoutSeconds: 300 });
    const restarted = async (): Promise<true | undefined> =>
      ((await this.state(service)) === 'active' && (await mainPid()) !== pid) || undefined;
    await waitFor(`restarted ${service}`, restarted, { timeoutMs, progress: this.vm.progress });
  }

  /** As the load balancer asks, from outside: `200 {...}`. */
  async health(): Promise<string> {
    const ask = ['curl', '-s', '-m', '30', '-o', '-', '-w', ' %{http_code}', HEALTH];
    return must(...inNamespace(VM_LAB.source.namespace, ...ask));
  }

  /** So many ask the health endpoint within a second, so many others connect and say nothing, or not enough. */
  async flood(requests: number, held: number): Promise<Flood> {
    const { hostname, port } = new URL(HEALTH);
    const program = ['-r', 'ts-node/register/transpile-only', join(REPOSITORY, 'lab/namespaces/flood.ts')];
    const args = [hostname, port, String(requests), String(held)];
    return JSON.parse(
      await must(...inNamespace(VM_LAB.source.namespace, process.execPath, ...program, ...args)),
    ) as Flood;
  }

  private async attachSecondaryWhenAwaited(): Promise<void> {
    await this.vm.waitUntilUp();
    const awaited = async (): Promise<true | undefined> =>
      (await this.state('mirror-gateway-network.service')) === 'activating' || undefined;
    const limits = { timeoutMs: 15 * MINUTE, everyMs: 1000, progress: this.vm.progress };
    await waitFor('unit that waits for the second interface', awaited, limits);
    await this.vm.attachSecondary();
  }
}

function nameOf({ bytes, df, what, fate }: Case): string {
  return `${bytes} bytes${df ? ' with DF' : ''}, ${what}: ${fate}`;
}

const XDP = 'xdp-processor.service';
const LEGACY = 'modify_udp.service';

/** What holds after the first boot, and again after every other. */
export function itIsAGateway(machine: Machine): void {
  const { engine } = machine.options;
  const [runs, rests] = isXdp(engine) ? [XDP, LEGACY] : [LEGACY, XDP];
  const watchers = ['xdp-monitoring.service', 'xdp-latency.timer'];
  const active = ['mirror-gateway-network.service', 'mirror-gateway-health.socket', ...watchers, runs];
  const all = cases(longestDatagram(engine));

  it.each(active)('%s is active', async (unit) => {
    expect(await machine.state(unit)).toBe('active');
  });

  it(`${rests} is not`, async () => {
    expect(await machine.state(rests)).toBe('inactive');
  });

  it('cloud-init finds its user data valid', async () => {
    expect(await machine.vm.exec('cloud-init schema --system')).toContain('Valid');
  });

  it('no unit has failed', async () => {
    expect(await machine.vm.exec('systemctl --failed --no-legend --plain')).toBe('');
  });

  it(`the status names engine ${engine} and counts what it did`, async () => {
    const cleared = all.filter(({ fate }) => fate === 'DF cleared').length;
    const status = await machine.status();
    if (status.engine !== statusOf(engine).engine)
      throw new Error(`engine ${status.engine}\n${await machine.journal()}`);
    expect(status).toMatchObject(statusOf(engine));
    // What the direct engine leaves to the kernel, the fallback rule clears.
    const byStandby = engine === 'nfqueue' ? 0 : status.standby_packets;
    expect(status.packets_modified + byStandby).toBeGreaterThanOrEqual(cleared);
  });

  it.each(all.map(nameOf))('%s', (name) => {
    expect(machine.verdicts.get(name)?.problems).toEqual([]);
  });

  it('nothing else leaves the machine', () => {
    expect(machine.strays).toEqual([]);
  });

  it('answers the health check', async () => {
    expect(await machine.health()).toMatch(/^\{.*"state":"healthy".*\}\s+200$/s);
  });

  it('the second interface has no address of its own, and br0 has its MAC', async () => {
    const links = JSON.parse(await machine.vm.exec('ip -j address show')) as {
      ifname: string;
      address: string;
      addr_info: { local: string }[];
    }[];
    const [port, bridge] = ['ens6', 'br0'].map((name) => links.find(({ ifname }) => ifname === name));
    expect(port?.addr_info).toEqual([]);
    expect(bridge?.address).toBe(VM_LAB.secondary.mac);
    expect(bridge?.addr_info.map(({ local }) => local)).toEqual([VM_LAB.secondary.address]);
  });

  it('no route but those to the IPsec VM goes out of the second interface', async () => {
    const routes = JSON.parse(await machine.vm.exec('ip -j route')) as { dst: string; dev: string }[];
    const out = routes.filter(({ dev }) => dev === 'br0' || dev === 'ens6').map(({ dst }) => dst);
    expect(out).toEqual([VM_LAB.sink.address]);
  });
}

const FRAGMENTING = 1400;

/** Leaves the lower egress MTU: the next boot has to begin with it. */
export function itFragments(machine: Machine): void {
  describe(`after its egress MTU was lowered to ${FRAGMENTING}`, () => {
    beforeAll(async () => {
      await machine.setEgressMtu(FRAGMENTING);
      await machine.play();
    }, 15 * MINUTE);

    it.each(cases(longestDatagram(machine.options.engine)).map(nameOf))('%s', (name) => {
      expect(machine.verdicts.get(name)?.problems).toEqual([]);
    });

    it('nothing else leaves the machine', () => {
      expect(machine.strays).toEqual([]);
    });
  });
}

/** After `describe`s that must see the first boot. */
export function itSurvivesAReboot(machine: Machine): void {
  describe('after a reboot', () => {
    const traces = 'stat -c "%n %Y" /var/lib/cloud/instance/sem/* /opt/ebpf-xdp-processor/netfilter/modify_udp_df';
    let before = { bootId: '', traces: '', dhcp: [] as string[] };
    const look = async (): Promise<typeof before> => ({
      bootId: await machine.vm.exec('cat /proc/sys/kernel/random/boot_id'),
      traces: await machine.vm.exec(traces),
      dhcp: machine.vm
        .dhcpLog()
        .split('\n')
        .filter((line) => /DHCP[A-Z]{3,}/.test(line)),
    });

    beforeAll(async () => {
      before = await look();
      await machine.vm.reboot();
      await machine.becomesHealthy(10 * MINUTE);
      await machine.vm.exec('systemctl is-system-running --wait || true', { timeoutSeconds: 300 });
      await machine.play();
    }, 30 * MINUTE);

    it('is another boot, and user data did not run again', async () => {
      const after = await look();
      expect(after.bootId).not.toBe(before.bootId);
      expect(after.traces).toBe(before.traces);
    });

    // A container's has nobody who would.
    if (machine.options.emulated)
      it('the second interface asked no DHCP server', async () => {
        expect((await look()).dhcp).toEqual(before.dhcp);
      });

    itIsAGateway(machine);
  });
}
