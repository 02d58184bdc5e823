// SPDX-License-Identifier: Apache-2.0
// A kernel and a card of its own under the user data: what a container has not. Emulated; of an image that brings the programs,
// or the compiler alone would take minutes.
import { itFragments, itIsAGateway, itSurvivesAReboot, useMachine } from './machine';

const SAME = { release: '13', baked: true, prebuilt: true, emulated: true, secondary: 'at boot' } as const;

describe('Debian 13, emulated, baked with its programs, enable_xdp=true', () => {
  const machine = useMachine({ ...SAME, engine: 'direct/generic' });

  it('user data runs without an error or a warning', () => {
    expect(machine.cloudInit).toEqual({ errors: [], warnings: {} });
  });

  it('user data took the programs that the image brought, and built none', async () => {
    const log = await machine.vm.exec('cat /var/log/cloud-init-output.log');
    expect(log).toContain('is already in');
    expect(log).not.toMatch(/^ *(CC|CXX|CLANG) /m);
  });

  it('the image did what it could: DHCP gave the second interface an address before user data took it away', () => {
    expect(machine.vm.dhcpLog()).toContain('DHCPACK');
  });

  itIsAGateway(machine);
  itFragments(machine);
  itSurvivesAReboot(machine);
});

describe('Debian 13, emulated, baked with its programs, xdp_mode=driver', () => {
  const machine = useMachine({ ...SAME, engine: 'direct/driver' });
  itIsAGateway(machine);
  itSurvivesAReboot(machine);
});
