// SPDX-License-Identifier: Apache-2.0
// A gateway without its scripts: three namespaces of one's own, the kernel's settings, netfilter rules and the loader. It is
// for questions about engines, which it changes under the same network; namespaces.ts is the lab of the whole gateway.
import { randomBytes, randomInt } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Path } from '../packets/exchange';
import { inNamespace, mountBpffs, must, REPOSITORY, run } from '../support/host';
import { DRIVER_MODE_MTU } from '../../constructs/config/limits';
import { settings } from '../../userdata/settings.json';

export const MINIMAL_ENGINES = ['standby', 'bridge', 'driver', 'generic'] as const;
/** `driver` and `generic` are modes of the direct engine. */
export type MinimalEngine = (typeof MINIMAL_ENGINES)[number];

const LOADER = join(REPOSITORY, 'bpf/udp_df_modifier_loader');
export const BPFFS = '/sys/fs/bpf';
/** The longest that a driver with XDP takes (field notes: ENA), and what AWS gives an ENI. */
export const MTU = { driver: DRIVER_MODE_MTU, other: settings.egress_mtu.max } as const;

export const ADDRESSES = {
  source: { mac: '02:00:0a:4d:00:01', address: '10.77.0.1' },
  primary: { mac: '02:00:0a:4d:00:02', address: '10.77.0.2' },
  secondary: { mac: '02:00:0a:58:00:14', address: '10.88.0.20' },
  sink: { mac: '02:00:0a:58:00:5f', address: '10.88.0.95', port: 8081 },
} as const;

export interface MinimalGatewayOptions {
  readonly egressMtu?: number;
  readonly minPacketSize?: number;
  readonly maxPacketSize?: number;
  readonly trafficPercent?: number;
  /** Of the direct engine, in place of the one that was built. */
  readonly object?: string;
}

/** bpftool 7.5 shows a link and exits with 255 all the same. */
function asOutput(error: Error): string {
  return error.message.slice(error.message.indexOf('{'));
}

export class MinimalGateway {
  readonly path: Path;
  private readonly source: string;
  private readonly gateway: string;
  private readonly sink: string;
  private readonly pins: string;
  private attached: string | undefined;

  constructor(private readonly prefix: string) {
    [this.source, this.gateway, this.sink] = ['s', 'g', 'k'].map((end) => `${prefix}${end}`) as [
      string,
      string,
      string,
    ];
    this.pins = join(BPFFS, prefix);
    this.path = {
      source: { namespace: this.source, interface: 's0' },
      sink: { namespace: this.sink, interface: 'k0' },
      outer: {
        from: ADDRESSES.source.address,
        to: ADDRESSES.primary.address,
        macs: { source: ADDRESSES.source.mac, destination: ADDRESSES.primary.mac },
      },
    };
  }

  /** The network, with the fallback rule in charge. */
  async up(): Promise<void> {
    await mountBpffs();
    const { source, primary, secondary, sink } = ADDRESSES;
    for (const namespace of [this.source, this.gateway, this.sink]) {
      await must('ip', ['netns', 'add', namespace]);
      await this.in(
        namespace,
        `
        sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        ip link set lo up`,
      );
    }
    await this.in(
      this.source,
      `
      ip link add s0 address ${source.mac} mtu ${MTU.other} type veth peer ens5 netns ${this.gateway} address ${primary.mac} mtu ${MTU.other}
      ip address add ${source.address}/24 dev s0
      ip link set s0 up
      ip neighbour add ${primary.address} lladdr ${primary.mac} dev s0`,
    );
    await this.in(
      this.sink,
      `
      ip link add k0 address ${sink.mac} mtu ${MTU.other} type veth peer ens6 netns ${this.gateway} address ${secondary.mac} mtu ${MTU.other}
      ip address add ${sink.address}/24 dev k0
      ip link set k0 up
      ethtool -K k0 gro on
      ip neighbour add ${secondary.address} lladdr ${secondary.mac} dev k0`,
    );
    await this.inGateway(`
      ip address add ${primary.address}/24 dev ens5
      ip link set ens5 up
      ip neighbour add ${source.address} lladdr ${source.mac} dev ens5
      ip route add default via ${source.address}
      ip link add br0 address ${secondary.mac} type bridge stp_state 0 mcast_snooping 0
      ip link add vxlan1 type vxlan id 1 dstport 4789 nolearning
      nft -f ${REPOSITORY}/netfilter/silence.nft
      sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.br0.send_redirects=0
      sysctl -qw net.ipv4.conf.br0.arp_ignore=1
      if [ -e /proc/sys/net/bridge ]; then sysctl -qw net.bridge.bridge-nf-call-iptables=0; fi
      ip link set vxlan1 master br0 up
      ip link set ens6 master br0 up
      bridge link set dev vxlan1 learning off flood off mcast_flood off bcast_flood off
      bridge link set dev ens6 learning off
      ip link set br0 up
      ip address add ${secondary.address}/24 dev br0 noprefixroute
      ip route add ${sink.address}/32 dev br0`);
    await this.learnSink();
    await this.configure();
  }

  /** What the network needs of the settings; engines take theirs when they are attached. */
  async configure({
    egressMtu = 1400,
    minPacketSize = 1400,
    maxPacketSize = 9000,
  }: MinimalGatewayOptions = {}): Promise<void> {
    const { secondary, sink } = ADDRESSES;
    const values = Object.entries({
      ...{ eni: 'ens6', br0_mac: secondary.mac, target_port: 31765 },
      ...{ min_packet_size: minPacketSize, max_packet_size: maxPacketSize },
      ...{ ipsec_vm_ip: sink.address, ipsec_vm_port: sink.port, id_start: randomInt(32768) },
    }).map(([name, value]) => `-D ${name}=${value}`);
    await this.inGateway(`
      ip link set br0 mtu ${egressMtu}
      nft ${values.join(' ')} -f ${REPOSITORY}/netfilter/mirror-gateway.nft`);
  }

  learnSink(): Promise<string> {
    const { sink } = ADDRESSES;
    return this.inGateway(`ip neighbour replace ${sink.address} lladdr ${sink.mac} dev br0 nud permanent`);
  }

  forgetSink(): Promise<string> {
    return this.inGateway(`ip neighbour delete ${ADDRESSES.sink.address} dev br0`);
  }

  /** Another engine instead of the one before. */
  async use(engine: MinimalEngine, options: MinimalGatewayOptions = {}): Promise<void> {
    await this.detach();
    await this.configure(options);
    const { minPacketSize = 1400, maxPacketSize = 9000, trafficPercent = 100, object } = options;
    const rule = `--min-packet-size ${minPacketSize} --max-packet-size ${maxPacketSize} --traffic-percent ${trafficPercent}`;
    const direct = `${this.direct()} ${rule}${object === undefined ? '' : ` --object ${object}`}`;
    await this.setMtu(engine === 'driver' ? MTU.driver : MTU.other);
    if (engine === 'bridge') await this.attach(`--interface br0 ${rule}`);
    if (engine === 'driver') await this.attach(`${direct} --mode driver`);
    if (engine === 'generic') {
      const mac = `02${randomBytes(5).toString('hex').replaceAll(/../g, ':$&')}`;
      const { sink } = ADDRESSES;
      const values = `-D primary=ens5 -D handover_mac=${mac} -D ipsec_vm_ip=${sink.address} -D ipsec_vm_port=${sink.port}`;
      await this.inGateway(`nft ${values} -f ${REPOSITORY}/netfilter/handover.nft`);
      await this.attach(`${direct} --mode generic --handover-mac ${mac}`);
    }
  }

  /** What the direct engine in generic mode knows its own frames by. */
  async secret(): Promise<string> {
    const rules = await this.inGateway('nft list table ip mirror_gateway_handover');
    const mac = /ether saddr ([0-9a-f:]{17})/.exec(rules)?.[1];
    if (mac === undefined) throw new Error(`no hand-over address in ${rules}`);
    return mac;
  }

  /** Takes one entry out of a device map of the program that runs, as if the copy for it could not be made. */
  async losesCopy(map: string): Promise<void> {
    for (const { id, name } of await this.maps())
      if (name === map) await this.bpftool(`map delete id ${id} key 1 0 0 0`);
  }

  /** Of the program that runs; none where none does. */
  async maps(): Promise<readonly { readonly id: number; readonly name: string; readonly bytes_memlock: number }[]> {
    const link = await this.bpftool(`link show pinned ${this.pins}/link`).catch(asOutput);
    const { prog_id } = JSON.parse(link || '{}') as { prog_id?: number };
    if (prog_id === undefined) return [];
    const { map_ids } = JSON.parse(await this.bpftool(`prog show id ${prog_id}`)) as { map_ids: number[] };
    const all: string[] = [];
    for (const id of map_ids) all.push(await this.bpftool(`map show id ${id}`));
    return all.map((shown) => JSON.parse(shown) as { id: number; name: string; bytes_memlock: number });
  }

  /** In the gateway's namespace, the loader that stays: with what the engine in charge was attached by; none without one. */
  service(): readonly string[] | undefined {
    return this.attached === undefined
      ? undefined
      : [LOADER, 'run', ...this.attached.split(' '), '--pin-dir', this.pins];
  }

  async detach(): Promise<void> {
    this.attached = undefined;
    await this.loader('detach');
    await this.inGateway(`nft 'table ip mirror_gateway_handover; delete table ip mirror_gateway_handover'`);
  }

  async status(): Promise<Record<string, number>> {
    return JSON.parse(await this.loader('status')) as Record<string, number>;
  }

  /** A counter of netfilter. */
  async counter(family: string, table: string, name: string): Promise<number> {
    const shown = await this.inGateway(`nft -j list counter ${family} ${table} ${name}`);
    return (
      (JSON.parse(shown) as { nftables: { counter?: { packets: number } }[] }).nftables[1]?.counter?.packets ?? NaN
    );
  }

  async down(): Promise<void> {
    if (readdirSync(BPFFS).includes(this.prefix)) await this.loader('detach').catch(() => undefined);
    for (const namespace of [this.source, this.gateway, this.sink]) await run('ip', ['netns', 'delete', namespace]);
  }

  inGateway(script: string): Promise<string> {
    return this.in(this.gateway, script);
  }

  private direct(): string {
    const { sink } = ADDRESSES;
    const interfaces = '--interface ens5 --secondary ens6 --bridge br0';
    return `--engine direct ${interfaces} --ipsec-vm-ip ${sink.address} --ipsec-vm-port ${sink.port}`;
  }

  async setMtu(mtu: number): Promise<void> {
    await this.in(this.source, `ip link set s0 mtu ${mtu}`);
    await this.in(this.sink, `ip link set k0 mtu ${mtu}`);
    await this.inGateway(`ip link set ens5 mtu ${mtu}; ip link set ens6 mtu ${mtu}`);
  }

  private async attach(words: string): Promise<void> {
    await this.loader(`attach ${words}`);
    this.attached = words;
  }

  private bpftool(words: string): Promise<string> {
    return this.inGateway(`bpftool -j ${words}`);
  }

  private loader(words: string): Promise<string> {
    return this.inGateway(`${LOADER} ${words} --pin-dir ${this.pins}`);
  }

  private in(namespace: string, script: string): Promise<string> {
    return must(...inNamespace(namespace, 'sh', '-ec', script));
  }
}
