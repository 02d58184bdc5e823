// SPDX-License-Identifier: Apache-2.0
// The real BPF object under BPF_PROG_TEST_RUN: bpf/tests/prog_run, here or on another kernel, stays up for many exchanges.
import { execFileSync, spawn } from 'node:child_process';
import * as path from 'node:path';
import { settings } from '../../userdata/settings.json';
import type { Readable, Writable } from 'node:stream';

export const BPF_FOLDER = path.resolve(__dirname, '../../bpf');
export const BPF_OBJECT = path.join(BPF_FOLDER, 'udp_df_modifier.bpf.o');
export const LOADER = path.join(BPF_FOLDER, 'udp_df_modifier_loader');
export const PROG_RUN = path.join(BPF_FOLDER, 'tests/prog_run');

export const XDP_PASS = 2;
/** prog_run reports what the kernel refuses to run as minus errno. */
export const REFUSED = -22;
/** Longer frames would reach the program in pieces: one page less headroom and tailroom. */
export const LONGEST_FRAME = 3520;

/** Of settings.json what can change under traffic. */
export interface Config {
  readonly target_port: number;
  readonly min_packet_size: number;
  readonly max_packet_size: number;
  readonly traffic_percent: number;
}

/** Some of them, of the same names. */
export type Changes = Readonly<Record<string, number>>;

/** In the order of struct gateway_config. */
export const DEFAULT_CONFIG = Object.fromEntries(
  Object.values<{ min: number; live?: string; default?: number }>(settings).flatMap(({ live, default: value = 0 }) =>
    live === undefined ? [] : [[live, value]],
  ),
) as unknown as Config;

/** In the order of struct gateway_stats. */
export const COUNTERS = [
  'packets_seen',
  'packets_matched',
  'packets_modified',
  'bytes_processed',
  'packets_left_to_netfilter',
  'packets_malformed',
  'fragments_seen',
] as const;
export type Stats = Record<(typeof COUNTERS)[number], number>;

export function stats(counted: Partial<Stats> = {}): Stats {
  const zeros = Object.fromEntries(COUNTERS.map((name) => [name, 0])) as Stats;
  return { ...zeros, ...counted };
}

export interface Answer {
  readonly verdict: number;
  readonly bytes: Buffer;
}

export interface Batch {
  readonly answers: readonly Answer[];
  /** What the whole batch counted. */
  readonly counted: Stats;
}

enum Request {
  frame = 1,
  config = 2,
  stats = 3,
}

const STATS_BYTES = COUNTERS.length * 8;

export function buildProgram(): void {
  execFileSync('make', ['-C', BPF_FOLDER, 'test-tools'], { stdio: 'pipe' });
}

/** A prog_run that has been started, wherever it runs. */
export interface ProgRun {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly ended: Promise<void>;
  /** How it ended, and why where it said so. */
  readonly log: () => string;
}

/** On the running kernel; what it says goes to our own stderr. */
function startProgRun(object: string): ProgRun {
  const child = spawn(PROG_RUN, [object], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return { stdin: child.stdin, stdout: child.stdout, ended, log: () => `exit code ${String(child.exitCode)}` };
}

export class Program {
  private readonly child: ProgRun;
  private chunks: Buffer[] = [];
  private buffered = 0;
  private arrived: () => void = () => undefined;
  private ended = false;

  constructor(started: ProgRun = startProgRun(BPF_OBJECT)) {
    this.child = started;
    this.child.stdout.on('data', (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.buffered += chunk.length;
      this.arrived();
    });
    void this.child.ended.then(() => {
      this.ended = true;
      this.arrived();
    });
    // A write after its end fails here too; the missing answer says it better.
    this.child.stdin.on('error', () => undefined);
  }

  /** Takes effect on the next frame; the program stays loaded. */
  configure(config: Config): void {
    this.child.stdin.write(request(Request.config, configValue(config)));
  }

  async run(frames: readonly Buffer[]): Promise<Batch> {
    const requests = frames.flatMap((frame) => [header(Request.frame, frame.length), frame]);
    this.child.stdin.write(Buffer.concat([...requests, header(Request.stats, 0)]));
    const answers: Answer[] = [];
    for (let i = 0; i < frames.length; i++) {
      const head = await this.read(8);
      answers.push({ verdict: head.readInt32LE(0), bytes: await this.read(head.readUInt32LE(4)) });
    }
    return { answers, counted: parseStats(await this.read(STATS_BYTES)) };
  }

  close(): void {
    this.child.stdin.end();
  }

  private async read(bytes: number): Promise<Buffer> {
    while (this.buffered < bytes) {
      if (this.ended) throw new Error(`prog_run ended before its answer: ${this.child.log()}`);
      await new Promise<void>((resolve) => (this.arrived = resolve));
    }
    const first = this.chunks[0];
    if (first === undefined || first.length < bytes) this.chunks = [Buffer.concat(this.chunks)];
    const whole = this.chunks[0] ?? Buffer.alloc(0);
    this.chunks[0] = whole.subarray(bytes);
    this.buffered -= bytes;
    return whole.subarray(0, bytes);
  }
}

function configValue(config: Config): Buffer {
  const names = Object.keys(DEFAULT_CONFIG);
  const values: Readonly<Record<string, number>> = { ...config };
  const value = Buffer.alloc(4 * names.length);
  names.forEach((name, i) => value.writeUInt32LE(values[name] ?? 0, i * 4));
  return value;
}

function header(kind: Request, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeUInt32LE(kind, 0);
  bytes.writeUInt32LE(length, 4);
  return bytes;
}

function request(kind: Request, body: Buffer): Buffer {
  return Buffer.concat([header(kind, body.length), body]);
}

function parseStats(bytes: Buffer): Stats {
  return stats(Object.fromEntries(COUNTERS.map((name, i) => [name, Number(bytes.readBigUInt64LE(i * 8))])));
}

/** The program on this machine's kernel, from the first test of the enclosing `describe` to its last. */
export function useProgram(): () => Program {
  let program: Program;
  beforeAll(() => {
    buildProgram();
    program = new Program();
  });
  afterAll(() => program.close());
  return () => program;
}
