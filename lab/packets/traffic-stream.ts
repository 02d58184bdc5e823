// SPDX-License-Identifier: Apache-2.0
// The traffic of lab/stream.c as a session: a receiver that listens before the first datagram leaves, a sender, and at the end
// what was sent against what came.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { must, type Progress, REPOSITORY, waitFor } from '../support/host';
import { LAB } from '../namespaces/namespaces';
import { inside } from './traffic';

const FOLDER = join(REPOSITORY, 'lab');
const PROGRAM = join(FOLDER, 'stream');
/** Between two notes of time and sequence number, from which the time of a loss is told. */
const NOTE_MS = 20;
/** What is still on its way when the sender ends: an NFQUEUE drains within five seconds. */
const ARRIVAL_MS = 10_000;

export interface Sent {
  readonly sent: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly pps: number;
  /** How often the kernel asked the sender for patience. */
  readonly refusals: number;
  /** Datagrams given up because the sender itself was held up; they were never numbered. */
  readonly slipped: number;
}

export interface ReceiverReport {
  readonly received: number;
  readonly highest: number;
  readonly duplicates: number;
  readonly corrupt: number;
  /** Later than a higher number of its own flow. */
  readonly reordered: number;
  readonly bytes: number;
  /** Lost at the receiver's own socket, or arrived with a wrong checksum. */
  readonly receiver_drops: number;
  /** IPv4 frames with UDP to the IPsec VM on its wire. */
  readonly frames: number;
  readonly frames_with_df: number;
  readonly first_with_df: readonly number[];
  readonly missing: number;
  /** The first of them, both ends included. */
  readonly missing_ranges: readonly (readonly [number, number])[];
  readonly seconds: number;
  readonly per_second: readonly number[];
}

/** When a sequence number was about to leave, in milliseconds since 1970. */
interface Note {
  readonly at: number;
  readonly number: number;
}

export interface StreamOptions {
  readonly pps?: number;
  /** IP total lengths. */
  readonly bytes?: readonly number[];
  readonly flows?: number;
  /** IP identification of all datagrams (default: each flow counts). */
  readonly id?: number;
  /** Default: until `finish`. */
  readonly count?: number;
}

/** Where it begins and ends: in the namespaces of either lab. */
export interface Ends {
  readonly source: { readonly namespace: string };
  readonly sink: {
    readonly namespace: string;
    readonly interface: string;
    readonly address: string;
    readonly port: number;
  };
}

export interface Finished {
  readonly sent: Sent;
  readonly report: ReceiverReport;
  /** Datagrams that did not come, those behind the highest number included. */
  readonly lost: readonly (readonly [number, number])[];
}

/** One of the two programs, with what it printed. */
class Process {
  readonly answers: unknown[] = [];
  private errors = '';
  private closed = false;
  private readonly child: ChildProcessByStdio<null, Readable, Readable>;
  readonly ended: Promise<void>;

  constructor(namespace: string, args: readonly string[], each: (answer: unknown) => boolean = () => false) {
    // First in line for a processor: on a busy machine a pause of theirs would be taken for the gateway's.
    const [command, commandArgs] = inside({ namespace }, 'nice', '-n', '-20', PROGRAM, ...args);
    this.child = spawn(command, commandArgs, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.ended = once(this.child, 'close').then(() => void (this.closed = true));
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    let rest = '';
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const answer: unknown = JSON.parse(line);
        if (!each(answer)) this.answers.push(answer);
      }
    });
  }

  signal(name: NodeJS.Signals): void {
    if (this.running) this.child.kill(name);
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** The next answer, once the first `after` are known. */
  async answer(what: string, after: number, progress: Progress, timeoutMs = 10_000): Promise<unknown> {
    const probe = (): unknown => {
      if (this.answers.length > after) return this.answers[after];
      // What it said last may come after its end.
      if (this.closed) throw new Error(`no ${what}: ${this.errors.trim() || 'the program ended'}`);
      return undefined;
    };
    return waitFor(what, probe, { timeoutMs, everyMs: 20, progress });
  }
}

export class Stream {
  private readonly notes: Note[] = [];

  private constructor(
    private readonly receiver: Process,
    private readonly progress: Progress,
    private sender?: Process,
  ) {}

  static async build(): Promise<void> {
    await must('make', ['-s', '-C', FOLDER]);
  }

  /** The receiver listens, and datagrams leave, when it returns. */
  static async start(options: StreamOptions, progress: Progress, ends: Ends = LAB): Promise<Stream> {
    const { address, port, interface: wire, namespace } = ends.sink;
    const receiver = new Process(namespace, ['receive', '--at', `${address}:${port}`, '--interface', wire]);
    const stream = new Stream(receiver, progress);
    try {
      await receiver.answer('receiver at the sink', 0, progress);
      stream.send(options, ends.source.namespace);
      return stream;
    } catch (error) {
      stream.abort();
      throw error;
    }
  }

  private send(options: StreamOptions, namespace: string): void {
    const { pps = 10_000, bytes = [1428], flows = 1000, id, count } = options;
    const args = ['--to', `${LAB.primary.address}:4789`, '--pps', pps, '--bytes', bytes.join(), '--flows', flows];
    const limit = [...(count === undefined ? [] : ['--count', count]), ...(id === undefined ? [] : ['--id', id])];
    this.sender = new Process(namespace, ['send', ...args, ...limit, '--progress', NOTE_MS].map(String), (answer) => {
      const note = answer as Partial<Note>;
      if (note.at === undefined || note.number === undefined) return false;
      this.notes.push({ at: note.at, number: note.number });
      return true;
    });
  }

  /** What has come so far. */
  async look(): Promise<ReceiverReport> {
    const known = this.receiver.answers.length;
    this.receiver.signal('SIGUSR1');
    return (await this.receiver.answer('report', known, this.progress)) as ReceiverReport;
  }

  /**
   * Ends the sender (one with a count: waits for its end), waits for what is on its way, ends the receiver.
   *
   * @param arrivalMs how long it waits for what does not come
   */
  async finish({ early = true, arrivalMs = ARRIVAL_MS } = {}): Promise<Finished> {
    const sender = this.sender;
    if (!sender) throw new Error('the stream was never started');
    try {
      if (early) sender.signal('SIGTERM');
      const sent = (await sender.answer('end of the sender', 0, this.progress, 300_000)) as Sent;
      await this.arrival(sent.sent, arrivalMs);
      const known = this.receiver.answers.length;
      this.receiver.signal('SIGTERM');
      const report = (await this.receiver.answer('last report', known, this.progress)) as ReceiverReport;
      return { sent, report, lost: lostOf(sent, report) };
    } finally {
      this.abort();
      // The next receiver needs its port.
      await Promise.all([sender.ended, this.receiver.ended]);
    }
  }

  /** Everything sent has come, or nothing has for a while. */
  private async arrival(sent: number, patienceMs: number): Promise<void> {
    const deadline = Date.now() + patienceMs;
    for (;;) {
      const { received, corrupt, duplicates } = await this.look();
      if (received + corrupt + duplicates >= sent || Date.now() > deadline) return;
      await new Promise((done) => setTimeout(done, 200));
    }
  }

  /** When a number left: between two notes at an even pace. */
  timeOf(number: number): number {
    const after = this.notes.findIndex((note) => note.number > number);
    const last = this.notes.at(-1);
    if (after <= 0) return after === 0 ? (this.notes[0]?.at ?? 0) : (last?.at ?? 0);
    const [left, right] = [this.notes[after - 1], this.notes[after]];
    if (!left || !right) return 0;
    return left.at + ((right.at - left.at) * (number - left.number)) / (right.number - left.number);
  }

  /** How many had left at that time, in milliseconds since 1970: the reverse of `timeOf`. */
  sentBy(time: number): number {
    const after = this.notes.findIndex(({ at }) => at > time);
    const [left, right] = [this.notes[after - 1], this.notes[after]];
    if (!left || !right) throw new Error('the stream had not begun by then, or has ended');
    return left.number + ((right.number - left.number) * (time - left.at)) / (right.at - left.at);
  }

  /** For a caller that failed; harmless after the end. */
  abort(): void {
    this.sender?.signal('SIGKILL');
    this.receiver.signal('SIGKILL');
  }
}

function lostOf(sent: Sent, report: ReceiverReport): [number, number][] {
  const lost = report.missing_ranges.map(([from, to]): [number, number] => [from, to]);
  if (report.highest < sent.sent - 1) lost.push([report.highest + 1, sent.sent - 1]);
  return lost;
}
