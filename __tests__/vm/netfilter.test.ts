// SPDX-License-Identifier: Apache-2.0
// Without XDP in a container of Debian 13: whole, in fragments, moved to XDP and back as docs/migration.md says, and through a
// reboot.
import { itFragments, itIsAGateway, itSurvivesAReboot, useMachine } from './machine';
import { itMigrates } from './migration';

describe('Debian 13, baked, enable_xdp=false', () => {
  const machine = useMachine({ release: '13', baked: true, engine: 'nfqueue', secondary: 'at boot' });

  it('user data runs without an error or a warning', () => {
    expect(machine.cloudInit).toEqual({ errors: [], warnings: {} });
  });

  itIsAGateway(machine);
  itFragments(machine);
  itMigrates(machine); // and ends on netfilter by a rollback, which has to outlive the reboot
  itSurvivesAReboot(machine);
});
