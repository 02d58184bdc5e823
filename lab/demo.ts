// SPDX-License-Identifier: Apache-2.0
// The project's main job on one machine: synthesize the stack, boot Debian 13 from its user data and bundle, send mirrored packets
// through it, and show per case what went in and what came out; then what EC2 would let out of one stream that is forwarded whole,
// and of the same stream in fragments. Exits with 1 when any of it is wrong.
import { EC2_FRAGMENTS_PER_SECOND } from '../constructs/config/limits';
import { USER_DATA_LIMIT } from '../constructs/user-data/user-data';
import { firstDatagram, play, type Verdict } from './packets/cases';
import { type Choice, playChoices } from './namespaces/choices';
import { type Engine, ENGINES, longestDatagram, settingsOf, statusOf, wantedEngine } from './namespaces/engines';

import { Progress } from './support/host';
import { ensureImage } from './vm/image';
import { synthesize } from './support/synth';
import { Receiver } from './packets/traffic';
import { bootVm, type Vm, VM_LAB } from './vm/vm';

/** What a deployment may ask for. */
const DEPLOYABLE = ENGINES.filter((engine) => engine !== 'standby');

// --- the table ------------------------------------------------------------------------------------------------------

const COLOUR = process.stdout.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb';

function paint(code: number, text: string): string {
  return COLOUR ? `\u001b[${code}m${text}\u001b[0m` : text;
}

const good = (text: string): string => paint(32, text);
const bad = (text: string): string => paint(31, text);
const faint = (text: string): string => paint(2, text);

const HEAD = [
  'bytes',
  'DF',
  'mirrored packet',
  'packets',
  'bytes each',
  'DF',
  'IP sum',
  'UDP sum',
  'payload',
  'verdict',
];
const NUMBERS = new Set([0, 3]);
const FIRST_OUT = 3;

/** One word for what should be the same on every fragment. */
function common(values: readonly string[]): string {
  const different = [...new Set(values)];
  return different.length === 1 ? (different[0] ?? '') : different.join('/');
}

function cameOut({ case: each, datagram }: Verdict): string[] {
  if (datagram === undefined) return ['0', '', '', '', '', ''];
  const { fragments, udp } = datagram;
  return [
    String(fragments.length),
    fragments.map(({ totalLength }) => totalLength).join('+'),
    common(fragments.map(({ df }) => flag(df))),
    common(fragments.map(({ checksum }) => checksum)),
    udp.checksum,
    udp.payloadHash === each.payloadHash ? 'equal' : 'differs',
  ];
}

function flag(df: boolean | undefined): string {
  if (df === undefined) return '';
  return df ? 'set' : 'clear';
}

function row(verdict: Verdict): string[] {
  const { case: each, problems } = verdict;
  const right = each.fate === 'nothing' ? 'ok: nothing' : `ok: ${each.fate}`;
  return [String(each.bytes), flag(each.df), each.what, ...cameOut(verdict), problems[0] ?? right];
}

/** Lines of equal columns under a head. */
function align(head: readonly string[], rows: readonly string[][], numbers: ReadonlySet<number>): string[] {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((cells) => (cells[column] ?? '').length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) =>
        numbers.has(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return [head, ...rows].map(line);
}

function table(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(row);
  const [head = '', ...lines] = align(HEAD, rows, NUMBERS);
  const over = `${'in'.padEnd(head.indexOf(HEAD[FIRST_OUT] ?? ''))}out`;
  const body = lines.map((line, index) => {
    const verdict = rows[index]?.at(-1) ?? '';
    const start = line.length - verdict.length;
    const mark = verdicts[index]?.problems.length ? bad : good;
    return line.slice(0, start) + mark(verdict);
  });
  return [faint(over), faint(head), ...body].join('\n');
}

const CHOICE_HEAD = [
  'egress_mtu',
  'offered',
  'ids in',
  'packets out',
  'distinct ids out',
  'dropped by the limit',
  'delivered',
];

function choiceTable(choices: readonly Choice[]): string {
  const rows = choices.map(({ egressMtu, bytes, offered, packets, ids, dropped, delivered }) => [
    `${egressMtu} (${egressMtu < bytes ? 'cut' : 'whole'})`,
    ...[offered, 1, packets, ids, dropped].map(String),
    `${delivered} (${Math.floor((100 * delivered) / offered)} %)`,
  ]);
  const [head = '', ...lines] = align(CHOICE_HEAD, rows, new Set([1, 2, 3, 4, 5, 6]));
  const title = `one stream, both choices, behind EC2's limit of ${EC2_FRAGMENTS_PER_SECOND} IP fragments a second`;
  return [title, faint(head), ...lines].join('\n');
}

// --- main -----------------------------------------------------------------------------------------------------------

interface Finding {
  readonly verdicts: readonly Verdict[];
  readonly choices: readonly Choice[];
  readonly problems: readonly string[];
  readonly toFirst: number;
  readonly toReady: number;
}

async function examine(vm: Vm, engine: Engine): Promise<Finding> {
  const receiver = await Receiver.start(VM_LAB.sink, VM_LAB.sink.address, VM_LAB.sink.port);
  try {
    const first = firstDatagram(vm, receiver);
    first.catch(() => undefined); // what cloud-init says comes first
    const { errors } = await vm.waitForCloudInit();
    const toReady = (Date.now() - vm.bootedAt) / 1000;
    vm.progress.say('user data has run to its end');
    if (errors.length > 0) throw new Error(`cloud-init: ${errors.join('; ')}\n${await vm.lastWords()}`);
    const toFirst = await first;
    const status = JSON.parse(await vm.exec('deploy_xdp.sh status --json')) as ReturnType<typeof statusOf>;
    const carries = `${status.engine}, XDP mode ${status.xdp_mode}`;
    vm.progress.say(`engine ${carries}, carries the traffic; sending`);
    const { verdicts, strays } = await play(receiver, engine, longestDatagram(engine));
    const problems = strays.map((stray) => `a packet that no case accounts for ${stray}`);
    const wanted = statusOf(engine);
    if (status.engine !== wanted.engine || status.xdp_mode !== wanted.xdp_mode)
      problems.push(`engine is ${carries}; ${engine} was asked for`);
    await receiver.stop(); // its port is the stream's now
    const choices = await playChoices(vm, engine);
    problems.push(...choices.flatMap((choice) => choice.problems));
    return { verdicts, choices, problems, toFirst, toReady };
  } finally {
    await receiver.stop();
  }
}

/** Nothing asked for: nothing said about engines, so that the demo shows what a stack deploys by default. */
async function main(wanted = '', mode = ''): Promise<boolean> {
  const engine = wantedEngine('demo', wanted, mode, DEPLOYABLE);
  const settings = wanted || mode ? settingsOf(engine) : {};
  const progress = new Progress('demo');
  const said = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  progress.say(
    `synthesizing the stack with ${said.join(', ') || 'its default settings'}; the first run also builds a Debian 13 image`,
  );
  const overrides = {
    ...settings,
    aws_ipsec_vm_ip: VM_LAB.sink.address,
    aws_ipsec_vm_port: VM_LAB.sink.port,
  };
  const [stack] = await Promise.all([synthesize(overrides), ensureImage('13', true, progress)]);
  progress.say(`synthesized in ${stack.seconds.toFixed(1)} s: ${stack.description}`);
  const vm = await bootVm({ release: '13', baked: true, stack, progress });
  try {
    const { verdicts, choices, problems, toFirst, toReady } = await examine(vm, engine);
    const wrong = verdicts.filter((verdict) => verdict.problems.length > 0);
    const right = verdicts.length - wrong.length;
    console.log(`\n${table(verdicts)}\n\n${choiceTable(choices)}\n`);
    for (const problem of problems) console.log(bad(problem));
    const verdict = `${right} of ${verdicts.length} cases right`;
    console.log(wrong.length + problems.length > 0 ? bad(verdict) : good(`${verdict}; nothing else left the machine`));
    console.log(`engine ${engine}; packets decoded by tshark, payloads also received by a UDP socket`);
    console.log(
      `user data: ${stack.userData.length} bytes of ${USER_DATA_LIMIT}; bundle: ${stack.bundle.content.length}`,
    );
    console.log(
      `power-on to first datagram: ${toFirst.toFixed(1)} s; to the end of user data: ${toReady.toFixed(1)} s`,
    );
    return wrong.length + problems.length === 0;
  } finally {
    await vm.powerOff();
  }
}

main(process.argv[2], process.argv[3]).then(
  (right) => (process.exitCode = right ? 0 : 1),
  (error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  },
);
