// SPDX-License-Identifier: Apache-2.0
// What seldom happens to a gateway and takes an emulated machine long: programs of somebody else on its interfaces, new
// libraries and new versions of its own programs under it, several who start and stop the legacy program at once.
import { linkOf, XDP_UNIT } from './lifecycle';
import { useMachine } from './machine';

describe('a gateway on Debian 13', () => {
  const machine = useMachine({
    release: '13',
    baked: true,
    prebuilt: true,
    engine: 'direct/generic',
    secondary: 'at boot',
  });

  describe('beside programs of somebody else', () => {
    const foreign = (name: string): string =>
      `ip link set dev ${name} xdpgeneric obj /opt/ebpf-xdp-processor/bpf/udp_df_modifier.bpf.o sec xdp`;

    it('on the primary interface runs the bridge engine, which sends the same, degraded', async () => {
      await machine.vm.exec(`deploy_xdp.sh detach && ${foreign('ens5')} && deploy_xdp.sh attach`);
      expect(await machine.status()).toMatchObject({ engine: 'bridge', interface: 'br0', attached: true });
      await machine.play();
      expect([...machine.verdicts.values()].flatMap(({ problems }) => problems)).toEqual([]);
      expect(machine.strays).toEqual([]);
      expect(await machine.health()).toMatch(/"state":"degraded".*\s+200$/s);
    });

    it('on br0 as well leaves the traffic to netfilter, tries nothing for ever, and is degraded, not broken', async () => {
      await machine.vm.exec(`deploy_xdp.sh detach && ${foreign('br0')}`);
      await machine.vm.tryExec(`systemctl start ${XDP_UNIT}`);
      expect(await machine.state(XDP_UNIT)).toBe('failed');
      expect(await machine.status()).toMatchObject({ engine: 'nfqueue', attached: false });
      expect(await machine.health()).toMatch(/"state":"degraded".*\s+200$/s);
      const { code, stderr } = await machine.vm.tryExec('deploy_xdp.sh attach');
      expect(code).toBe(1);
      expect(stderr).toMatch(/^FAIL no other XDP br0 carries program \d+ of somebody else/m);
      await machine.vm.exec(
        'ip link set dev br0 xdpgeneric off; ip link set dev ens5 xdpgeneric off; deploy_xdp.sh attach',
      );
      await machine.becomesHealthy();
    });
  });

  it('goes through an upgrade of libbpf, and builds its loader anew when the old one no longer starts', async () => {
    const before = await linkOf(machine);
    await machine.vm.exec('apt-get -qq update && apt-get -qq install --reinstall -y libbpf1', {
      timeoutSeconds: 300,
    });
    await machine.restarts(XDP_UNIT, `systemctl restart ${XDP_UNIT}`);
    expect(await linkOf(machine)).toBe(before);
    const loader = '/opt/ebpf-xdp-processor/bpf/udp_df_modifier_loader';
    await machine.vm.exec(
      `printf "#!/bin/sh\\nexit 127\\n" >${loader}.new && chmod 755 ${loader}.new && mv ${loader}.new ${loader}`,
    );
    await machine.vm.tryExec(`systemctl restart ${XDP_UNIT}`, { timeoutSeconds: 300 });
    await machine.becomesHealthy(); // it compiles, emulated
    expect(await linkOf(machine)).toBe(before);
    expect(await machine.state(XDP_UNIT)).toBe('active');
  });

  it('takes an upgrade in place, with one counter more: the link stays, the counters move along', async () => {
    const sources = '/opt/ebpf-xdp-processor/bpf';
    await machine.play();
    const { packets_modified } = await machine.status();
    const before = await linkOf(machine);
    await machine.vm.exec(
      [
        `cd ${sources}`,
        "sed -i 's/__u64 fragments_seen;/&\\n__u64 packets_of_tomorrow;/' udp_df_modifier.h",
        'sed -i \'s/"fragments_seen",/&\\n"packets_of_tomorrow",/\' udp_df_modifier_loader.c',
        'deploy_xdp.sh install',
      ].join('\n'),
      { timeoutSeconds: 600 },
    );
    expect(await linkOf(machine)).toBe(before);
    expect(await machine.vm.exec('deploy_xdp.sh stats')).toContain('xdp.packets_of_tomorrow');
    expect((await machine.status()).packets_modified).toBe(packets_modified);
    expect(packets_modified).toBeGreaterThan(0);
    await machine.becomesHealthy();
  });

  it('decides once about the legacy program, whoever wants it started or stopped at the same time', async () => {
    const crossing = [
      ...['for i in 1 2 3; do MIRROR_GATEWAY_UNIT=1 deploy_xdp.sh network-up; done >/dev/null &'],
      ...['for percent in 50 100 50 100; do deploy_xdp.sh config set traffic_percent=$percent; done', 'wait'],
    ];
    await machine.vm.exec(crossing.join('\n'), { timeoutSeconds: 600 });
    expect(await machine.state('modify_udp.service')).toBe('inactive');
    await machine.becomesHealthy();
  });
});
