// SPDX-License-Identifier: Apache-2.0
// deploy_xdp.sh status on a gateway with traffic: as a person sees it, over and over in a terminal, and as programs read it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { DEPLOY_SCRIPT } from '../../constructs/user-data/user-data';
import { inNamespace, must, Progress, run, sleep } from '../../lab/support/host';
import { deploy, LAB, labDown, labUp, SETTINGS_FILE } from '../../lab/namespaces/namespaces';
import { parsePrometheus, type PrometheusFamily } from '../../lab/support/prometheus';
import { Stream } from '../../lab/packets/traffic-stream';
import { status } from './gateway';

const GATEWAY = LAB.primary.namespace;
const PPS = 2000;
/** Stands for the control character. */
const ESCAPE = '<ESC>';
const progress = new Progress('status');

const cells = (text: string, name: string) =>
  (new RegExp(`^  ${name} +(\\S+) +(\\S+)$`, 'm').exec(text) ?? [])
    .slice(1)
    .map((cell) => Number(cell.replaceAll(',', '')));

function total(families: readonly PrometheusFamily[], family: string): number {
  return families.find(({ name }) => name === `mirror_gateway_${family}`)?.samples[0]?.value ?? NaN;
}

/** What a terminal gets until Ctrl-C, as the terminal's own driver makes an interrupt of it. */
async function typed(command: string, env: NodeJS.ProcessEnv, milliseconds: number): Promise<string> {
  const inside = inNamespace(GATEWAY, DEPLOY_SCRIPT, 'status', ...command.split(' ').filter(Boolean))
    .flat()
    .join(' ');
  const args = ['-qec', `stty rows 24 cols 80; ${inside}; echo "exit code $?"`, '/dev/null'];
  const child = spawn('script', args, {
    env: { ...process.env, SHELL: '/bin/bash', TERM: 'xterm', ...env }, // a plain sh would end by the interrupt itself
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  const timer = setTimeout(() => child.stdin.write('\u0003'), milliseconds);
  await once(child, 'close');
  clearTimeout(timer);
  return output.replaceAll('\u001b', ESCAPE);
}

describe('the status', () => {
  let stream: Stream | undefined;

  beforeAll(async () => {
    await labUp('direct/generic');
    await Stream.build();
    stream = await Stream.start({ pps: PPS }, progress);
  });
  afterAll(async () => {
    stream?.abort();
    await labDown();
  });

  it('says that all is well, with the rate that the generator sends and the total that the JSON has', async () => {
    const before = await status();
    const text = await deploy('status');
    const after = await status();
    expect(text).toMatch(/^healthy\nengine direct, mode generic, interface ens5, for \d+ s\n\n/);
    const [rate = 0, seen = 0] = cells(text, 'packets_seen');
    expect(Math.abs(rate / PPS - 1)).toBeLessThan(0.1);
    expect(seen).toBeGreaterThan(before.packets_seen);
    expect(seen).toBeLessThanOrEqual(after.packets_seen);
    expect(cells(text, 'xdp_packets')).toEqual(cells(text, 'packets_modified'));
    expect(text.split('\n').length).toBeLessThanOrEqual(26);
    expect(text).not.toContain('\u001b');
  });

  it('moves the traffic from row to row as engines change, and says what to do', async () => {
    await deploy('rollback');
    const text = await deploy('status');
    expect(text).toMatch(/^degraded: nfqueue carries the traffic, XDP was asked for\nto do: sudo deploy_xdp.sh attach/);
    expect(text).toMatch(/^engine nfqueue, interface br0, for \d+ s$/m);
    const [rate = 0] = cells(text, 'nfqueue_packets');
    expect(Math.abs(rate / PPS - 1)).toBeLessThan(0.1);
    await deploy('detach');
    await deploy('config', 'set', 'traffic_percent=50');
    await deploy('attach');
    expect(await deploy('status')).toMatch(/traffic_percent=50 \(deployed: 100\)$/m);
    await deploy('config', 'set', 'traffic_percent=100');
  });

  it('in a terminal is drawn in place until Ctrl-C, and gives the cursor back', async () => {
    const output = await typed('--watch 1', {}, 4500);
    expect(output.startsWith('<ESC>[?25l<ESC>[?7l<ESC>[2J')).toBe(true);
    const frames = output.split('<ESC>[H').slice(1);
    expect(frames.length).toBeGreaterThanOrEqual(2);
    for (const frame of frames) expect(frame).toMatch(/^\S*every 1 s, .*\r\n.*healthy[^]*<ESC>\[J/);
    expect(output.trimEnd()).toMatch(/<ESC>\[\?7h<ESC>\[\?25hexit code 0$/);
  });

  it.each([
    ['NO_COLOR is set', { NO_COLOR: '1' }, 0],
    ['NO_COLOR is empty', { NO_COLOR: '' }, 1],
    ['the terminal is dumb', { TERM: 'dumb' }, 0],
  ])('where %s has %s colours or none', async (_, env, colours) => {
    const output = await typed('', env, 60_000);
    expect(output).toContain('healthy');
    expect(output.includes('<ESC>[1;32m')).toBe(colours === 1);
    expect(output.includes(ESCAPE)).toBe(colours === 1);
  });

  it('without a terminal is a block after the other, and ends when told to', async () => {
    const [command, args] = inNamespace(GATEWAY, DEPLOY_SCRIPT, 'status', '--watch', '1');
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    while (output.split('\n\nevery').length < 2 && child.exitCode === null) await once(child.stdout, 'data');
    child.kill('SIGTERM');
    await once(child, 'close');
    expect(child.exitCode).toBe(0);
    expect(output).toMatch(/^every 1 s/);
    expect(output).not.toContain('\u001b');
  });

  it.each([
    '--watch 0',
    '--watch -1',
    '--watch 1.5',
    '--watch 1 2',
    '--watch 99999',
    '--watch x',
    '--bogus',
    '--json x',
  ])('refuses %s, and says what is allowed', async (options) => {
    const { code, stdout, stderr } = await run(...inNamespace(GATEWAY, DEPLOY_SCRIPT, 'status', ...options.split(' ')));
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      /^deploy_xdp\.sh: status: .*(from 1 to 9999|--json, --prometheus, --watch \[SECONDS\], or none)\n$/,
    );
  });

  it('asks the loader and the counters of netfilter once a sample', async () => {
    const traced = inNamespace(GATEWAY, 'bash', '-x', DEPLOY_SCRIPT, 'status', '--prometheus');
    const { stderr } = await run(...traced);
    expect(stderr.match(/^\++ \S*udp_df_modifier_loader status /gm)).toHaveLength(1);
    expect(stderr.match(/^\++ nft -j list counters$/gm)).toHaveLength(1);
  });

  it('for Prometheus is what its own parser takes, with the numbers of the JSON, whichever engine runs', async () => {
    for (const verb of ['attach', 'detach', 'rollback', 'attach']) {
      await deploy(verb);
      const before = await status();
      const families = await parsePrometheus(await deploy('status', '--prometheus'));
      const after = await status();
      for (const { name, type, documentation, samples } of families) {
        expect({ name, type, documentation }).toEqual({
          name: expect.stringMatching(/^mirror_gateway_[a-z0-9_]+$/) as unknown,
          type: expect.stringMatching(/^(counter|gauge)$/) as unknown,
          documentation: expect.stringMatching(/./) as unknown,
        });
        if (type === 'counter') samples.forEach((each) => expect(each.name).toBe(`${name}_total`));
      }
      expect(total(families, 'up')).toBe(1);
      expect(total(families, 'xdp_attached')).toBe(Number(after.attached));
      const [info] = families.find(({ name }) => name === 'mirror_gateway_info')?.samples ?? [];
      expect(info?.labels).toMatchObject({ engine: after.engine });
      for (const name of [
        'packets_seen',
        'packets_matched',
        'packets_modified',
        'nfqueue_packets',
        'standby_packets',
      ] as const) {
        expect(total(families, name)).toBeGreaterThanOrEqual(before[name]);
        expect(total(families, name)).toBeLessThanOrEqual(after[name]);
      }
      expect(total(families, 'processed_bytes')).toBeGreaterThanOrEqual(before.bytes_processed);
    }
  });

  it('costs the traffic nothing', async () => {
    const { lost, sent } = (await stream?.finish()) ?? { lost: [[0, 0]], sent: { sent: 0 } };
    expect(lost).toEqual([]);
    expect(sent.sent).toBeGreaterThan(0);
  });

  describe('of fragments', () => {
    /** As if the stack had deployed it. */
    async function deployEgressMtu(mtu: number): Promise<void> {
      const settings = readFileSync(SETTINGS_FILE, 'utf8');
      writeFileSync(SETTINGS_FILE, settings.replace(/^EGRESS_MTU=.*$/m, `EGRESS_MTU=${mtu}`));
      await deploy('network-up');
      await deploy('attach');
    }

    /** A verb where Amazon's driver has a parameter of this value. */
    function withBypass(value: string, verb: string): Promise<string> {
      const folder = '/sys/module/ena/parameters';
      const driver = `mount -t tmpfs none /sys/module && mkdir -p ${folder} && echo ${value} >${folder}/enable_frag_bypass`;
      return must(...inNamespace(GATEWAY, 'unshare', '-m', 'sh', '-c', `${driver} && ${DEPLOY_SCRIPT} ${verb}`));
    }

    const lineOf = (preflight: string) => preflight.split('\n').filter((line) => / fragments /.test(line));
    const bypassOf = (json: string) => (JSON.parse(json) as { fragment_bypass: string }).fragment_bypass;

    beforeAll(async () => {
      stream = await Stream.start({ pps: PPS }, progress);
    });

    it('says that there are none while datagrams leave whole', async () => {
      await deployEgressMtu(9001);
      expect(await deploy('status')).toMatch(/^fragments: none\b/m);
      expect(lineOf(await deploy('preflight'))).toEqual([
        'ok   fragments    none: egress_mtu 9001 takes every mirrored datagram whole',
      ]);
    });

    it.each([
      ['attach', 'fragments_sent'],
      ['rollback', 'kernel_fragments'],
    ] as const)('counts two of each datagram after %s, and says how many EC2 drops of them', async (verb, counter) => {
      await deployEgressMtu(1400);
      await deploy(verb);
      const text = await deploy('status');
      const [rate = 0] = cells(text, counter);
      expect(Math.abs(rate / (2 * PPS) - 1)).toBeLessThan(0.1);
      expect(text).toMatch(/^ {2}EC2 drops [23],\d{3} of them a second, all beyond 1,024;\n {2}to do: /m);
      const before = (await status())[counter];
      await sleep(1000);
      expect((await status())[counter] - before).toBeGreaterThan(PPS);
      expect(await deploy('stats')).toMatch(/^kernel\.fragments +\d+$/m);
    });

    it('says whether the driver takes them past the limit, and never refuses an engine for it', async () => {
      expect(bypassOf(await deploy('status', '--json'))).toBe('absent');
      expect(bypassOf(await withBypass('0', 'status --json'))).toBe('off');
      expect(bypassOf(await withBypass('1', 'status --json'))).toBe('on');
      expect(await withBypass('1', 'status')).toMatch(/^ {2}ENA's fragment bypass is on: EC2's limit .* not count$/m);
      const note =
        'note fragments    egress_mtu 1400 cuts longer datagrams, and of fragments EC2 drops what is beyond 1024';
      expect(lineOf(await deploy('preflight'))).toEqual([expect.stringMatching(`^${note}.*2\\.13\\.3.*is absent`)]);
      expect(lineOf(await withBypass('0', 'preflight'))).toEqual([
        expect.stringMatching(`^${note}.*enable_frag_bypass=1 and without enable_bql .*is off`),
      ]);
      expect(lineOf(await withBypass('1', 'preflight'))).toEqual([
        "ok   fragments    egress_mtu 1400 cuts longer datagrams; ENA's fragment bypass is on",
      ]);
    });
  });
});
