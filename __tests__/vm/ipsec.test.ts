// SPDX-License-Identifier: Apache-2.0
// docs/ipsec-vm.md, run: its very commands make the tunnels between IPsec VM and far end on Debian's kernel, with real ESP, and
// mirrored datagrams go through the direct engine, the IPsec VM and the tunnel to a program that compares every byte.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Progress, REPOSITORY } from '../../lab/support/host';
import {
  IPSEC,
  IPSEC_PLACES,
  IpsecMachine,
  scriptToMirror,
  scriptToSend,
  scriptWithDf,
  type Sent,
  type Streamed,
} from '../../lab/vm/ipsec';
import { Packet } from '../../lab/packets/packet';
import { type Step, stepsOf } from '../../lab/support/procedures';
import { buildProgram } from '../bpf/program';

const PAGE = 'ipsec-vm.md';
const MINUTE = 60_000;
const SIZES = [1428, 2852, 8486];
const COUNT = 90;
const STEPS = stepsOf(PAGE);
const TEXT = readFileSync(join(REPOSITORY, 'docs', PAGE), 'utf8');

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

function expectAll({ report }: Streamed, count = COUNT): void {
  const right = { received: count, duplicates: 0, corrupt: 0, reordered: 0, receiver_drops: 0, missing: 0 };
  expect(report).toMatchObject(right);
}

let routeBased: Streamed;
let unset: Streamed;
let policyBased: Streamed;

describe('a route-based tunnel', () => {
  beforeAll(async () => {
    await follow('A key');
    await follow('From the gateway into the tunnel');
    await follow('The tunnel, route-based');
  }, MINUTE);

  test('brings datagrams of 1428, 2852 and 8486 bytes whole and right to the far end', async () => {
    routeBased = await machine().stream(SIZES, COUNT);
    expectAll(routeBased);
  });

  test('of which not one IP fragment is on the wire, but ESP packets of at most 1500 bytes: 1, 2 and 6 a datagram', () => {
    const { wire } = routeBased;
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
    expect(await machine().capture(scriptWithDf(scriptToSend(1480)))).toEqual([]);
    expect(await dropped()).toContain('counter packets 1 ');
  });

  test.each([
    ['without NAT-T', 'plain', ''],
    ['with NAT-T', 'natT', 'encap espinudp 4500 4500 0.0.0.0'],
  ] as const)(
    '%s has the MTU of the table: one byte more, and it would leave in fragments',
    async (_, column, encap) => {
      await follow('A key');
      await machine().at(
        'vm',
        `
      ip xfrm state flush
      ip xfrm state add src ${IPSEC.vm} dst ${IPSEC.peer} proto esp spi 0x1001 reqid 7 mode tunnel if_id 7 \\
        ${encap} aead 'rfc4106(gcm(aes))' "$(cat /root/esp.key)" 128`,
      );
      const rows = mtuTable();
      const send = (path: number, mtu: number): string => `
      ip -n vm route replace ${IPSEC.peer}/32 via ${IPSEC.router} dev ens5 mtu ${path}
      ip -n vm link set ipsec0 mtu ${mtu}
      ${scriptToSend(mtu)}`;
      const scripts = rows.map((row) => send(row.path, row[column]) + send(row.path, row[column] + 1));
      const wire = await machine().capture(scripts.join(''));
      expect(wire).toHaveLength(rows.length * 3);
      for (const [index, { path }] of rows.entries()) {
        const [one, ...two] = wire.slice(index * 3, index * 3 + 3);
        expect(one).toMatchObject({ protocol: encap === '' ? 'ESP' : 'UDP', fragment: false });
        expect(one?.length).toBeLessThanOrEqual(path);
        expect(fragments(two)).toHaveLength(2);
      }
    },
  );
});

describe('the traps', () => {
  const size = COUNT / SIZES.length;

  test('a tunnel interface whose MTU is not set lets ESP packets be fragmented', async () => {
    await remove();
    await follow('A key');
    await follow('The tunnel, route-based', (commands) =>
      commands.replace(/^(ip link set ipsec0) mtu \d+ up$/m, '$1 up'),
    );
    expect(await machine().at('vm', 'ip link show ipsec0')).toContain(' mtu 1500 ');
    unset = await machine().stream(SIZES, COUNT);
    expectAll(unset);
    // Cut to 1500 bytes, all pieces of that length become two fragments: one of two, five of six.
    expect(fragments(unset.wire)).toHaveLength(size * 2 * (1 + 5));
  });

  test('a policy-based tunnel does so with any: all arrive here, where nobody counts fragments', async () => {
    await remove();
    await follow('A key');
    await follow('The trap: a policy-based tunnel');
    policyBased = await machine().stream(SIZES, COUNT);
    expectAll(policyBased);
    // 1428 bytes fit as they are; 2852 and 8486 leave in two and six fragments.
    expect(fragments(policyBased.wire)).toHaveLength(size * (2 + 6));
  });

  test('the page says what was seen', () => {
    const rows = {
      'route-based, MTU 1446': routeBased,
      'route-based, MTU not set (1500)': unset,
      'policy-based': policyBased,
    };
    for (const [tunnel, { wire }] of Object.entries(rows))
      expect(TEXT).toMatch(line([tunnel, `${wire.length}`, `${fragments(wire).length}`]));
  });
});

/** A row of a table, however wide its columns. */
function line(cells: readonly string[]): RegExp {
  const escaped = cells.map((cell) => cell.replace(/[()]/g, '\\$&'));
  return new RegExp(`^\\| *${escaped.join(' +\\| +')} *\\|$`, 'm');
}

async function remove(): Promise<void> {
  for (const place of IPSEC_PLACES)
    await machine().at(
      place,
      'ip xfrm policy flush\nip xfrm state flush\nip link delete ipsec0\nip route flush 203.0.113.50',
    );
}

interface Row {
  readonly path: number;
  /** The tunnel interface's, without NAT-T and with it. */
  readonly plain: number;
  readonly natT: number;
}

/** The page's table of MTUs. */
function mtuTable(): Row[] {
  const rows = [...TEXT.matchAll(/^\| (\d+)\b.*\| +(\d+) +\| +(\d+) +\|$/gm)].map((row) => row.slice(1).map(Number));
  if (rows.length === 0) throw new Error(`docs/${PAGE} has no table of MTUs`);
  return rows.map(([path = 0, plain = 0, natT = 0]) => ({ path, plain, natT }));
}
