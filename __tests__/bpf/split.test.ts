// SPDX-License-Identifier: Apache-2.0
// The share of flows that XDP takes, flow by flow: as much as was asked for, and never less of them at a higher setting.
import { Packet } from '../../lab/packets/packet';
import { DEFAULT_CONFIG, useProgram } from './program';

const FLOWS = 10_000;
const TOLERANCE = 0.015;
const DF_BYTE = 20;
const DF_BIT = 0x40;

/** As flows differ in practice: by client address, by port, or by both. */
const POPULATIONS: readonly (readonly [string, (flow: number) => string])[] = [
  ['addresses', (flow) => `198.18.${flow >> 8}.${flow & 0xff}:4000`],
  ['ports', (flow) => `198.51.100.7:${1024 + flow}`],
  ['addresses and ports', (flow) => `198.18.${flow >> 8}.${flow & 0xff}:${1024 + flow}`],
];

describe('the split', () => {
  const program = useProgram();

  /** Which of the frames lost their DF bit. */
  async function taken(frames: readonly Buffer[], percent: number): Promise<boolean[]> {
    // Small datagrams, for speed: the hash does not look at their length.
    program().configure({ ...DEFAULT_CONFIG, min_packet_size: 27, traffic_percent: percent });
    const { answers } = await program().run(frames);
    return answers.map(({ bytes }) => (bytes.readUInt8(DF_BYTE) & DF_BIT) === 0);
  }

  it.each(POPULATIONS)(`of ${FLOWS} flows with different %s is right and only grows`, async (_, from) => {
    const frames = Array.from({ length: FLOWS }, (__, flow) =>
      Packet.udp({ from: from(flow), to: '203.0.113.9:31765' })
        .totalLength(60)
        .df()
        .build(),
    );
    let before = await taken(frames, 0);
    expect(before).not.toContain(true);
    for (const percent of [1, 10, 25, 50, 75, 90, 99, 100]) {
      const now = await taken(frames, percent);
      const share = now.filter(Boolean).length / FLOWS;
      expect(Math.abs(share - percent / 100)).toBeLessThanOrEqual(TOLERANCE);
      expect(now.filter((mine, flow) => before[flow] && !mine)).toEqual([]);
      before = now;
    }
    expect(before).not.toContain(false);
  });
});
