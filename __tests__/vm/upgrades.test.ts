// SPDX-License-Identifier: Apache-2.0
// What needs Debian's archive on a gateway that runs: new libraries under its programs.
import { linkOf, XDP_UNIT } from './lifecycle';
import { useMachine } from './machine';

describe('a gateway on Debian 13, emulated', () => {
  const machine = useMachine({
    ...{ release: '13', baked: true, prebuilt: true, emulated: true },
    ...{ engine: 'direct/generic', secondary: 'at boot' },
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
});
