// SPDX-License-Identifier: Apache-2.0
// What befalls a gateway in its life: programs that are refused, killed or broken, interfaces that go and come back, pins
// that a crash left behind, two operators at once. Each ends in a gateway that forwards, and says what happened.
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DEPLOY_SCRIPT, INSTALLED } from '../../constructs/user-data/user-data';
import { inNamespace, must, Progress, run, type RunResult, waitFor } from '../../lab/support/host';
import { payloadHash } from '../../lab/packets/decode';
import { deploy, LAB, LEGACY_PID_FILE, plugSecondary, unplugSecondary } from '../../lab/namespaces/namespaces';
import { Packet } from '../../lab/packets/packet';
import { Unit } from '../../lab/namespaces/stress';
import { mirror, status, untranslated, useLab } from './gateway';

const GATEWAY = LAB.primary.namespace;
const OBJECT = join(INSTALLED, 'bpf/udp_df_modifier.bpf.o');
const LOADER = join(INSTALLED, 'bpf/udp_df_modifier_loader');
const PINS = '/sys/fs/bpf/mirror_gateway';
const progress = new Progress('lifecycle');

/** A verb that may fail. */
function attempt(...args: string[]): Promise<RunResult> {
  return run(...inNamespace(GATEWAY, DEPLOY_SCRIPT, ...args));
}

async function health(): Promise<{ state: string; engine: string; reason: string; code: number }> {
  const { code, stdout } = await attempt('health');
  return { ...(JSON.parse(stdout) as { state: string; engine: string; reason: string }), code };
}

function inGateway(...command: string[]): Promise<string> {
  return must(...inNamespace(GATEWAY, ...command));
}

describe('a gateway', () => {
  const lab = useLab('bridge');
  let id = 0;

  /** Twenty large datagrams with DF arrive whole, translated and without DF. */
  async function forwards(engine: string): Promise<void> {
    const packets = Array.from({ length: 20 }, () =>
      Packet.udp({ from: `198.51.100.7:${1024 + id}`, to: '203.0.113.9:31765' })
        .id(++id)
        .totalLength(1428)
        .df(),
    );
    const outcome = await lab.send(packets.map((packet) => mirror(packet)));
    expect(outcome.received.map((each) => each.payloadHash).sort()).toEqual(
      packets.map((packet) => payloadHash(packet.data())).sort(),
    );
    expect(outcome.atSink.filter(({ ip }) => ip?.df)).toEqual([]);
    // A bridge that was made again asks anew who the IPsec VM is.
    expect(untranslated(outcome.atSink.filter(({ protocols }) => protocols !== 'eth:ethertype:arp'))).toEqual([]);
    expect(await status()).toMatchObject({ engine });
  }

  function becomes(what: string, probe: () => Promise<boolean>): Promise<true> {
    return waitFor(what, async () => (await probe()) || undefined, { timeoutMs: 30_000, progress });
  }

  describe('whose XDP program is refused', () => {
    afterEach(async () => {
      await run(...inNamespace(GATEWAY, 'ip', 'link', 'set', 'dev', 'br0', 'xdpgeneric', 'off'));
      await must('make', ['-B', '-C', join(INSTALLED, 'bpf')]);
      await deploy('attach');
      expect(await health()).toMatchObject({ state: 'healthy', engine: 'bridge', code: 0 });
    });

    it("because of somebody else's program leaves that one alone, and forwards by netfilter, degraded", async () => {
      await deploy('detach');
      await inGateway('ip', 'link', 'set', 'dev', 'br0', 'xdpgeneric', 'obj', OBJECT, 'sec', 'xdp');
      const { code, stderr } = await attempt('attach');
      expect(code).toBe(1);
      expect(stderr).toMatch(
        /^FAIL no other XDP br0 carries program \d+ of somebody else: it is left alone; detach it/m,
      );
      expect(stderr).toMatch(/now carrying the traffic: nfqueue\n$/);
      expect(await inGateway('ip', '-d', 'link', 'show', 'br0')).toContain('xdpgeneric');
      expect(await health()).toMatchObject({ state: 'degraded', engine: 'nfqueue', code: 0 });
    });

    it("by the verifier says so in the verifier's words, and forwards by netfilter, degraded", async () => {
      await deploy('detach');
      const source = readFileSync(join(INSTALLED, 'bpf/udp_df_modifier.bpf.c'), 'utf8');
      const unsafe = join(INSTALLED, 'bpf/unsafe.bpf.c');
      writeFileSync(unsafe, source.replace('__u32 only = 0,', '__u32 only = *(__u32 *)frame.at,'));
      await must('make', ['-C', join(INSTALLED, 'bpf'), 'unsafe.bpf.o']);
      copyFileSync(join(INSTALLED, 'bpf/unsafe.bpf.o'), OBJECT);
      rmSync(unsafe);
      const { code, stderr } = await attempt('attach');
      expect(code).toBe(1);
      expect(stderr).toContain('invalid access to packet');
      expect(stderr).toMatch(
        /^deploy_xdp.sh: XDP is refused for the reason above; now carrying the traffic: nfqueue$/m,
      );
      expect(await health()).toMatchObject({ state: 'degraded', engine: 'nfqueue', code: 0 });
      await forwards('nfqueue');
    });

    it('while another version of it runs keeps that one', async () => {
      writeFileSync(OBJECT, 'nothing to load');
      const { code, stderr } = await attempt('attach');
      expect(code).toBe(1);
      expect(stderr).toMatch(/now carrying the traffic: bridge\n$/);
      await forwards('bridge');
    });

    it('because it is not built still answers, and rolls back', async () => {
      rmSync(LOADER);
      const { code, stderr } = await attempt('attach');
      expect(code).toBe(1);
      expect(stderr).toMatch(/^FAIL program +not built; see why: deploy_xdp.sh build bpf$/m);
      expect(await status()).toMatchObject({ attached: true });
      expect(await attempt('rollback')).toMatchObject({ code: 0 });
      expect(await status()).toMatchObject({ engine: 'nfqueue', attached: false });
      expect(await inGateway('ip', 'link', 'show', 'br0')).not.toContain('xdp');
    });
  });

  it('whose loader no longer starts, as when a library is gone, builds another', async () => {
    writeFileSync(LOADER, '#!/bin/sh\nexit 127\n');
    chmodSync(LOADER, 0o755);
    expect((await attempt('attach')).code).toBe(1);
    await deploy('build', 'bpf');
    await deploy('attach');
    await forwards('bridge');
  });

  it('finds what a crash left among its pins, and starts all the same', async () => {
    await deploy('detach');
    await must('mkdir', ['-p', PINS]);
    const map = ['type', 'array', 'key', '4', 'value', '24', 'entries', '1', 'name', 'left'];
    for (const name of ['link', 'stats', 'config', 'stats_new', 'left'])
      await must('bpftool', ['map', 'create', join(PINS, name), ...map]);
    await deploy('attach');
    await forwards('bridge');
    await deploy('detach');
    expect(readdirSync(PINS).sort()).toEqual(['left', 'link_foreign']); // whose they are nobody knows
    await must('rm', ['-r', PINS]);
    await deploy('attach');
  });

  it('takes over the link of a loader that was killed before it had its name', async () => {
    renameSync(join(PINS, 'link'), join(PINS, 'link_new'));
    await deploy('attach');
    await forwards('bridge');
    expect(readdirSync(PINS).sort()).toEqual(['config', 'link', 'stats']);
  });

  it('starts again on the pins of a bridge that is gone', async () => {
    await inGateway('ip', 'link', 'delete', 'br0');
    expect(existsSync(join(PINS, 'link'))).toBe(true);
    await deploy('network-up');
    await deploy('attach');
    await forwards('bridge');
  });

  describe('under its units', () => {
    const network = new Unit('network', () => 200);
    const xdp = new Unit('xdp', () => 200);
    beforeAll(async () => {
      network.start();
      xdp.start();
      await becomes('watching network', () => Promise.resolve(network.log.includes('network is up')));
    });
    afterAll(() => Promise.all([network.stop(), xdp.stop()]));

    const attached = (): Promise<true> => becomes('healthy gateway', async () => (await health()).state === 'healthy');

    it.each([
      ['br0 is deleted', () => inGateway('ip', 'link', 'delete', 'br0')],
      ['vxlan1 is deleted', () => inGateway('ip', 'link', 'delete', 'vxlan1')],
      ['the netfilter rules are flushed', () => inGateway('nft', 'flush', 'ruleset')],
      ['one table is deleted', () => inGateway('nft', 'delete', 'table', 'bridge', 'mirror_gateway')],
      ['one chain is flushed', () => inGateway('nft', 'flush', 'chain', 'ip', 'mirror_gateway', 'translate')],
      ['br0 is set down', () => inGateway('ip', 'link', 'set', 'br0', 'down')],
      ['the route to the IPsec VM is deleted', () => inGateway('ip', 'route', 'flush', 'dev', 'br0')],
      ['forwarding is switched off', () => inGateway('sysctl', '-qw', 'net.ipv4.ip_forward=0')],
      ['the second interface leaves the bridge', () => inGateway('ip', 'link', 'set', 'ens6', 'nomaster')],
    ])('is whole again after %s', async (_, harm) => {
      await harm();
      await attached();
      await forwards('bridge');
    });

    it('has the newest rules after settings that changed while it was made', async () => {
      await inGateway('ip', 'link', 'delete', 'br0');
      await deploy('config', 'set', 'target_port=31766');
      await attached();
      expect(await inGateway('nft', 'list', 'chain', 'bridge', 'mirror_gateway', 'datagram')).toContain('31766');
      await deploy('config', 'set', 'target_port=31765');
      await forwards('bridge');
    });

    it('waits while its second interface is unplugged, and goes on when it is plugged in', async () => {
      await unplugSecondary();
      await becomes('broken gateway', async () => (await health()).state === 'broken');
      expect(await health()).toMatchObject({ reason: 'ens6 is no active port of br0', code: 1 });
      await plugSecondary();
      await attached();
      await forwards('bridge');
    });

    it('says once what is wrong, and once that it is over', async () => {
      network.log = '';
      await unplugSecondary();
      await becomes('broken gateway', async () => (await health()).state === 'broken');
      await plugSecondary();
      await becomes('word of it', () => Promise.resolve(network.log.includes('packets can flow again')));
      expect(network.log.match(/packets cannot flow/g)).toHaveLength(1);
    });

    it('keeps its program when the loader is killed', async () => {
      const before = execFileSync('bpftool', ['-j', 'link', 'show', 'pinned', `${PINS}/link`]).toString();
      await xdp.end('SIGKILL');
      await forwards('bridge');
      expect(execFileSync('bpftool', ['-j', 'link', 'show', 'pinned', `${PINS}/link`]).toString()).toContain(
        /"id":\d+/.exec(before)?.[0],
      );
    });
  });

  describe('with two operators', () => {
    it('does one thing after the other, and says whose turn it is', async () => {
      const [first, second] = await Promise.all([attempt('rollback'), attempt('attach')]);
      expect([first.code, second.code]).toEqual([0, 0]);
      expect(first.stderr + second.stderr).toMatch(
        /^waiting for another deploy_xdp.sh: (rollback|attach), process \d+$/m,
      );
      await deploy('attach');
      await forwards('bridge');
    });

    it.each(['rollback', 'attach', 'detach'])('survives an interrupted %s, which can be done again', async (verb) => {
      for (let delay = 0; delay < 500; delay += 50) {
        const [command, args] = inNamespace(GATEWAY, DEPLOY_SCRIPT, verb);
        const child = spawn(command, args, { stdio: 'ignore', detached: true });
        setTimeout(
          () => child.pid !== undefined && child.exitCode === null && process.kill(-child.pid, 'SIGINT'),
          delay,
        );
        await new Promise((done) => child.once('exit', done));
      }
      await deploy(verb);
      await forwards({ rollback: 'nfqueue', attach: 'bridge', detach: 'standby' }[verb] ?? '');
      await deploy('attach');
    });
  });

  describe('whose settings change', () => {
    afterAll(() => deploy('config', 'set', 'min_packet_size=1400', 'traffic_percent=100'));

    it('shows what differs from what was deployed', async () => {
      await deploy('config', 'set', 'min_packet_size=1300');
      expect(await deploy('config', 'get')).toBe(
        'target_port=31765\nmin_packet_size=1300 (deployed: 1400)\nmax_packet_size=9000\ntraffic_percent=100\n',
      );
      expect(await deploy('config', 'get', 'min_packet_size')).toBe('1300\n');
    });

    it('keeps them over a restart', async () => {
      await deploy('detach');
      await deploy('attach');
      expect(await deploy('config', 'get', 'min_packet_size')).toBe('1300\n');
    });

    it.each([
      [['max_packet_size=1200'], 'must be less than --max-packet-size 1200'],
      [['traffic_percent=101'], "--traffic-percent '101' is not allowed: give a whole number from 0 to 100"],
      [['min_packet_size=1', 'traffic_percent=50'], "--min-packet-size '1' is not allowed"],
      [['mtu=1400'], "config: no key 'mtu'; it must be one of target_port min_packet_size max_packet_size"],
      [['target_port'], "config: 'target_port' has no value; give target_port=VALUE"],
      [[], 'config set: nothing to set; give KEY=VALUE'],
    ])('refuses %j, and changes nothing', async (pairs, message) => {
      const before = await deploy('config', 'get');
      const { code, stderr } = await attempt('config', 'set', ...pairs);
      expect(code).toBe(1);
      expect(stderr).toContain(message);
      expect(await deploy('config', 'get')).toBe(before);
    });

    it('has the NFQUEUE daemon run exactly while XDP leaves flows', async () => {
      for (const [percent, served] of [
        [10, true],
        [50, true],
        [90, true],
        [100, false],
        [0, true],
        [100, false],
      ] as const) {
        await deploy('config', 'set', `traffic_percent=${percent}`);
        const queues = await inGateway('cat', '/proc/net/netfilter/nfnetlink_queue');
        expect({ percent, served: queues.trim() !== '' }).toEqual({ percent, served });
      }
    });

    it('leaves the flows to the fallback rule when the NFQUEUE daemon is killed', async () => {
      await deploy('config', 'set', 'traffic_percent=0');
      process.kill(Number(readFileSync(LEGACY_PID_FILE, 'utf8')), 'SIGKILL');
      const before = await status();
      await forwards('bridge');
      expect((await status()).standby_packets - before.standby_packets).toBeGreaterThanOrEqual(20);
      const { state, reason } = await health();
      expect(state).toBe('degraded');
      expect(reason).toMatch(/the standby carries what XDP leaves, 100 % of the flows$/);
    });
  });

  it('says how it is rolled back when the NFQUEUE daemon does not start: the fallback rule carries the traffic', async () => {
    const program = join(INSTALLED, 'netfilter/modify_udp_df');
    await deploy('attach');
    writeFileSync(program, '#!/bin/sh\necho broken >&2\nexit 1\n');
    const { code, stderr } = await attempt('rollback');
    expect(code).toBe(1);
    expect(stderr).toContain('modify_udp_df does not serve its queue: broken');
    expect(stderr).toMatch(/rolled back, but modify_udp_df does not run, .* now carrying the traffic: standby\n$/);
    await forwards('standby');
    await must('make', ['-B', '-C', join(INSTALLED, 'netfilter')]);
  });
});
