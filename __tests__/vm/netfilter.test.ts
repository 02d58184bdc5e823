// SPDX-License-Identifier: Apache-2.0
// Without XDP on Debian 13, of an image that brings the programs: whole, in fragments, moved to XDP and back as
// docs/migration.md says, and through a reboot.
import { itFragments, itIsAGateway, itSurvivesAReboot, useMachine } from './machine';
import { itMigrates } from './migration';

describe('Debian 13, baked with its programs, enable_xdp=false', () => {
  const machine = useMachine({ release: '13', baked: true, prebuilt: true, engine: 'nfqueue', secondary: 'at boot' });

  it('user data runs without an error or a warning', () => {
    expect(machine.cloudInit).toEqual({ errors: [], warnings: {} });
  });

  it('the image did what it could: DHCP gave the second interface an address before user data took it away', () => {
    expect(machine.vm.dhcpLog()).toContain('DHCPACK');
  });

  it('user data took the programs that the image brought, and built none', async () => {
    const log = await machine.vm.exec('cat /var/log/cloud-init-output.log');
    expect(log).toContain('is already in');
    expect(log).not.toMatch(/^ *(CC|CXX|CLANG) /m);
  });

  itIsAGateway(machine);
  itFragments(machine);
  itMigrates(machine); // and ends on netfilter by a rollback, which has to outlive the reboot
  itSurvivesAReboot(machine);
});
