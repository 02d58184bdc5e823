// SPDX-License-Identifier: Apache-2.0
// What the load balancer is told about a gateway, and what becomes of gateway and traffic when it asks too much.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Flood } from '../../lab/namespaces/flood';
import { type Answer, HealthEndpoint, VERDICT_FILE } from '../../lab/namespaces/health';
import { Progress, waitFor } from '../../lab/support/host';
import { deploy, labDown, labUp, plugSecondary, unplugSecondary } from '../../lab/namespaces/namespaces';
import { Unit } from '../../lab/namespaces/stress';
import { Stream } from '../../lab/packets/traffic-stream';

const HEALTHY = { state: 'healthy', engine: 'direct', xdp_mode: 'generic', reason: '' };
const PPS = 5000;
const REQUESTS = 1000;
/** More than the endpoint has room for. */
const HALF_OPEN = 300;
const ROOM = 256;
const FLOODS = 3;
/** kB that a process may gain by touching pages of its libraries for the first time. */
const FLAT = 64;

const progress = new Progress('health');

const uptimeIn = (file: string): number => Number(/^[\d.]+/.exec(readFileSync(file, 'utf8'))?.[0]);

/** Of the network's watch, at the gateway as it is now. */
async function nextLook(): Promise<void> {
  const now = uptimeIn('/proc/uptime');
  const looked = (): true | undefined => uptimeIn(VERDICT_FILE) > now || undefined;
  await waitFor('next look of the watch', looked, { timeoutMs: 30_000, progress });
}

const rank = (sorted: readonly number[], share: number): number => sorted[Math.floor(sorted.length * share)] ?? NaN;
const tell = (sorted: readonly number[]) =>
  `median ${rank(sorted, 0.5).toFixed(1)} ms, p99 ${rank(sorted, 0.99).toFixed(1)} ms`;

describe('the health endpoint', () => {
  const network = new Unit('network', () => 100);
  let endpoint: HealthEndpoint;

  const becomes = (what: string, answer: Answer): Promise<Answer> => {
    const probe = async (): Promise<Answer | undefined> => {
      const found = await endpoint.ask();
      return JSON.stringify(found) === JSON.stringify(answer) ? found : undefined;
    };
    return waitFor(what, probe, { timeoutMs: 60_000, progress });
  };

  beforeAll(async () => {
    await labUp('direct/generic');
    await Stream.build();
    network.start();
    endpoint = await HealthEndpoint.start(progress);
    await becomes('healthy gateway', { code: 200, body: HEALTHY });
  });
  afterAll(async () => {
    await endpoint?.stop();
    await network.stop();
    await labDown();
  });

  it('is as fast as a load balancer could wish', async () => {
    const { milliseconds, answers } = await endpoint.flood(20, 0);
    progress.say(`idle: ${tell(milliseconds)}`);
    expect(Object.values(answers)).toEqual([20]);
    // Of an order, not to the millisecond: the machine has other work.
    expect(rank(milliseconds, 0.5)).toBeLessThan(100);
  });

  it('serves nothing else', async () => {
    for (const path of ['/', '/healthz/', '/healthz?now', '/healthzz'])
      expect(await endpoint.ask(path)).toEqual({ code: 404, body: { error: 'only GET /healthz is served' } });
  });

  it.each([
    ['rollback', 'nfqueue'],
    ['detach', 'standby'],
  ])('says degraded, why, and still 200 as soon as %s has ended; healthy after attach', async (verb, engine) => {
    await deploy(verb);
    expect(await endpoint.ask()).toEqual({
      code: 200,
      body: { state: 'degraded', engine, xdp_mode: 'none', reason: `${engine} carries the traffic, XDP was asked for` },
    });
    await deploy('attach');
    expect(await endpoint.ask()).toEqual({ code: 200, body: HEALTHY });
  });

  it('goes by the settings that are in force, not by those with which its watch began', async () => {
    await deploy('config', 'set', 'traffic_percent=50');
    await network.stop();
    network.start();
    await nextLook();
    await deploy('config', 'set', 'traffic_percent=100');
    await nextLook();
    expect(await endpoint.ask()).toEqual({ code: 200, body: HEALTHY });
  });

  it('says broken, why, and 503 while packets cannot flow, and is healthy again with the gateway', async () => {
    await unplugSecondary();
    const reason = 'ens6 is no active port of br0';
    await becomes('broken gateway', { code: 503, body: { ...HEALTHY, state: 'broken', reason } });
    await plugSecondary();
    await becomes('healthy gateway', { code: 200, body: HEALTHY });
  });

  it('does not believe a watch that is silent for longer than 30 s, nor one that never spoke', async () => {
    await network.stop();
    const [at = '', ...rest] = readFileSync(VERDICT_FILE, 'utf8').split(' ');
    writeFileSync(VERDICT_FILE, [Number(at) - 40, ...rest].join(' '));
    const broken = (reason: string) => ({
      code: 503,
      body: {
        ...{ state: 'broken', engine: 'unknown', xdp_mode: 'unknown' },
        reason: expect.stringMatching(`^${reason}; see: systemctl status mirror-gateway-network$`) as unknown,
      },
    });
    expect(await endpoint.ask()).toEqual(broken('no verdict for \\d+ s'));
    for (const text of ['', 'nonsense', `${at} 200 OK\n`]) {
      writeFileSync(VERDICT_FILE, text);
      expect(await endpoint.ask()).toEqual(broken('no verdict yet'));
    }
    rmSync(VERDICT_FILE);
    expect(await endpoint.ask()).toEqual(broken('no verdict yet'));
    network.start();
    await becomes('healthy gateway', { code: 200, body: HEALTHY });
  });

  describe(`under ${REQUESTS} requests a second and ${HALF_OPEN} connections that say nothing or not enough`, () => {
    const floods: Flood[] = [];
    const memory: { resident: number; proportional: number; own: number }[] = [];
    let stream: Stream;

    beforeAll(async () => {
      stream = await Stream.start({ pps: PPS }, progress);
      for (let i = 0; i < FLOODS; i++) {
        const before = await endpoint.seconds();
        const flood = await endpoint.flood(REQUESTS, HALF_OPEN);
        const [now, seconds] = [await endpoint.memory(), (await endpoint.seconds()) - before];
        const { answers, refused, milliseconds, reopened } = flood;
        const answered = Object.values(answers).reduce((sum, count) => sum + count, 0);
        progress.say(
          `${answered} of ${REQUESTS} answered, ${refused} refused, all sent within ${flood.seconds.toFixed(2)} s; ` +
            `${tell(milliseconds)}; ${reopened} times another took a silent one's place; ` +
            `${seconds.toFixed(2)} s of a processor; PSS ${now.proportional} kB, RSS ${now.resident} kB, own ${now.own} kB`,
        );
        floods.push(flood);
        memory.push(now);
      }
    });
    afterAll(() => stream?.abort());

    it('answers what it answers with what is true', () => {
      for (const { answers } of floods)
        expect(Object.keys(answers)).toEqual([
          expect.stringMatching(
            /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\n\{"state":"healthy","engine":"direct",.*\}\n$/,
          ) as unknown,
        ]);
    });

    // A few may meet a place that has to be given up for another; how fast the rest is, the line above says.
    it('answers nearly all of them', () => {
      for (const { refused } of floods) expect(refused).toBeLessThan(REQUESTS / 10);
    });

    it('keeps so many connections and no more, and none of those that are silent for long', async () => {
      const flooding = endpoint.flood(1, HALF_OPEN);
      const open: number[] = [];
      const listen = setInterval(() => void endpoint.descriptors().then((count) => open.push(count)), 50);
      await flooding;
      clearInterval(listen);
      expect(Math.max(...open)).toBeGreaterThan(ROOM / 2);
      expect(Math.max(...open)).toBeLessThanOrEqual(ROOM + 8);
      const few = async (): Promise<true | undefined> => (await endpoint.descriptors()) < 8 || undefined;
      await waitFor('end of the silent connections', few, { timeoutMs: 10_000, progress });
    });

    it('takes no more memory after the last flood than after the first', () => {
      const [first, last] = [memory[0], memory.at(-1)];
      expect((last?.resident ?? NaN) - (first?.resident ?? NaN)).toBeLessThanOrEqual(FLAT);
      expect((last?.own ?? NaN) - (first?.own ?? NaN)).toBeLessThanOrEqual(FLAT);
    });

    it('answers afterwards as before', async () => {
      expect(await endpoint.ask()).toEqual({ code: 200, body: HEALTHY });
    });

    it('costs the traffic nothing', async () => {
      const { lost, sent } = await stream.finish();
      progress.say(`${sent.sent} datagrams, ${Math.round(sent.pps)} a second, none lost`);
      expect(sent.sent).toBeGreaterThan(PPS);
      expect(lost).toEqual([]);
    });
  });
});
