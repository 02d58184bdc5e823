// SPDX-License-Identifier: Apache-2.0
// Debian 13 with the packages baked in, as a fleet would run it: by default, in driver mode, and without XDP; all forward
// whole, then with a lower egress MTU, and that through a reboot.
import { DRIVER_MODE_MTU } from '../../constructs/limits';
import { ENI_MTU } from '../../lab/engines';
import { itKeepsItsSettings, itOutlives } from './lifecycle';
import { itFragments, itIsAGateway, itSurvivesAReboot, useMachine } from './machine';
import { itMigrates } from './migration';

describe('Debian 13, baked, enable_xdp=true, second interface attached while it boots', () => {
  const machine = useMachine({ release: '13', baked: true, engine: 'direct/generic', secondary: 'late' });

  it('user data runs without an error or a warning', () => {
    expect(machine.cloudInit).toEqual({ errors: [], warnings: {} });
  });

  itIsAGateway(machine);

  itOutlives(machine);
  itFragments(machine);
  itSurvivesAReboot(machine);

  it('has its settings after the reboot as well', () => itKeepsItsSettings(machine));
});

describe('Debian 13, baked, xdp_mode=driver', () => {
  const machine = useMachine({ release: '13', baked: true, engine: 'direct/driver', secondary: 'at boot' });

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

describe('Debian 13, baked, enable_xdp=false', () => {
  const machine = useMachine({ release: '13', baked: true, engine: 'nfqueue', secondary: 'at boot' });

  it('user data runs without an error or a warning', () => {
    expect(machine.cloudInit).toEqual({ errors: [], warnings: {} });
  });

  it('the image did what it could: DHCP gave the second interface an address before user data took it away', () => {
    expect(machine.vm.dhcpLog()).toContain('DHCPACK');
  });

  itIsAGateway(machine);
  itFragments(machine);
  itMigrates(machine); // and ends on netfilter by a rollback, which has to outlive the reboot
  itSurvivesAReboot(machine);
});
