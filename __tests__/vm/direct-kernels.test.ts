// SPDX-License-Identifier: Apache-2.0
// The direct engine on Debian's kernels: that the verifier of each takes it, and that datagrams come out whole, in driver
// mode from the kernel on that makes copies (5.13), in generic mode everywhere. Three namespaces in a machine of seconds. The
// egress MTU is 1400 where nothing else is said, so that the kernel's helpers have something to do.
import { KernelVm } from '../../lab/vm/kernel-vm';
import { must, Progress } from '../../lab/support/host';
import { ensureKernel, TESTED_SUITES } from '../../lab/vm/kernels';
import { Packet, vxlan } from '../../lab/packets/packet';
import { BPF_FOLDER, buildProgram, LOADER } from '../bpf/program';

const OBJECT = `${BPF_FOLDER}/udp_df_direct.bpf.o`;
const MINUTE = 60_000;
const NET = '/run/netns';

type Counters = Readonly<Record<string, number>>;

beforeAll(() => buildProgram());

describe.each(TESTED_SUITES)('direct, on the kernel of Debian %s', (suite) => {
  let machine: KernelVm | undefined;
  let copies = true;
  let laysOut = true;

  const guest = (): KernelVm => {
    if (machine) return machine;
    throw new Error('the machine is not up: its beforeAll failed');
  };
  const inside = (namespace: string, script: string): Promise<string> =>
    guest().exec(`nsenter --net=${NET}/${namespace} bash -euc '${script}'`);
  const status = async (): Promise<Counters> =>
    JSON.parse(await guest().exec('udp_df_modifier_loader status')) as Counters;
  const attach = (mode: string, egressMtu = 1400): Promise<string> =>
    guest().exec(
      `ip link set br0 mtu ${egressMtu} && ` +
        `udp_df_modifier_loader attach --engine direct --mode ${mode} --interface ens5 --secondary ens6 --bridge br0 ` +
        `--egress-mtu ${egressMtu} --ipsec-vm-ip 10.88.0.95 --ipsec-vm-port 8081 --handover-mac 02:00:00:00:00:01`,
    );

  beforeAll(async () => {
    const progress = new Progress(suite);
    const ethtool = (await must('which', ['ethtool'])).trim();
    machine = await KernelVm.boot(await ensureKernel(suite, progress), [LOADER, OBJECT, ethtool], progress);
    const [major = 0, minor = 0] = (await machine.exec('uname -r')).split('.').map(Number);
    const isSince = (least: number): boolean => major > 5 || (major === 5 && minor >= least);
    copies = isSince(13);
    laysOut = isSince(18);
    // Some of these kernels have bridges as a module: in place of one, a wire of its own to the sink.
    await machine.exec(`
      echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
      echo 1 >/proc/sys/net/ipv4/ip_forward
      mkdir -p ${NET}
      ip netns add source
      ip netns add sink
      ip link add ens5 mtu 3498 address 02:00:0a:4d:00:02 type veth peer name s0 netns source mtu 3498
      ip link add ens6 mtu 3498 address 02:00:0a:58:00:14 type veth peer name k0 netns sink mtu 3498 address 02:00:0a:58:00:5f
      ip link add br0 mtu 9001 address 02:00:0a:58:00:14 type veth peer name k1 netns sink mtu 9001 address 02:00:0a:58:00:5f
      ip address add 10.77.0.2/24 dev ens5
      ip address add 10.88.0.20/24 dev br0
      ip link set ens5 up
      ip link set ens6 up
      ip link set br0 up
      ip neighbour add 10.88.0.95 lladdr 02:00:0a:58:00:5f dev br0
    `);
    await inside(
      'source',
      `
      ip address add 10.77.0.1/24 dev s0
      ip link set s0 up
      ethtool -K s0 tx off
      ip neighbour add 10.77.0.2 lladdr 02:00:0a:4d:00:02 dev s0`,
    );
    await inside(
      'sink',
      `
      ip address add 10.88.0.95/24 dev k0
      ip link set k0 up
      ip link set k1 up
      ip route add default dev k0
      ethtool -K k0 gro on
      echo 0 >/proc/sys/net/ipv4/conf/k0/rp_filter
      echo 0 >/proc/sys/net/ipv4/conf/k1/rp_filter`,
    );
  }, 15 * MINUTE);
  afterAll(() => machine?.powerOff(), MINUTE);

  /** As a mirror sends it, from a socket. Returns by how much the sink's counters grew. */
  async function send(packet: Packet): Promise<Counters> {
    const before = await atSink();
    const bytes = vxlan(packet.build()).toString('hex').replaceAll(/../g, '\\x$&');
    // One write, one datagram: bash would send it in pieces.
    await guest().exec(
      `cat >/tmp/send <<'END'\nprintf '${bytes}' >/tmp/datagram\ndd 2>/dev/null bs=8192 if=/tmp/datagram >/dev/udp/10.77.0.2/4789\nEND`,
    );
    await guest().exec(`nsenter --net=${NET}/source bash -eu /tmp/send; sleep 0.1`);
    const after = await atSink();
    return Object.fromEntries(Object.entries(after).map(([name, value]) => [name, value - (before[name] ?? 0)]));
  }

  /** Nobody listens: the kernel counts a datagram that is whole and right as one without a port. */
  async function atSink(): Promise<Counters> {
    const lines = (await inside('sink', 'cat /proc/net/snmp')).split('\n').filter((line) => /^(Ip|Udp): /.test(line));
    const rows = lines.map((line) => line.split(' '));
    const value = (protocol: string, name: string): number => {
      const [names = [], values = []] = rows.filter(([first]) => first === `${protocol}:`);
      return Number(values[names.indexOf(name)]);
    };
    return {
      whole: value('Udp', 'NoPorts'),
      fragments: value('Ip', 'ReasmReqds'),
      reassembled: value('Ip', 'ReasmOKs'),
      wrong: value('Udp', 'InErrors') + value('Ip', 'InHdrErrors') + value('Ip', 'ReasmFails'),
    };
  }

  const datagram = (length: number): Packet =>
    Packet.udp({ from: '198.51.100.7:40000', to: '203.0.113.9:31765' }).totalLength(length).df().id(length);

  test('is taken by the verifier, all of it', async () => {
    await attach('generic');
    await guest().exec('udp_df_modifier_loader detach');
  });

  test.each([28, 1400])('generic: %i bytes go out in one piece', async (length) => {
    await attach('generic');
    expect(await send(datagram(length))).toEqual({ whole: 1, fragments: 0, reassembled: 0, wrong: 0 });
    expect(await status()).toMatchObject({ sent_whole: 1, handed_over: 0 });
    await guest().exec('udp_df_modifier_loader detach');
  });

  test.each(['generic', 'driver'])('%s: 3434 bytes go out in one piece where the egress MTU is 9001', async (mode) => {
    if (mode === 'driver' && !copies) return; // refused, as below
    await attach(mode, 9001);
    expect(await send(datagram(3434))).toEqual({ whole: 1, fragments: 0, reassembled: 0, wrong: 0 });
    expect(await status()).toMatchObject({ sent_whole: 1, sent_cut: 0, handed_over: 0, failed: 0 });
    await guest().exec('udp_df_modifier_loader detach');
  });

  test('generic: 2852 bytes go out in three fragments, cut by the kernel where it has no helpers for us', async () => {
    await attach('generic');
    expect(await send(datagram(2852))).toEqual({ whole: 1, fragments: 3, reassembled: 1, wrong: 0 });
    expect(await status()).toMatchObject(
      laysOut ? { sent_cut: 1, fragments_sent: 3, handed_over: 0 } : { sent_cut: 0, handed_over: 1 },
    );
    await guest().exec('udp_df_modifier_loader detach');
  });

  test.each([
    [28, 1],
    [1400, 1],
    [1401, 2],
    [2852, 3],
    [3434, 3],
  ])('driver: %i bytes go out in %i pieces, or the mode is refused', async (length, pieces) => {
    if (!copies) {
      await expect(attach('driver')).rejects.toThrow('Linux 5.13');
      return;
    }
    await attach('driver');
    const cut = pieces > 1 ? 1 : 0;
    expect(await send(datagram(length))).toEqual({ whole: 1, fragments: cut * pieces, reassembled: cut, wrong: 0 });
    expect(await status()).toMatchObject({
      sent_whole: 1 - cut,
      sent_cut: cut,
      fragments_sent: cut * pieces,
      failed: 0,
    });
    await guest().exec('udp_df_modifier_loader detach');
  });

  test('driver: options travel as the kernel would let them', async () => {
    if (!copies) return;
    await attach('driver');
    const options = Buffer.from([0x1e, 4, 1, 2, 0x88, 4, 1, 2]);
    expect(await send(datagram(2852).options(options))).toMatchObject({
      whole: 1,
      fragments: 3,
      reassembled: 1,
      wrong: 0,
    });
    await guest().exec('udp_df_modifier_loader detach');
  });
});
