// SPDX-License-Identifier: Apache-2.0
// Gateway, IPsec VM and far end in one kernel VM with real ESP: Debian's kernel, a namespace each, one subnet between them.
//
//   source --- gateway (the machine itself) ---+
//                                              | subnet, MTU 9001
//   far end (also the subnet's router) --------+-------- IPsec VM
//
// The tunnel is made by whoever asks, with the commands of docs/ipsec-vm.md; all of it leaves by the IPsec VM's one interface.
import { join } from 'node:path';
import { KernelVm } from './kernel-vm';
import { must, type Progress, REPOSITORY } from '../support/host';
import { ensureKernel, withIpsec } from './kernels';
import type { Packet } from '../packets/packet';
import { vxlan } from '../packets/packet';
import type { ReceiverReport } from '../packets/traffic-stream';

/** As docs/ipsec-vm.md has them. */
export const IPSEC = {
  vm: '10.88.0.95',
  port: 8081,
  router: '10.88.0.1',
  peer: '203.0.113.50',
  receiver: '192.168.50.10',
} as const;

export const IPSEC_PLACES = ['vm', 'far'] as const;
type Place = (typeof IPSEC_PLACES)[number];

/** One IPv4 packet that left the IPsec VM, as tcpdump reads its header. */
export interface Sent {
  readonly protocol: string;
  readonly length: number;
  readonly df: boolean;
  readonly fragment: boolean;
}

export interface Streamed {
  /** What the program behind the tunnel got: each datagram compared byte for byte. */
  readonly report: ReceiverReport;
  readonly wire: readonly Sent[];
}

const TOOLS = ['ethtool', 'nft', 'tcpdump'];
const FILES = ['bpf/udp_df_modifier_loader', 'bpf/udp_df_direct.bpf.o', 'lab/stream'];
const GATEWAY = '10.77.0.2';
const MACS = { gateway: '02:00:0a:58:00:14', vm: '02:00:0a:58:00:5f', router: '02:00:0a:58:00:01' } as const;

const NETWORK = `
mkdir -p /etc /root /run/netns
echo 'root:x:0:0::/:/bin/sh' >/etc/passwd
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
for name in source subnet vm far; do
  ip netns add "$name"
  ip -n "$name" link set lo up
  nsenter --net="/run/netns/$name" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
done
ip link add ens5 mtu 9001 address 02:00:0a:4d:00:02 type veth peer name s0 netns source mtu 9001
ip link add ens6 mtu 9001 address ${MACS.gateway} type veth peer name gateway netns subnet mtu 9001
ip -n vm link add ens5 mtu 9001 address ${MACS.vm} type veth peer name vm netns subnet mtu 9001
ip -n far link add eth0 mtu 9001 address ${MACS.router} type veth peer name far netns subnet mtu 9001
ip -n subnet link add lan type bridge
for port in gateway vm far; do ip -n subnet link set "$port" master lan up; done
ip -n subnet link set lan mtu 9001 up
nsenter --net=/run/netns/subnet ethtool -K gateway gro on

ip -n source address add 10.77.0.1/24 dev s0
ip -n source link set s0 up
ip -n source neighbour add ${GATEWAY} lladdr 02:00:0a:4d:00:02 dev s0
nsenter --net=/run/netns/source ethtool -K s0 tx off >/dev/null

sysctl -qw net.ipv4.ip_forward=1 net.ipv4.ip_no_pmtu_disc=1
ip address add ${GATEWAY}/24 dev ens5
ip address add 10.88.0.20/24 dev ens6
ip link set ens5 up
ip link set ens6 up
ip neighbour add ${IPSEC.vm} lladdr ${MACS.vm} dev ens6

ip -n vm address add ${IPSEC.vm}/24 dev ens5
ip -n vm link set ens5 up
ip -n vm route add default via ${IPSEC.router}
ip -n vm neighbour add ${IPSEC.router} lladdr ${MACS.router} dev ens5

ip -n far address add ${IPSEC.router}/24 dev eth0
ip -n far address add ${IPSEC.peer}/32 dev eth0
ip -n far address add ${IPSEC.receiver}/32 dev lo
ip -n far link set eth0 up

udp_df_modifier_loader attach --engine direct --mode generic --interface ens5 --secondary ens6 --bridge ens6 \\
  --ipsec-vm-ip ${IPSEC.vm} --ipsec-vm-port ${IPSEC.port} --handover-mac 02:00:00:00:00:01 2>/dev/null
`;

/** Runs `caused` while everything that leaves the IPsec VM is captured; prints one line a packet. */
const captured = (caused: string): string => `
frames_out() { nsenter --net=/run/netns/vm awk '$1 == "ens5:" { print $11 }' /proc/net/dev; }
on_wire() { tcpdump -Z root -nn -r /tmp/wire 2>/dev/null | wc -l; }
nsenter --net=/run/netns/vm tcpdump -Z root --immediate-mode -U -i ens5 -Q out -s 64 -w /tmp/wire 2>/tmp/tcpdump &
capture=$!
until grep -q '^tcpdump: listening' /tmp/tcpdump; do usleep 20000; done
before=$(frames_out)
${caused}
usleep 100000
after=$(frames_out)
for attempt in $(seq 50); do if [ "$(on_wire)" -ge $((after - before)) ]; then break; fi; usleep 100000; done
kill -INT $capture
wait $capture || true
grep -q '^0 packets dropped by kernel' /tmp/tcpdump
tcpdump -Z root -nn -v -r /tmp/wire 2>/dev/null
`;

export class IpsecMachine {
  private constructor(private readonly machine: KernelVm) {}

  /** Boots the kernel of Debian 13 and makes the network, without a tunnel. */
  static async boot(progress: Progress): Promise<IpsecMachine> {
    const tools = await Promise.all(TOOLS.map(async (name) => (await must('which', [name])).trim()));
    const files = [...FILES.map((file) => join(REPOSITORY, file)), ...tools];
    const machine = await KernelVm.boot(withIpsec(await ensureKernel('trixie', progress)), files, progress);
    try {
      await machine.exec(NETWORK);
    } catch (error) {
      await machine.powerOff();
      throw error;
    }
    return new IpsecMachine(machine);
  }

  powerOff(): Promise<void> {
    return this.machine.powerOff();
  }

  /** A script on one of the two machines that the document is about. */
  at(place: Place, commands: string): Promise<string> {
    const script = `nsenter --net=/run/netns/${place} bash -eu <<'END_OF_COMMANDS'\n${commands}\nEND_OF_COMMANDS`;
    return this.machine.exec(script);
  }

  /** Mirrored datagrams with DF through the gateway, to a program behind the tunnel. */
  async stream(sizes: readonly number[], count: number): Promise<Streamed> {
    const receive = `stream receive --at ${IPSEC.receiver}:${IPSEC.port} --interface eth0 --count ${count} --seconds 15`;
    const output = await this.machine.exec(`
      nsenter --net=/run/netns/far ${receive} >/tmp/received &
      receiver=$!
      until grep -q listening /tmp/received; do usleep 20000; done
      ${captured(`
      nsenter --net=/run/netns/source stream send --bytes ${sizes.join()} --flows 10 --count ${count} --pps 200 >/tmp/sent
      wait $receiver`)}
      tail -n 1 /tmp/received`);
    return {
      report: JSON.parse(output.trimEnd().split('\n').at(-1) ?? '') as ReceiverReport,
      wire: sentPackets(output),
    };
  }

  /** What leaves the IPsec VM while a script runs in the machine. */
  async capture(script: string): Promise<readonly Sent[]> {
    return sentPackets(await this.machine.exec(captured(script)));
  }

  /** The kernel's counters at the far end, as /proc/net/snmp names them: `Udp: NoPorts`. */
  async counters(): Promise<Readonly<Record<string, number>>> {
    const rows = (await this.at('far', 'cat /proc/net/snmp')).split('\n').map((line) => line.split(' '));
    return Object.fromEntries(
      rows.flatMap(([protocol, ...names], index) => {
        const [same, ...values] = rows[index + 1] ?? [];
        return same === protocol ? names.map((name, at) => [`${protocol} ${name}`, Number(values[at])]) : [];
      }),
    );
  }
}

/** In the machine: one mirrored datagram through the gateway. */
export function scriptToMirror(packet: Packet): string {
  return `
    echo ${vxlan(packet.build()).toString('base64')} | base64 -d >/tmp/datagram
    nsenter --net=/run/netns/source bash -euc 'dd 2>/dev/null bs=16384 if=/tmp/datagram >/dev/udp/${GATEWAY}/4789'
`;
}

/** In the machine: one datagram of this IP length from the gateway itself, without DF as everything from there. */
export function scriptToSend(length: number): string {
  return `dd 2>/dev/null bs=${length - 28} count=1 if=/dev/zero >/dev/udp/${IPSEC.vm}/${IPSEC.port}\n`;
}

/** In the machine: what sockets send in between carries DF. */
export function scriptWithDf(script: string): string {
  return `sysctl -qw net.ipv4.ip_no_pmtu_disc=0\n${script}\nsysctl -qw net.ipv4.ip_no_pmtu_disc=1\n`;
}

/** `… IP (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto ESP (50), length 1500)` */
function sentPackets(text: string): Sent[] {
  const headers = text.matchAll(/ IP \(.*offset (\d+), flags \[(.*?)\], proto (\S+) \(\d+\), length (\d+)/g);
  return [...headers].map(([, offset, flags = '', protocol = '', length]) => ({
    protocol,
    length: Number(length),
    df: flags.includes('DF'),
    fragment: flags.includes('+') || offset !== '0',
  }));
}
