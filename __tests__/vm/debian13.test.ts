// SPDX-License-Identifier: Apache-2.0
// Debian 13 with the packages baked in, as a fleet would run it: both values of enable_xdp, both through a reboot.
import { itKeepsItsSettings, itOutlives } from './lifecycle';
import { itIsAGateway, itSurvivesAReboot, useMachine } from './machine';
import { itMigrates } from './migration';

describe('Debian 13, baked, enable_xdp=true, second interface attached while it boots', () => {
  const machine = useMachine({ release: '13', baked: true, engine: 'bridge', secondary: 'late' });

  it('user data runs without an error or a warning', () => {
    expect(machine.cloudInit).toEqual({ errors: [], warnings: {} });
  });

  itIsAGateway(machine);

  itOutlives(machine);
  itSurvivesAReboot(machine);

  it('has its settings after the reboot as well', () => itKeepsItsSettings(machine));
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
  itMigrates(machine); // and ends on netfilter by a rollback, which has to outlive the reboot
  itSurvivesAReboot(machine);
});
