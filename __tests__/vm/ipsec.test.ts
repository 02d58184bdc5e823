// SPDX-License-Identifier: Apache-2.0
// docs/ipsec-vm.md, run: its very commands make the tunnels between IPsec VM and far end on Debian's kernel, with real ESP, and
// mirrored datagrams go through the direct engine, the IPsec VM and the tunnel to a program that compares every byte.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Progress, REPOSITORY } from '../../lab/host';
import {
  IPSEC,
  IPSEC_PLACES,
  IpsecMachine,
  scriptAt,
  scriptToMirror,
  scriptToSend,
  type Sent,
  type Streamed,
} from '../../lab/ipsec';
import { Packet } from '../../lab/packet';
import { type Step, stepsOf } from '../../lab/procedures';
import { buildProgram } from '../bpf/program';

const PAGE = 'ipsec-vm.md';
const MINUTE = 60_000;
const SIZES = [1428, 2852, 8486];
const COUNT = 90;
const STEPS = stepsOf(PAGE);

let booted: IpsecMachine | undefined;
const machine = (): IpsecMachine => {
  if (booted) return booted;
  throw new Error('the machine is not up: its beforeAll failed');
};

beforeAll(async () => {
  buildProgram();
  booted = await IpsecMachine.boot(new Progress('ipsec'));
}, 15 * MINUTE);
afterAll(() => booted?.powerOff(), MINUTE);

/** A section's commands, all of one place. */
function commandsOf(heading: string): string {
  return stepsUnder(heading)
    .flatMap(({ commands }) => commands)
    .join('\n');
}

function stepsUnder(heading: string): readonly Step[] {
  const steps = STEPS.filter((step) => step.heading === heading);
  if (steps.length > 0) return steps;
  throw new Error(`docs/${PAGE} has no commands under "${heading}"`);
}

/** Runs a section's commands where the page says, as they are but for what a test leaves out. */
async function follow(heading: string, change: (commands: string) => string = (commands) => commands): Promise<void> {
  for (const step of stepsUnder(heading)) await machine().at(placeOf(step), change(step.commands.join('\n')));
}

function placeOf({ place, heading }: Step): (typeof IPSEC_PLACES)[number] {
  const found = IPSEC_PLACES.find((name) => name === place);
  if (found === undefined) throw new Error(`${heading}: place "${place}": ${IPSEC_PLACES.join(' or ')} is expected`);
  return found;
}

const fragments = (wire: readonly Sent[]): readonly Sent[] => wire.filter(({ fragment }) => fragment);
const longest = (wire: readonly Sent[]): number => Math.max(...wire.map(({ length }) => length));

function expectAll({ judgement }: Streamed, count = COUNT): void {
  const right = { received: count, duplicates: 0, corrupt: 0, reordered: 0, judge_drops: 0, missing: 0 };
  expect(judgement).toMatchObject(right);
}

describe('a route-based tunnel', () => {
  beforeAll(async () => {
    await follow('A key');
    await follow('From the gateway into the tunnel');
    await follow('The tunnel, route-based');
  }, MINUTE);

  let streamed: Streamed;
  test('brings datagrams of 1428, 2852 and 8486 bytes whole and right to the far end', async () => {
    streamed = await machine().stream(SIZES, COUNT);
    expectAll(streamed);
  });

  test('of which not one IP fragment is on the wire, but ESP packets of at most 1500 bytes: 1, 2 and 6 a datagram', () => {
    const { wire } = streamed;
    expect(fragments(wire)).toEqual([]);
    expect(wire.filter(({ protocol }) => protocol !== 'ESP')).toEqual([]);
    expect(wire).toHaveLength((COUNT / SIZES.length) * (1 + 2 + 6));
    expect(longest(wire)).toBeLessThanOrEqual(1500);
  });

  test('brings small ones as well, which keep DF', async () => {
    const small = await machine().stream([100, 1400], 20);
    expectAll(small, 20);
    expect(small.wire).toHaveLength(20);
    expect(small.wire.filter(({ df, fragment }) => !df || fragment)).toEqual([]);
  });

  test('leaves a datagram without UDP checksum without one', async () => {
    await machine().at(
      'far',
      `nft 'table ip seen { chain input { type filter hook input priority 0; udp checksum 0 counter; }; }'`,
    );
    const before = await machine().counters();
    const packet = Packet.udp({ from: '198.51.100.7:40000', to: '203.0.113.9:31765' }).totalLength(2852).df();
    expect(await machine().capture(scriptToMirror(packet.udpChecksum('zero')))).toHaveLength(2);
    expect(await machine().at('far', 'nft list table ip seen')).toContain('udp checksum 0 counter packets 1 ');
    const after = await machine().counters();
    // Nobody listens now: the kernel counts what is whole and right as without a port.
    const grown = (name: string): number => (after[name] ?? NaN) - (before[name] ?? NaN);
    expect([grown('Udp: NoPorts'), grown('Udp: InErrors'), grown('Ip: ReasmOKs'), grown('Ip: ReasmFails')]).toEqual([
      1, 0, 1, 0,
    ]);
  });

  test('tells no mirrored host of a datagram that fits the tunnel only in fragments, and has DF', async () => {
    const dropped = (): Promise<string> => machine().at('vm', 'nft list chain ip mirror_tunnel output');
    expect(await dropped()).toContain('counter packets 0 ');
    expect(await machine().capture(scriptToSend(1480, { df: true }))).toEqual([]);
    expect(await dropped()).toContain('counter packets 1 ');
  });

  test('has the MTU of the table: what is as long leaves in one packet, and with one more it would leave in fragments', async () => {
    const rows = mtuTable();
    const send = ({ path, natT, mtu }: Row, more: number): string =>
      scriptAt('vm', commandsOf('A key')) +
      scriptAt(
        'vm',
        `
        ip xfrm state flush
        ip route replace ${IPSEC.peer}/32 via ${IPSEC.router} dev ens5 mtu ${path}
        ip link set ipsec0 mtu ${mtu + more}
        ip xfrm state add src ${IPSEC.vm} dst ${IPSEC.peer} proto esp spi 0x1001 reqid 7 mode tunnel if_id 7 \\
          ${natT ? 'encap espinudp 4500 4500 0.0.0.0' : ''} aead 'rfc4106(gcm(aes))' "$(cat /root/esp.key)" 128`,
      ) +
      scriptToSend(mtu + more);
    const wire = await machine().capture(rows.map((row) => send(row, 0) + send(row, 1)).join(''));
    expect(wire).toHaveLength(rows.length * 3);
    for (const [index, { path, natT }] of rows.entries()) {
      const [one, ...two] = wire.slice(index * 3, index * 3 + 3);
      expect(one).toMatchObject({ protocol: natT ? 'UDP' : 'ESP', fragment: false });
      expect(one?.length).toBeLessThanOrEqual(path);
      expect(fragments(two)).toHaveLength(2);
    }
  });
});

describe('the traps', () => {
  test('a tunnel interface whose MTU is not set lets ESP packets be fragmented', async () => {
    await remove();
    await follow('A key');
    await follow('The tunnel, route-based', (commands) => {
      const line = /^ip link set ipsec0 mtu \d+ up$/m;
      return line.test(commands) ? commands.replace(line, 'ip link set ipsec0 up') : commands;
    });
    const streamed = await machine().stream(SIZES, COUNT);
    expectAll(streamed);
    expect(fragments(streamed.wire).length).toBeGreaterThan(COUNT);
  });

  test('a policy-based tunnel does so in any case: all arrive here, but EC2 would drop most', async () => {
    await remove();
    await follow('A key');
    await follow('The trap: a policy-based tunnel');
    const streamed = await machine().stream(SIZES, COUNT);
    expectAll(streamed);
    // 1428 bytes fit with ESP's; of 2852 and 8486 there are two and six fragments.
    expect(fragments(streamed.wire)).toHaveLength((COUNT / SIZES.length) * (2 + 6));
    expect(streamed.wire).toHaveLength((COUNT / SIZES.length) * (1 + 2 + 6));
  });
});

async function remove(): Promise<void> {
  for (const place of IPSEC_PLACES)
    await machine().at(
      place,
      'ip xfrm policy flush\nip xfrm state flush\nip link delete ipsec0\nip route flush 203.0.113.50',
    );
}

interface Row {
  readonly path: number;
  readonly natT: boolean;
  readonly mtu: number;
}

/** The page's table: path MTU, the tunnel's without NAT-T, and with it. */
function mtuTable(): Row[] {
  const text = readFileSync(join(REPOSITORY, 'docs', PAGE), 'utf8');
  const rows = [...text.matchAll(/^\| (\d+)\b.*\| (\d+) \| (\d+) \|$/gm)].map((row) => row.slice(1).map(Number));
  if (rows.length === 0) throw new Error(`docs/${PAGE} has no table of MTUs`);
  return rows.flatMap(([path = 0, plain = 0, natT = 0]) => [
    { path, natT: false, mtu: plain },
    { path, natT: true, mtu: natT },
  ]);
}
