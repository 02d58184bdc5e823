// SPDX-License-Identifier: Apache-2.0
// Driver mode in a container of Debian 13: whole, then in fragments, and through a reboot.
import { DRIVER_MODE_MTU } from '../../constructs/config/limits';
import { ENI_MTU } from '../../lab/namespaces/engines';
import { itFragments, itIsAGateway, itSurvivesAReboot, useMachine } from './machine';

describe('Debian 13, baked, xdp_mode=driver', () => {
  const machine = useMachine({
    release: '13',
    baked: true,
    engine: 'direct/driver',
    secondary: 'at boot',
  });

  it('user data runs without an error or a warning', () => {
    expect(machine.cloudInit).toEqual({ errors: [], warnings: {} });
  });

  itIsAGateway(machine);

  it('gives the interfaces back as they were, and takes them again', async () => {
    const mtus = async (): Promise<number[]> => {
      const links = JSON.parse(await machine.vm.exec('ip -j link')) as { ifname: string; mtu: number }[];
      return links.filter(({ ifname }) => /^ens[56]$/.test(ifname)).map(({ mtu }) => mtu);
    };
    expect(await mtus()).toEqual([DRIVER_MODE_MTU, DRIVER_MODE_MTU]);
    await machine.vm.exec('deploy_xdp.sh rollback');
    expect(await machine.status()).toMatchObject({ engine: 'nfqueue', attached: false });
    expect(await mtus()).toEqual([ENI_MTU, ENI_MTU]);
    await machine.vm.exec('deploy_xdp.sh attach');
    expect(await machine.status()).toMatchObject({ engine: 'direct', xdp_mode: 'driver' });
  });

  itFragments(machine);
  itSurvivesAReboot(machine);
});
