// SPDX-License-Identifier: Apache-2.0
// What a stack deploys by default, in a container of Debian 13 with the packages baked in: boots, builds, lives, forwards whole,
// then in fragments, and through a reboot.
import { itKeepsItsSettings, itOutlives } from './lifecycle';
import { itFragments, itIsAGateway, itSurvivesAReboot, useMachine } from './machine';

describe('Debian 13, baked, enable_xdp=true, second interface attached while it boots', () => {
  const machine = useMachine({ release: '13', baked: true, engine: 'direct/generic', secondary: 'late' });

  it('user data runs without an error or a warning', () => {
    expect(machine.cloudInit).toEqual({ errors: [], warnings: {} });
  });

  it('user data built the programs', async () => {
    const log = await machine.vm.exec('cat /var/log/cloud-init-output.log');
    expect(log).toContain('CLANG  bpf/udp_df_direct.bpf.o');
    expect(log).toContain('CXX    netfilter/modify_udp_df');
  });

  itIsAGateway(machine);

  itOutlives(machine);
  itFragments(machine);
  itSurvivesAReboot(machine);

  it('has its settings after the reboot as well', () => itKeepsItsSettings(machine));
});
