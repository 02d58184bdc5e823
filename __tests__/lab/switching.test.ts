// SPDX-License-Identifier: Apache-2.0
// Changing engines under traffic: whatever an engine lets go of, netfilter takes with the very next packet.
import { readFileSync } from 'node:fs';
import { payloadHash } from '../../lab/packets/decode';
import { ENGINES, isXdp, statusOf } from '../../lab/namespaces/engines';
import { deploy, LEGACY_PID_FILE } from '../../lab/namespaces/namespaces';
import { Packet } from '../../lab/packets/packet';
import { countersOf, mirror, status, untranslated, useLab } from './gateway';

/** Large datagrams with DF, each with an id and a flow of its own. */
function stream(count: number, length = 1428): Packet[] {
  return Array.from({ length: count }, (_, id) =>
    Packet.udp({ from: `198.51.100.7:${1024 + id}`, to: '203.0.113.9:31765' })
      .id(id)
      .totalLength(length)
      .df(),
  );
}

function hashes(packets: readonly Packet[]): string[] {
  return packets.map((packet) => payloadHash(packet.data())).sort();
}

/** A veth drops what lies in its ring when XDP in its driver goes or comes; a card that takes its link down loses more. */
const IN_A_RING = 64;

describe.each(ENGINES.filter(isXdp))('engine %s', (engine) => {
  const lab = useLab(engine);

  /** Engines change while datagrams flow, and some flow after each change: nothing here depends on how long it takes. */
  async function throughEach(verbs: readonly string[], each: number): Promise<void> {
    for (const verb of verbs) {
      await deploy(verb);
      const target = lab.receiver.datagrams.length + each;
      await lab.receiver.see(`${each} datagrams after ${verb}`, () => lab.receiver.datagrams.length >= target, 30_000);
    }
  }

  it('loses nothing, or no more than lies in a ring, while XDP is detached, attached, rolled back and attached again', async () => {
    const packets = stream(10_000);
    const frames = packets.map((packet) => mirror(packet));
    const verbs = ['detach', 'attach', 'rollback', 'attach'];
    let finished = false;
    const delta = await countersOf(async () => {
      const exchanged = lab.send(frames, { packetsPerSecond: 500 }).finally(() => (finished = true));
      await throughEach(verbs, 100);
      expect(finished).toBe(false);
      const outcome = await exchanged;
      const received = new Set(outcome.received.map((each) => each.payloadHash));
      expect(received.size).toBe(outcome.received.length);
      const lost = hashes(packets).filter((hash) => !received.has(hash));
      if (engine === 'direct/driver') expect(lost.length).toBeLessThanOrEqual(verbs.length * IN_A_RING);
      else expect(lost).toEqual([]);
      expect(outcome.datagrams.filter(({ fragments }) => fragments.some(({ df }) => df))).toEqual([]);
      expect(untranslated(outcome.atSink)).toEqual([]);
      expect(outcome.strayAtSource).toEqual([]);
    });
    expect(delta.standby_packets).toBeGreaterThan(100);
    expect(await status()).toMatchObject(statusOf(engine));
  });

  describe('with a share of the flows', () => {
    afterAll(() => deploy('config', 'set', 'traffic_percent=100'));

    it.each([0, 50, 100])('of %i %%, leaves the others to the NFQUEUE daemon', async (percent) => {
      await deploy('config', 'set', `traffic_percent=${percent}`);
      const packets = stream(400);
      const delta = await countersOf(async () => {
        const outcome = await lab.send(packets.map((packet) => mirror(packet)));
        expect(outcome.received.map((each) => each.payloadHash).sort()).toEqual(hashes(packets));
        expect(untranslated(outcome.atSink)).toEqual([]);
      });
      const total = packets.length + 1;
      expect(delta).toMatchObject({ packets_matched: total, standby_packets: 0 });
      if (percent < 100) expect(delta.nfqueue_packets).toBe(delta.packets_left_to_netfilter);
      expect(delta.packets_modified + delta.packets_left_to_netfilter).toBe(total);
      expect(delta.packets_left_to_netfilter / total).toBeCloseTo(1 - percent / 100, 0.5);
    });
  });
});

describe('engine nfqueue', () => {
  const lab = useLab('nfqueue');

  it('leaves the traffic to the fallback rule when its program is killed', async () => {
    process.kill(Number(readFileSync(LEGACY_PID_FILE, 'utf8')), 'SIGKILL');
    const packets = stream(200, 2852);
    const delta = await countersOf(async () => {
      const outcome = await lab.send(packets.map((packet) => mirror(packet)));
      expect(outcome.received.map((each) => each.payloadHash)).toEqual(packets.map((p) => payloadHash(p.data())));
      expect(untranslated(outcome.atSink)).toEqual([]);
    });
    expect(delta.standby_packets).toBe(packets.length + 1);
    expect(await status()).toMatchObject({ engine: 'standby' });
  });
});
