// SPDX-License-Identifier: Apache-2.0
// Which XDP engine takes the traffic: the best that can, and what happens to interfaces, health and traffic where it cannot,
// can no longer, or is told another.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEPLOY_SCRIPT, INSTALLED } from '../../constructs/user-data/user-data';
import { DRIVER_MODE_MTU, LARGEST_IN_DRIVER_MODE } from '../../constructs/config/limits';
import { inNamespace, must, Progress, run, type RunResult, waitFor } from '../../lab/support/host';
import { payloadHash } from '../../lab/packets/decode';
import { deploy, LAB, plugSecondary, RUNTIME, SETTINGS_FILE, unplugSecondary } from '../../lab/namespaces/namespaces';
import { Packet } from '../../lab/packets/packet';
import { Unit } from '../../lab/namespaces/stress';
import { Stream } from '../../lab/packets/traffic-stream';
import { mirror, status, useLab } from './gateway';

const GATEWAY = LAB.primary.namespace;
const FOREIGN = join(INSTALLED, 'bpf/udp_df_modifier.bpf.o');
/** The loader's: the engine loses what it redirects. */
const GIVEN_UP = 79;
const progress = new Progress('choosing');

type Settings = Readonly<Record<string, string | number>>;

const AUTO = { XDP_ENGINE: 'auto', XDP_MODE: 'auto', MAX_PACKET_SIZE: 9000 };
const FITS = { ...AUTO, MAX_PACKET_SIZE: LARGEST_IN_DRIVER_MODE };

/** As if the stack had deployed a gateway with them. */
function deployed(settings: Settings): void {
  const lines = readFileSync(SETTINGS_FILE, 'utf8').split('\n');
  const changed = lines.map((line) => {
    const [key = ''] = line.split('=');
    return key in settings ? `${key}=${settings[key]}` : line;
  });
  writeFileSync(SETTINGS_FILE, changed.join('\n'));
  rmSync(join(SETTINGS_FILE, '../runtime.env'), { force: true });
}

function inGateway(...command: string[]): Promise<string> {
  return must(...inNamespace(GATEWAY, ...command));
}

function attempt(...args: string[]): Promise<RunResult> {
  return run(...inNamespace(GATEWAY, DEPLOY_SCRIPT, ...args));
}

async function health(): Promise<{ state: string; engine: string; xdp_mode: string; reason: string }> {
  const { stdout } = await attempt('health');
  return JSON.parse(stdout) as Awaited<ReturnType<typeof health>>;
}

async function mtus(): Promise<number[]> {
  const links = JSON.parse(await inGateway('ip', '-j', 'link')) as { ifname: string; mtu: number }[];
  return ['ens5', 'ens6'].map((name) => links.find(({ ifname }) => ifname === name)?.mtu ?? 0);
}

/** A veth takes XDP in driver mode only while its peer sends frames that fit a page. */
async function peers(mtu: number): Promise<void> {
  for (const { namespace, interface: name } of [LAB.source, LAB.sink])
    await must('ip', ['-n', namespace, 'link', 'set', name, 'mtu', String(mtu)]);
}

/** A veth delivers what XDP redirects to it only while its peer has GRO. */
async function sinkTakesRedirects(does: boolean): Promise<void> {
  const { namespace, interface: name } = LAB.sink;
  await must(...inNamespace(namespace, 'ethtool', '-K', name, 'gro', does ? 'on' : 'off'));
}

function becomes(what: string, probe: () => Promise<boolean>, timeoutMs = 30_000): Promise<true> {
  return waitFor(what, async () => (await probe()) || undefined, { timeoutMs, progress });
}

describe('the XDP engine', () => {
  const lab = useLab('standby');
  let id = 0;

  beforeAll(async () => {
    await sinkTakesRedirects(true);
    await peers(DRIVER_MODE_MTU);
  });
  afterEach(async () => {
    await deploy('detach');
    expect(await mtus()).toEqual([LAB.mtu, LAB.mtu]);
    expect(await inGateway('nft', 'list', 'ruleset')).not.toContain('ether saddr');
  });

  const datagram = (bytes: number): Packet =>
    Packet.udp({ from: `198.51.100.7:${1024 + id}`, to: '203.0.113.9:31765' })
      .id(++id)
      .totalLength(bytes)
      .df();

  async function forwards(packets = Array.from({ length: 20 }, () => datagram(1428))): Promise<void> {
    const outcome = await lab.send(packets.map((packet) => mirror(packet)));
    expect(outcome.received.map((each) => each.payloadHash).sort()).toEqual(
      packets.map((packet) => payloadHash(packet.data())).sort(),
    );
  }

  async function attaches(engine: string, xdp_mode: string): Promise<string> {
    const said = await deploy('attach');
    expect(await status()).toMatchObject({ engine, xdp_mode, attached: true });
    await forwards();
    return said;
  }

  describe('by itself', () => {
    it('is direct in generic mode while datagrams may be longer than driver mode takes, which it says', async () => {
      deployed(AUTO);
      expect(await attaches('direct', 'generic')).toContain(
        'the direct engine in driver mode cannot run: sizes max_packet_size 9000: driver mode takes datagrams of at most 3448',
      );
      expect(await health()).toEqual({ state: 'healthy', engine: 'direct', xdp_mode: 'generic', reason: '' });
      expect(await mtus()).toEqual([LAB.mtu, LAB.mtu]);
    });

    it('is direct in driver mode where all datagrams fit, with the MTU that this needs', async () => {
      deployed(FITS);
      await attaches('direct', 'driver');
      expect(await health()).toEqual({ state: 'healthy', engine: 'direct', xdp_mode: 'driver', reason: '' });
      expect(await mtus()).toEqual([DRIVER_MODE_MTU, DRIVER_MODE_MTU]);
    });

    it.each([
      ['direct', 'generic', { ...FITS, XDP_MODE: 'generic' }],
      ['bridge', 'generic', { ...FITS, XDP_ENGINE: 'bridge' }],
    ])(
      'is %s in %s mode if that is asked for, and gives the MTU of driver mode back',
      async (engine, mode, settings) => {
        deployed(FITS);
        await deploy('attach');
        deployed(settings);
        await attaches(engine, mode);
        expect(await mtus()).toEqual([LAB.mtu, LAB.mtu]);
        expect(await health()).toMatchObject({ state: 'healthy' });
      },
    );

    it('changes in place from bridge to direct in driver mode, which needs br0 without a program', async () => {
      deployed({ ...FITS, XDP_ENGINE: 'bridge' });
      await attaches('bridge', 'generic');
      deployed(FITS);
      await attaches('direct', 'driver');
      expect(await health()).toMatchObject({ state: 'healthy' });
      expect(await inGateway('ip', 'link', 'show', 'br0')).not.toContain('xdp');
    });

    it('is tried out by preflight, each with a line for what it needs', async () => {
      deployed(AUTO);
      const { code, stdout } = await attempt('preflight');
      expect(code).toBe(0);
      expect(stdout.match(/^the .*:$/gm)).toEqual([
        'the direct engine in driver mode:',
        'the direct engine in generic mode:',
        'the bridge engine:',
      ]);
      expect(stdout.match(/^FAIL \w+/gm)).toEqual(['FAIL sizes']);
    });
  });

  describe('on ENA', () => {
    const folder = mkdtempSync(join(tmpdir(), 'ethtool-'));
    const channels = join(folder, 'channels');
    /** A driver that no machine here has: as far as it is asked by ethtool. */
    const ethtool = `#!/bin/sh
      case $1 in
      -i) echo 'driver: ena' ;;
      -l) printf 'Pre-set maximums:\nRX: n/a\nCombined: 8\nCurrent hardware settings:\nRX: n/a\nCombined: ' && cat ${channels}.$2 ;;
      -L) echo $4 >${channels}.$2 ;;
      esac`;
    const channelsNow = (): string[] =>
      ['ens5', 'ens6'].map((name) => readFileSync(`${channels}.${name}`, 'utf8').trim());
    const onEna = (verb: string): Promise<string> =>
      inGateway('env', `PATH=${folder}:${process.env.PATH ?? ''}`, DEPLOY_SCRIPT, verb);

    beforeAll(() => writeFileSync(join(folder, 'ethtool'), ethtool, { mode: 0o755 }));
    afterAll(() => rmSync(folder, { recursive: true }));

    it('in driver mode has half of the channels, and gives the others back, each interface what it had', async () => {
      deployed(FITS);
      writeFileSync(`${channels}.ens5`, '8');
      writeFileSync(`${channels}.ens6`, '3');
      await onEna('attach');
      expect(await status()).toMatchObject({ engine: 'direct', xdp_mode: 'driver' });
      expect(channelsNow()).toEqual(['4', '3']);
      await onEna('attach');
      await onEna('detach');
      expect(channelsNow()).toEqual(['8', '3']);
    });
  });

  describe('that is refused', () => {
    afterEach(() => peers(DRIVER_MODE_MTU));

    it('by the driver gives way to the next, degraded, until a new attach succeeds', async () => {
      deployed({ ...FITS, XDP_MODE: 'driver' });
      await peers(LAB.mtu);
      await attaches('direct', 'generic');
      const { state, reason } = await health();
      expect(state).toBe('degraded');
      expect(reason).toMatch(
        /^the direct engine in generic mode carries the traffic, the direct engine in driver mode is /,
      );
      expect(reason).toContain("interface 'ens");
      expect(await mtus()).toEqual([LAB.mtu, LAB.mtu]);
      await peers(DRIVER_MODE_MTU);
      await attaches('direct', 'driver');
      expect(await health()).toMatchObject({ state: 'healthy', reason: '' });
    });

    it("because of somebody else's program gives way to bridge, degraded, and leaves that program alone", async () => {
      deployed(AUTO);
      await inGateway('ip', 'link', 'set', 'dev', 'ens5', 'xdpgeneric', 'obj', FOREIGN, 'sec', 'xdp');
      await attaches('bridge', 'generic');
      expect(await health()).toMatchObject({
        state: 'degraded',
        reason: expect.stringContaining('somebody else') as string,
      });
      expect(await inGateway('ip', 'link', 'show', 'ens5')).toContain('xdpgeneric');
      await inGateway('ip', 'link', 'set', 'dev', 'ens5', 'xdpgeneric', 'off');
    });

    it("in driver mode because of somebody else's program on br0 gives way to generic mode, degraded", async () => {
      deployed(FITS);
      await inGateway('ip', 'link', 'set', 'dev', 'br0', 'xdpgeneric', 'obj', FOREIGN, 'sec', 'xdp');
      await attaches('direct', 'generic');
      const { state, reason } = await health();
      expect(state).toBe('degraded');
      expect(reason).toContain(
        "interface 'ens6' refuses XDP: it, or the bridge that it belongs to, carries another program",
      );
      await inGateway('ip', 'link', 'set', 'dev', 'br0', 'xdpgeneric', 'off');
    });

    it('in driver mode by the sizes that were asked for with it is degraded, too', async () => {
      deployed({ ...AUTO, XDP_MODE: 'driver' });
      await attaches('direct', 'generic');
      expect(await health()).toMatchObject({
        state: 'degraded',
        reason: expect.stringContaining('max_packet_size 9000: driver mode takes') as string,
      });
    });
  });

  it('in driver mode takes no setting that would lose datagrams', async () => {
    deployed(FITS);
    await deploy('attach');
    const { code, stderr } = await attempt('config', 'set', 'target_port=5', 'max_packet_size=3449');
    expect(code).toBe(1);
    expect(stderr).toBe(
      "deploy_xdp.sh: config: max_packet_size '3449' does not fit driver mode, where it is at most 3448; deploy with xdp_mode=generic\n",
    );
    expect(await deploy('config', 'get', 'target_port')).toBe('31765\n');
    await deploy('config', 'set', 'max_packet_size=3448');
  });

  describe('under its units', () => {
    const network = new Unit('network', () => 200);
    const xdp = new Unit('xdp', () => 200);

    /** Until it is hooked; it ends with the test. */
    async function start(settings: Settings, mode: string): Promise<void> {
      deployed(settings);
      xdp.start();
      await becomes(`${mode} mode`, async () => (await health()).xdp_mode === mode);
    }

    afterEach(async () => {
      await Promise.all([network.stop(), xdp.stop()]);
      await peers(DRIVER_MODE_MTU);
      await must('ip', ['-n', LAB.sink.namespace, 'link', 'set', LAB.sink.interface, 'address', LAB.sink.mac]);
      await inGateway(
        'ip',
        'neighbour',
        'replace',
        LAB.sink.address,
        'lladdr',
        LAB.sink.mac,
        'dev',
        'br0',
        'nud',
        'permanent',
      );
    });

    it('stays the same when its loader is killed, whatever would be better by now; attach changes it', async () => {
      await start(AUTO, 'generic');
      await deploy('config', 'set', `max_packet_size=${LARGEST_IN_DRIVER_MODE}`);
      await xdp.end('SIGKILL');
      await becomes('another loader', () => Promise.resolve(xdp.log.includes('updated on ens5')));
      expect(await status()).toMatchObject({ engine: 'direct', xdp_mode: 'generic' });
      await xdp.stop();
      await attaches('direct', 'driver');
    });

    it.each([
      ['generic', AUTO],
      ['driver', FITS],
    ])('in %s mode sends again after the second interface was unplugged and plugged in', async (mode, settings) => {
      network.start();
      await start(settings, mode);
      await unplugSecondary();
      await becomes('broken gateway', async () => (await health()).state === 'broken');
      await plugSecondary();
      await sinkTakesRedirects(true);
      await peers(DRIVER_MODE_MTU);
      await becomes('healthy gateway', async () => (await health()).state === 'healthy');
      const sent = async (): Promise<number> => {
        const { packets_modified, standby_packets } = await status();
        return packets_modified - standby_packets;
      };
      await becomes('redirected datagrams', async () => {
        const before = await sent();
        await forwards();
        return (await sent()) - before >= 20;
      });
      expect(await health()).toMatchObject({ engine: 'direct', xdp_mode: mode });
    });

    it('in generic mode still hands over what is too long for it after the ruleset was flushed', async () => {
      await peers(LAB.mtu);
      network.start();
      await start(AUTO, 'generic');
      const jumbo = () => [datagram(8900)];
      await forwards(jumbo());
      await inGateway('nft', 'flush', 'ruleset');
      await becomes('broken gateway', async () => (await health()).state === 'broken');
      await becomes('healthy gateway', async () => (await health()).state === 'healthy');
      await forwards(jumbo());
    });

    it('follows a next hop that gets another address, which none of its own packets would ask for', async () => {
      network.start();
      await start(FITS, 'driver');
      await forwards();
      const other = '02:00:0a:58:00:77';
      await must('ip', ['-n', LAB.sink.namespace, 'link', 'set', LAB.sink.interface, 'address', other]);
      await inGateway(
        'ip',
        'neighbour',
        'replace',
        LAB.sink.address,
        'lladdr',
        LAB.sink.mac,
        'dev',
        'br0',
        'nud',
        'stale',
      );
      const knows = async (): Promise<boolean> =>
        (await inGateway('ip', 'neighbour', 'show', LAB.sink.address, 'dev', 'br0')).includes(other);
      await becomes('gateway that knows the new address', knows, 60_000);
      await forwards();
    });
  });

  it('is given up when what it redirects is lost, and the next one takes the traffic, degraded', async () => {
    deployed(FITS);
    let loader: ChildProcess | undefined;
    const runs = (): ChildProcess =>
      spawn(...inNamespace(GATEWAY, DEPLOY_SCRIPT, 'run', 'xdp'), { stdio: 'ignore', detached: true });
    await lab.close(); // the stream's receiver has its port
    await Stream.build();
    const stream = await Stream.start({ pps: 2000, bytes: [1428], flows: 20 }, progress);
    try {
      loader = runs();
      await becomes('driver mode', async () => (await health()).xdp_mode === 'driver');
      const ended = once(loader, 'exit');
      await sinkTakesRedirects(false);
      expect(await ended).toEqual([GIVEN_UP, null]);
      expect(await status()).toMatchObject({ engine: 'standby', attached: false });
      await inGateway('env', `EXIT_STATUS=${GIVEN_UP}`, DEPLOY_SCRIPT, 'ended', 'xdp'); // as its unit does
      loader = runs();
      await becomes('generic mode', async () => (await health()).xdp_mode === 'generic');
      const { lost } = await stream.finish();
      expect(lost).toHaveLength(1); // from the change at the sink until the engine was given up
    } finally {
      stream.abort();
      loader?.kill();
      await sinkTakesRedirects(true);
      await lab.open();
    }
    expect(await health()).toMatchObject({
      state: 'degraded',
      reason: expect.stringContaining('redirected frames were lost') as string,
    });
    await forwards();
    expect(existsSync(join(RUNTIME, 'links'))).toBe(false);
  });
});
