// SPDX-License-Identifier: Apache-2.0
// What only systemd and a real journal show of a gateway's life: units that restart, confinement, fields of messages, an
// interface that is unplugged.
import { waitFor } from '../../lab/support/host';
import { type Machine } from './machine';

const HEALTH = 'mirror-gateway-health';
const SERVICES = [
  'mirror-gateway-network',
  'xdp-processor',
  'modify_udp',
  HEALTH,
  'xdp-monitoring',
  'xdp-latency',
] as const;

export const XDP_UNIT = 'xdp-processor.service';

/** The pin is the link itself: a program that was unhooked in between comes back under another inode. */
export function linkOf(machine: Machine): Promise<string> {
  return machine.vm.exec('stat -c %i /sys/fs/bpf/mirror_gateway/link');
}

type Entry = Readonly<Record<string, string | undefined>>;

/** As the last test of `itOutlives` set it, also after the next boot. */
export async function itKeepsItsSettings(machine: Machine): Promise<void> {
  expect(await machine.vm.exec('deploy_xdp.sh config get')).toContain('max_packet_size=8999 (deployed: 9000)\n');
}

/** On a machine that runs the direct engine in generic mode; leaves it so, but for max_packet_size. */
export function itOutlives(machine: Machine): void {
  const unit = XDP_UNIT;
  const link = (): Promise<string> => linkOf(machine);
  const healthy = (): Promise<void> => machine.becomesHealthy();
  const restarts = (service: string, command: string): Promise<void> => machine.restarts(service, command);

  /** Of the health endpoint; systemd does not count where this machine keeps the memory controller to itself. */
  async function residentBytes(): Promise<number> {
    const script = `awk '/^VmRSS/ { print $2 }' /proc/$(systemctl show -P MainPID ${HEALTH})/status`;
    return Number(await machine.vm.exec(script)) * 1024;
  }

  async function journal(match: string): Promise<Entry[]> {
    const output = await machine.vm.exec(`journalctl -b -o json ${match}`);
    return output
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Entry);
  }

  describe('in its life', () => {
    it.each([
      ['killed', `systemctl kill --signal=KILL ${unit}`],
      ['restarted', `systemctl restart ${unit}`],
    ])('a loader that is %s comes back without ever unhooking the program', async (_, command) => {
      const before = await link();
      await restarts(unit, command);
      expect(await link()).toBe(before);
    });

    it('the watch over the network can be killed as well: nothing is taken down', async () => {
      const before = await link();
      await restarts('mirror-gateway-network.service', 'systemctl kill --signal=KILL mirror-gateway-network');
      expect(await link()).toBe(before);
      await healthy();
    });

    it('a network that is made anew leaves the primary interface alone while netplan writes its settings anew', async () => {
      const address = 'ip -4 -o address show dev ens5';
      const before = await machine.vm.exec(address);
      expect(before).toContain(machine.vm.lab.primary.address);
      const script = [
        'mv /run/systemd/network /run/systemd/away',
        "trap 'mv /run/systemd/away /run/systemd/network' EXIT",
        ...['deploy_xdp.sh network-up >/dev/null', 'sleep 5', address],
      ];
      expect(await machine.vm.exec(script.join('\n'))).toBe(before);
    });

    it('a stopped loader lets go, and the fallback rule has the traffic', async () => {
      await machine.vm.exec(`systemctl stop ${unit}`);
      expect(await machine.status()).toMatchObject({ engine: 'standby', attached: false });
    });

    it('rollback puts the NFQUEUE daemon in its place, degraded but able; attach returns to XDP', async () => {
      await machine.vm.exec('deploy_xdp.sh rollback');
      expect(await machine.status()).toMatchObject({ engine: 'nfqueue', attached: false });
      expect(await machine.state('modify_udp.service')).toBe('active');
      expect(await machine.health()).toMatch(/"state":"degraded".*\s+200$/s);
      await machine.vm.exec('deploy_xdp.sh attach');
      expect(await machine.status()).toMatchObject({ engine: 'direct', attached: true });
      expect(await machine.state('modify_udp.service')).toBe('inactive');
    });

    describe('beside programs of somebody else', () => {
      const foreign = (name: string): string =>
        `ip link set dev ${name} xdpgeneric obj /opt/ebpf-xdp-processor/bpf/udp_df_modifier.bpf.o sec xdp`;

      it('on the primary interface runs the bridge engine, which sends the same, degraded', async () => {
        await machine.vm.exec(`deploy_xdp.sh detach && ${foreign('ens5')} && deploy_xdp.sh attach`);
        expect(await machine.status()).toMatchObject({ engine: 'bridge', interface: 'br0', attached: true });
        await machine.play();
        expect([...machine.verdicts.values()].flatMap(({ problems }) => problems)).toEqual([]);
        expect(machine.strays).toEqual([]);
        expect(await machine.health()).toMatch(/"state":"degraded".*\s+200$/s);
      });

      it('on br0 as well leaves the traffic to netfilter, tries nothing for ever, and is degraded, not broken', async () => {
        await machine.vm.exec(`deploy_xdp.sh detach && ${foreign('br0')}`);
        await machine.vm.tryExec(`systemctl start ${unit}`);
        expect(await machine.state(unit)).toBe('failed');
        expect(await machine.status()).toMatchObject({ engine: 'nfqueue', attached: false });
        expect(await machine.health()).toMatch(/"state":"degraded".*\s+200$/s);
        const { code, stderr } = await machine.vm.tryExec('deploy_xdp.sh attach');
        expect(code).toBe(1);
        expect(stderr).toMatch(/^FAIL no other XDP br0 carries program \d+ of somebody else/m);
        await machine.vm.exec(
          'ip link set dev br0 xdpgeneric off; ip link set dev ens5 xdpgeneric off; deploy_xdp.sh attach',
        );
        await healthy();
      });
    });

    it('answers a flood of health checks, which costs no datagram and no more memory each time', async () => {
      const memory: number[] = [];
      const lost = await machine.streamThrough(async () => {
        for (let round = 0; round < 3; round++) {
          const { answers, refused, seconds } = await machine.flood(1000, 200);
          memory.push(await residentBytes());
          machine.vm.progress.say(
            `1000 health checks within ${seconds.toFixed(1)} s beside 200 connections that say too little: ${refused} refused, ` +
              `then ${memory.at(-1)} bytes of memory`,
          );
          expect(Object.keys(answers)).toEqual([
            expect.stringMatching(/^HTTP\/1\.1 200 OK\r\n[^]*"state":"healthy"/) as unknown,
          ]);
          expect(refused).toBeLessThan(1000); // how many, depends on who else wants the processor
          await healthy();
        }
      });
      expect(lost).toEqual([]);
      expect(await machine.state(`${HEALTH}.service`)).toBe('active');
      expect((memory[2] ?? NaN) / (memory[0] ?? NaN)).toBeLessThan(1.2);
    });

    it('loses nothing of a stream while its units change engines, restart and are killed', async () => {
      const operations = [
        ...['deploy_xdp.sh rollback', 'deploy_xdp.sh attach', 'deploy_xdp.sh config set traffic_percent=50'],
        ...['systemctl kill --signal=TERM mirror-gateway-network', `systemctl kill --signal=KILL ${unit}`],
        ...['systemctl restart modify_udp', 'deploy_xdp.sh config set traffic_percent=100'],
      ];
      const took: string[] = [];
      const lost = await machine.streamThrough(async () => {
        for (const operation of operations) {
          const startedAt = Date.now();
          await machine.vm.exec(operation, { timeoutSeconds: 300 });
          took.push(`${operation}: ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
        }
      });
      machine.vm.progress.say(`under a stream: ${took.join(', ')}`);
      expect(lost).toEqual([]);
      await healthy();
      expect(await machine.status()).toMatchObject({ engine: 'direct', xdp_mode: 'generic' });
    });

    it('sends its metrics, with what a packet costs, and has no line a minute in its journal', async () => {
      const receive = [
        'import json, socket',
        's = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)',
        "s.bind(('127.0.0.1', 25888))",
        's.settimeout(90)',
        'metrics, intervals = {}, 0',
        "while 'ProcessingNanoseconds' not in metrics or intervals < 2:", // in the first one the stream began
        "  document = json.loads(s.recv(65536)); intervals += document.get('PacketsPerSecond', 0) > 0; metrics.update(document)",
        'print(json.dumps(metrics))',
      ].join('\n');
      let metrics = {};
      await machine.streamThrough(async () => {
        const script = `python3 -c "${receive}" & sleep 1; systemctl start xdp-latency; wait`;
        metrics = JSON.parse(await machine.vm.exec(script, { timeoutSeconds: 120 })) as object;
      });
      expect(metrics).toMatchObject({
        ...{ InstanceId: 'i-00000000000000001', State: 'healthy', XdpAttached: 1, Degraded: 0 },
        // Emulation stops the machine now and then; that rates are right, the lab's tests say.
        ...{ PacketsPerSecond: expect.closeTo(100, -2) as unknown, StandbyPacketsPerSecond: 0 },
      });
      expect(metrics).toHaveProperty('Counters.packets_seen');
      const lines = await journal('-u xdp-latency');
      expect(lines.map(({ MESSAGE }) => MESSAGE)).toEqual([]);
    });

    it('decides once about the NFQUEUE daemon, whoever wants it started or stopped at the same time', async () => {
      const crossing = [
        ...['for i in 1 2 3; do MIRROR_GATEWAY_UNIT=1 deploy_xdp.sh network-up; done >/dev/null &'],
        ...['for percent in 50 100 50 100; do deploy_xdp.sh config set traffic_percent=$percent; done', 'wait'],
      ];
      await machine.vm.exec(crossing.join('\n'), { timeoutSeconds: 600 });
      expect(await machine.state('modify_udp.service')).toBe('inactive');
      await healthy();
    });

    it('is whole again, without help, after br0 is deleted', async () => {
      await machine.vm.exec('ip link delete br0');
      // The endpoint says what was looked at last, up to ten seconds ago.
      const isBack = async (): Promise<true | undefined> =>
        (await machine.vm.tryExec('ip link show br0')).code === 0 || undefined;
      await waitFor('br0', isBack, { timeoutMs: 120_000, progress: machine.vm.progress });
      await healthy();
    });

    it('is whole again after the second interface was unplugged and plugged in', async () => {
      await machine.vm.detachSecondary();
      const broken = async (): Promise<true | undefined> =>
        /"state":"broken","engine":"\w+","xdp_mode":"\w+","reason":"ens6 is no active port of br0"}\s+503$/.test(
          await machine.health(),
        ) || undefined;
      try {
        await waitFor('broken gateway', broken, { timeoutMs: 60_000, progress: machine.vm.progress });
      } finally {
        await machine.vm.attachSecondary();
      }
      await healthy();
    });

    it('builds its loader anew when the old one no longer starts', async () => {
      const before = await link();
      const loader = '/opt/ebpf-xdp-processor/bpf/udp_df_modifier_loader';
      await machine.vm.exec(
        `printf "#!/bin/sh\\nexit 127\\n" >${loader}.new && chmod 755 ${loader}.new && mv ${loader}.new ${loader}`,
      );
      await machine.vm.tryExec(`systemctl restart ${unit}`, { timeoutSeconds: 300 });
      await healthy(); // it compiles
      expect(await link()).toBe(before);
      expect(await machine.state(unit)).toBe('active');
    });

    it('takes an upgrade in place, with one counter more: the link stays, the counters move along', async () => {
      const sources = '/opt/ebpf-xdp-processor/bpf';
      await machine.play();
      const { packets_modified } = await machine.status();
      const before = await link();
      await machine.vm.exec(
        [
          `cd ${sources}`,
          "sed -i 's/__u64 fragments_seen;/&\\n__u64 packets_of_tomorrow;/' udp_df_modifier.h",
          'sed -i \'s/"fragments_seen",/&\\n"packets_of_tomorrow",/\' loader/status.c',
          'deploy_xdp.sh install',
        ].join('\n'),
        { timeoutSeconds: 600 },
      );
      expect(await link()).toBe(before);
      expect(await machine.vm.exec('deploy_xdp.sh stats')).toContain('xdp.packets_of_tomorrow');
      expect((await machine.status()).packets_modified).toBe(packets_modified);
      expect(packets_modified).toBeGreaterThan(0);
      await healthy();
    });

    it('keeps a setting over a restart, and says how it differs from what was deployed', async () => {
      await machine.vm.exec(`deploy_xdp.sh config set max_packet_size=8999 && systemctl restart ${unit}`);
      await itKeepsItsSettings(machine);
    });

    it.each(SERVICES)('%s scores at most 3.5 in systemd-analyze security', async (service) => {
      const output = await machine.vm.exec(`systemd-analyze security --no-pager --threshold=35 ${service}.service`);
      expect(output).toMatch(/Overall exposure level/);
    });

    it('the journal has who carries the traffic as fields, and no line a packet', async () => {
      await machine.vm.exec(`systemctl restart ${unit}`);
      const hooked = (await journal(`-u ${unit} PRIORITY=5`)).filter(({ MESSAGE }) => MESSAGE?.includes('ens5'));
      expect(hooked.at(-1)).toMatchObject({ ENGINE: 'direct', XDP_MODE: 'generic', INTERFACE: 'ens5' });
      const summaries = (await journal(`-u ${unit} PRIORITY=6`)).filter(({ PACKETS_SEEN }) => PACKETS_SEEN);
      expect(summaries.at(-1)).toMatchObject({ ENGINE: 'direct', INTERFACE: 'ens5' });
      for (const name of ['PACKETS_SEEN', 'PACKETS_MODIFIED', 'PACKETS_LEFT_TO_NETFILTER', 'PACKETS_MALFORMED'])
        expect(summaries.at(-1)?.[name]).toMatch(/^\d+$/);
      const rolled = await journal('SYSLOG_IDENTIFIER=deploy_xdp.sh ENGINE=nfqueue');
      expect(rolled.map(({ MESSAGE }) => MESSAGE).join('\n')).toContain('rolled back: modify_udp_df takes the traffic');
      const minutes = Number((await machine.vm.exec('cut -d. -f1 /proc/uptime')).trim()) / 60;
      const restarted = (await journal(`-u ${unit} --grep=^Started`)).length;
      expect(summaries.length).toBeLessThanOrEqual(minutes + 2 * restarted + 1);
    });
  });
}
