// SPDX-License-Identifier: Apache-2.0
// The nightly fuzzing, `make fuzz`: the differential tests with more packets, and libFuzzer on every parser there is. Each
// input that is a finding is kept in the cache, never in the repository, and replayed by the target itself:
// bpf/tests/fuzz_loader INPUT. FUZZ_SECONDS (each target's), FUZZ_PACKETS, FUZZ_DATAGRAMS (each engine's)
// and FUZZ_SEED change what is done.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { cacheDirectory, must, Progress, REPOSITORY, run } from './support/host';
import { ETHERTYPE, Packet, PROTOCOL } from './packets/packet';

export interface Target {
  /** From the root of the repository. */
  readonly program: string;
  /** Where libFuzzer starts from: hardly anything random is a packet. */
  readonly seeds: () => readonly Buffer[];
}

export interface Limits {
  readonly seconds: number;
  /** Fewer than those seconds allow, if given. */
  readonly runs?: number;
  readonly seed: number;
}

export interface Outcome {
  readonly name: string;
  readonly seed: number;
  readonly seconds: number;
  readonly executions: number;
  readonly coverage: string;
  /** Paths of inputs, or what was said in place of one; none is good. */
  readonly findings: readonly string[];
}

/** Settings as the packet targets read them before the packet: port, minimum, maximum, 100 percent or another share. */
function settings(port: number, min: number, max: number, share: number): Buffer {
  const bytes = Buffer.alloc(7);
  [port, min, max].forEach((value, i) => bytes.writeUInt16BE(value, 2 * i));
  bytes.writeUInt8(share, 6);
  return bytes;
}

function packets(): Packet[] {
  const datagram = Packet.udp({ from: '198.51.100.7:40000', to: '203.0.113.9:31765' }).df();
  return [
    datagram,
    datagram.df(false),
    ...[28, 200, 201, 1400, 1401, 1500].map((bytes) => datagram.totalLength(bytes)),
    datagram.options(Buffer.alloc(40, 1)).totalLength(150),
    datagram.totalLength(40).pad(60),
    datagram.mf(),
    datagram.df(false).fragmentOffset(9),
    datagram.ipChecksum(0xffff),
    datagram.ihl(4),
    datagram.udpLength(7),
    datagram.protocol(PROTOCOL.tcp),
  ];
}

function packetSeeds(build: (packet: Packet) => Buffer, more: readonly Packet[] = []): Buffer[] {
  const all = [settings(31765, 0, 65535, 0), settings(31765, 27, 200, 1), settings(31765, 1400, 9000, 128 + 37)];
  return [...packets(), ...more].flatMap((packet) => all.map((chosen) => Buffer.concat([chosen, build(packet)])));
}

function frameSeeds(): Buffer[] {
  const [datagram = Packet.udp({ from: '0.0.0.0:0', to: '0.0.0.0:0' })] = packets();
  const tagged = datagram.vlan(7, ETHERTYPE.qinq).vlan(8);
  const others = [datagram.vlan(7), tagged, tagged.vlan(9), datagram.etherType(ETHERTYPE.ipv6), tagged.truncate(20)];
  return packetSeeds((packet) => packet.build(), others);
}

function lineSeeds(...lines: readonly string[][]): Buffer[] {
  const sizes = ['--target-port=31765', '--min-packet-size', '1400', '--max-packet-size', '9000'];
  const common = [
    [],
    sizes,
    ['--target-port', '65536'],
    ['--min-packet-size=9000'],
    ['--help'],
    ['--', 'x'],
    ['--ma=1'],
  ];
  return [...common, ...lines].map((line) => Buffer.from(line.join('\n')));
}

export const TARGETS: readonly Target[] = [
  {
    program: 'bpf/tests/fuzz_loader',
    seeds: () =>
      lineSeeds(
        ['--traffic-percent', '100', '--interface', 'br0', '--mode=driver', '--object', 'a.o', '--pin-dir', '/p'],
        ['--mode', 'generic', '--traffic-percent=101', '--mode=driver', '--mode=generic'],
      ),
  },
  { program: 'bpf/tests/fuzz_parsing', seeds: frameSeeds },
  { program: 'netfilter/tests/fuzz_packets', seeds: () => packetSeeds((packet) => packet.ipPacket()) },
  { program: 'netfilter/tests/fuzz_options', seeds: () => lineSeeds(['--queue', '7'], ['--queue=-1']) },
];

/** @throws Error with what the compiler says */
export async function buildTargets(root: string = REPOSITORY, targets: readonly Target[] = TARGETS): Promise<void> {
  for (const { program } of targets)
    await must('make', ['-s', '-C', join(root, dirname(program)), basename(program)], { timeoutMs: 300_000 });
}

/** Digits in groups of three. */
function grouped(value: number): string {
  return value.toLocaleString('en').replaceAll(',', ' ');
}

/** What libFuzzer has said so far; it reports when something is new, and at each power of two. */
class Report {
  executions = 0;
  private covered = 0;
  private edges = 0;
  private readonly startedAt = Date.now();
  private readonly last: string[] = [];

  read(line: string): void {
    this.last.push(line);
    if (this.last.length > 60) this.last.shift();
    const [, edges] = /Loaded \d+ modules? +\((\d+) inline/.exec(line) ?? [];
    const [, executions, covered] = /^#(\d+)\s.* cov: (\d+) /.exec(line) ?? [];
    const [, total] = /^stat::number_of_executed_units: (\d+)/.exec(line) ?? [];
    this.edges = Number(edges ?? this.edges);
    this.covered = Number(covered ?? this.covered);
    this.executions = Number(total ?? executions ?? this.executions);
  }

  get seconds(): number {
    return (Date.now() - this.startedAt) / 1000;
  }
  /** The edges include the rest of the program, which the target has no way into. */
  get coverage(): string {
    return `${this.covered} of ${this.edges} edges`;
  }
  get rate(): string {
    return `${grouped(Math.round(this.executions / Math.max(this.seconds, 0.1)))}/s`;
  }
  /** What went wrong; the program says the rest when it is given the input. */
  get tail(): string {
    return this.last.filter((line) => /^fuzz: |SUMMARY|runtime error/.test(line)).join('\n');
  }
}

/** Runs one target to its limits or its first finding. Inputs go below the folder, and those that are findings stay. */
export async function fuzz(
  { program, seeds }: Target,
  { seconds, runs, seed }: Limits,
  { root = REPOSITORY, folder, progress }: { root?: string; folder: string; progress: Progress },
): Promise<Outcome> {
  const name = basename(program);
  const corpus = join(folder, `${name}-corpus`);
  const artifacts = join(folder, `${name}-findings`);
  [corpus, artifacts].forEach((path) => mkdirSync(path, { recursive: true }));
  seeds().forEach((bytes, i) => writeFileSync(join(corpus, `seed-${i}`), bytes));

  const report = new Report();
  const say = (): void => {
    const left = Math.max(0, Math.round(seconds - report.seconds));
    progress.say(`${name}: ${grouped(report.executions)} runs, ${report.rate}, ${report.coverage}, ${left} s left`);
  };
  const timer = setInterval(say, 10_000);
  const limits = [`-max_total_time=${seconds}`, `-runs=${runs ?? -1}`, `-seed=${seed}`, '-timeout=10'];
  const { code } = await run(
    join(root, program),
    [...limits, '-print_final_stats=1', '-rss_limit_mb=2048', `-artifact_prefix=${artifacts}/`, corpus],
    {
      cwd: folder,
      timeoutMs: (seconds + 120) * 1000,
      onLine: (line) => report.read(line),
      // What is freed stays poisoned for as long as one run lasts, not for a quarter of a gigabyte.
      env: { ...process.env, ASAN_OPTIONS: 'quarantine_size_mb=8' },
    },
  ).finally(() => clearInterval(timer));

  const findings = readdirSync(artifacts).map((file) => join(artifacts, file));
  if (code !== 0) progress.say(`${name}: exit code ${code}\n${report.tail}`);
  if (code !== 0 && findings.length === 0) findings.push(`exit code ${code}, no input`);
  const { executions, coverage } = report;
  return { name, seed, seconds: report.seconds, executions, coverage, findings };
}

/** A test of jest's that compares as much as it is told to, and names the first packet that differs. */
interface Comparison {
  readonly name: string;
  readonly project: string;
  readonly test: string;
  readonly wanted: number;
  /** Of the variables that it reads. */
  readonly variables: { readonly wanted: string; readonly seed: string };
  /** What agreed, of a line that it prints: a total, or what adds to one. */
  readonly agreed: RegExp;
  readonly adds: boolean;
  /** How often it compares each. */
  readonly times: number;
}

const modelAgainstProgram = (wanted: number): Comparison => ({
  ...{ name: 'differential', project: 'bpf', test: '__tests__/bpf/running-kernel', wanted, times: 1 },
  variables: { wanted: 'DIFFERENTIAL_PACKETS', seed: 'DIFFERENTIAL_SEED' },
  ...{ agreed: /^differential: (\d+) packets agree/, adds: false },
});

const bridgeAgainstDirect = (wanted: number): Comparison => ({
  ...{ name: 'engines', project: 'lab', test: '__tests__/lab/direct.test', wanted, times: 3 },
  variables: { wanted: 'GENERATED', seed: 'SEED' },
  ...{ agreed: /^direct .*: (\d+) datagrams agree/, adds: true },
});

async function compare(comparison: Comparison, seed: number, progress: Progress): Promise<Outcome> {
  const { name, project, test, variables, agreed, adds } = comparison;
  const wanted = comparison.wanted * comparison.times;
  const startedAt = Date.now();
  const elapsed = (): number => (Date.now() - startedAt) / 1000;
  let [executions, saidAt] = [0, startedAt];
  const onLine = (line: string): void => {
    const count = agreed.exec(line)?.[1];
    if (count === undefined) return;
    executions = Number(count) + (adds ? executions : 0);
    if (Date.now() - saidAt < 10_000) return;
    saidAt = Date.now();
    const rate = `${grouped(Math.round(executions / elapsed()))}/s`;
    const left = Math.round((elapsed() * (wanted - executions)) / executions);
    progress.say(`${name}: ${grouped(executions)} packets agree, ${rate}, ${left} s left`);
  };
  const env = { ...process.env, [variables.wanted]: String(comparison.wanted), [variables.seed]: String(seed) };
  const { code, stderr } = await run(
    'npx',
    ['jest', '--selectProjects', project, '--runInBand', test, '--testTimeout', '3600000'],
    { cwd: REPOSITORY, timeoutMs: 3_600_000, env, onLine },
  );
  const findings = code === 0 ? [] : [`exit code ${code}\n${stderr.split('\n').slice(-60).join('\n')}`];
  return { name, seed, seconds: elapsed(), executions, coverage: '', findings };
}

function table(outcomes: readonly Outcome[]): string {
  const rows = outcomes.map(({ name, seed, seconds, executions, coverage, findings }) => {
    const rate = `${grouped(Math.round(executions / seconds))}/s`;
    return [
      name,
      String(seed),
      seconds.toFixed(0),
      grouped(executions),
      rate,
      coverage || '-',
      String(findings.length),
    ];
  });
  const all = [['target', 'seed', 'seconds', 'executions', 'rate', 'coverage', 'findings'], ...rows];
  const widths = rows[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** In their order, as many at once as there are processors. */
async function inParallel<T>(jobs: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = [];
  const waiting = jobs.entries();
  const worker = async (): Promise<void> => {
    for (const [i, job] of waiting) results[i] = await job();
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return results;
}

function setting(name: string, otherwise: number): number {
  const value = Number(process.env[name] ?? otherwise);
  if (Number.isInteger(value) && value > 0) return value;
  throw new Error(`${name}=${process.env[name]}: a whole number from 1 is expected`);
}

async function main(): Promise<void> {
  const seconds = setting('FUZZ_SECONDS', 120);
  const wanted = setting('FUZZ_PACKETS', 5_000_000);
  const datagrams = setting('FUZZ_DATAGRAMS', 200_000);
  const seed = setting('FUZZ_SEED', 1 + (Date.now() % (2 ** 31 - 1)));
  const progress = new Progress('fuzz');
  const folder = mkdtempSync(join(cacheDirectory(), 'fuzz-'));
  progress.say(`FUZZ_SEED=${seed}, inputs below ${folder}`);
  await buildTargets();
  const outcomes = await inParallel<Outcome>([
    () => compare(modelAgainstProgram(wanted), seed, progress),
    ...TARGETS.map((target) => () => fuzz(target, { seconds, seed }, { folder, progress })),
  ]);
  // Alone: a busy machine does not take frames off a namespace in time.
  outcomes.push(await compare(bridgeAgainstDirect(datagrams), seed, progress));
  console.log(table(outcomes));
  const findings = outcomes.flatMap(({ name, findings: found }) => found.map((finding) => `${name}: ${finding}`));
  if (findings.length === 0) {
    rmSync(folder, { recursive: true });
    return;
  }
  console.log(findings.join('\n'));
  process.exitCode = 1;
}

if (require.main === module) {
  main().catch((error: unknown) => {
    console.error(`fuzz: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  });
}
