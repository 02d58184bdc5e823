// SPDX-License-Identifier: Apache-2.0
// Debian 13 with the packages baked in, as a fleet would run it: both values of enable_xdp, both through a reboot.
import { waitFor } from '../../lab/host';
import { itIsAGateway, itSurvivesAReboot, useMachine } from './machine';

describe('Debian 13, baked, enable_xdp=true, second interface attached while it boots', () => {
  const machine = useMachine({ release: '13', baked: true, engine: 'bridge', secondary: 'late' });

  it('user data runs without an error or a warning', () => {
    expect(machine.cloudInit).toEqual({ errors: [], warnings: {} });
  });

  itIsAGateway(machine);

  describe('under systemd', () => {
    const unit = 'xdp-processor.service';
    // The pin is the link itself: a program that was unhooked in between comes back under another inode.
    const link = (): Promise<string> => machine.vm.exec('stat -c %i /sys/fs/bpf/mirror_gateway/link');
    const mainPid = (): Promise<string> => machine.vm.exec(`systemctl show -p MainPID --value ${unit}`);

    async function staysHookedThrough(command: string): Promise<void> {
      const [before, pid] = [await link(), await mainPid()];
      await machine.vm.exec(command);
      const restarted = async (): Promise<true | undefined> =>
        ((await machine.state(unit)) === 'active' && (await mainPid()) !== pid) || undefined;
      await waitFor('restarted loader', restarted, { timeoutMs: 60_000, progress: machine.vm.progress });
      expect(await link()).toBe(before);
    }

    it('a killed loader comes back without ever unhooking the program', () =>
      staysHookedThrough(`systemctl kill --signal=KILL ${unit}`));

    it('so does one that is restarted', () => staysHookedThrough(`systemctl restart ${unit}`));

    it('a stopped one lets go, and the standby has the traffic', async () => {
      await machine.vm.exec(`systemctl stop ${unit}`);
      expect(await machine.status()).toMatchObject({ engine: 'standby', attached: false });
    });

    it('rollback puts the legacy program in its place, degraded but able', async () => {
      await machine.vm.exec('deploy_xdp.sh rollback');
      expect(await machine.status()).toMatchObject({ engine: 'nfqueue', attached: false });
      expect(await machine.state('modify_udp.service')).toBe('active');
      expect(await machine.health()).toMatch(/"state":"degraded".*\s+200$/s);
    });

    it('attach returns to XDP', async () => {
      await machine.vm.exec('deploy_xdp.sh attach');
      expect(await machine.status()).toMatchObject({ engine: 'bridge', attached: true });
      expect(await machine.state('modify_udp.service')).toBe('inactive');
    });

    it('without br0 the health check fails and says why', async () => {
      await machine.vm.exec('ip link del br0');
      expect(await machine.health()).toMatch(/"state":"broken".*br0.*\s+503$/s);
      await machine.vm.exec('systemctl restart mirror-gateway-network.service');
      const healthy = async (): Promise<true | undefined> =>
        (await machine.health()).includes('"healthy"') || undefined;
      await waitFor('healthy gateway', healthy, { timeoutMs: 60_000, progress: machine.vm.progress });
    });
  });

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
  itSurvivesAReboot(machine);
});
