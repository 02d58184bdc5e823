// SPDX-License-Identifier: Apache-2.0
// What needs Debian's archive on a gateway that runs: new libraries under its programs.
import { linkOf, XDP_UNIT } from './lifecycle';
import { useMachine } from './machine';

describe('a gateway on Debian 13, emulated', () => {
  const machine = useMachine({
    ...{ release: '13', baked: true, prebuilt: true, emulated: true },
    ...{ engine: 'direct/generic', secondary: 'at boot' },
  });

  it('goes through an upgrade of libbpf', async () => {
    const before = await linkOf(machine);
    await machine.vm.exec('apt-get -qq update && apt-get -qq install --reinstall -y libbpf1', {
      timeoutSeconds: 300,
    });
    await machine.restarts(XDP_UNIT, `systemctl restart ${XDP_UNIT}`);
    expect(await linkOf(machine)).toBe(before);
    await machine.becomesHealthy();
  });
});
