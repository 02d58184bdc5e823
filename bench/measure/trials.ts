// SPDX-License-Identifier: Apache-2.0
// The generator and the sink of trial.c, one trial after the other.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { REPOSITORY } from '../../lab/support/host';
import { GENERATOR_CORE } from './machine';

const FOLDER = join(REPOSITORY, 'bench');
/** What a trial takes beyond its own time, at most: loading, draining. */
const PATIENCE_MS = 15_000;

/** Counts are datagrams if not called otherwise. */
export interface Trial {
  readonly offered: number;
  /** From the first to the last datagram. */
  readonly seconds: number;
  /** Came whole before the last was offered. */
  readonly in_time: number;
  /** Came whole at all. */
  readonly delivered: number;
  /** Frames that still carried DF. */
  readonly with_df: number;
  /** Frames beyond what a datagram has. */
  readonly surplus: number;
  /** Frames that were none of the generator's. */
  readonly unmatched: number;
  /** Buckets of traffic.h, and how many datagrams took as long; empty where they were not asked for. */
  readonly latencies: readonly (readonly [bucket: number, datagrams: number])[];
}

/** Offered at overload: as many as the generator can. */
export const OVERLOAD = 0;

export interface TrialOptions {
  readonly bytes: number;
  /** Or `OVERLOAD`. */
  readonly pps: number;
  readonly milliseconds: number;
  /** With latencies, for which the sink looks at the clock for each datagram. */
  readonly isTimed?: boolean;
}

export interface Ends {
  /** NAMESPACE:INTERFACE, as the sink. */
  readonly source: string;
  readonly sink: string;
  /** NAMESPACE:FROM:TO between which a program only takes off the outer headers. */
  readonly baseline?: string;
  /** The kernel's packets arrive there, not frames of XDP. */
  readonly takesPackets: boolean;
  /** Flows, as a power of two: 0 to 20. */
  readonly flowBits: number;
}

export class TrialProcess {
  private said = '';
  private waiting: { done: (line: string) => void; refuse: (error: Error) => void } | undefined;
  /** Why there will be no more answers. */
  private over: Error | undefined;

  private constructor(private readonly child: ChildProcessWithoutNullStreams) {
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.said += text));
    child.stdin.on('error', () => undefined); // its end is noticed by 'close'
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.waiting?.done(line);
      this.waiting = undefined;
    });
    const ended = (why: string): void => {
      this.over ??= new Error(this.said.trim() || why);
      this.waiting?.refuse(this.over);
      this.waiting = undefined;
    };
    child.on('error', (error) => ended(error.message));
    child.on('close', (code, signal) => ended(`trial: ended by itself with ${signal ?? `exit code ${code}`}`));
  }

  static async start({ source, sink, baseline, takesPackets, flowBits }: Ends): Promise<TrialProcess> {
    const args = ['--objects', FOLDER, '--source', source, '--sink', sink, '--flow-bits', String(flowBits)];
    args.push('--cpu', String(GENERATOR_CORE));
    if (takesPackets) args.push('--sink-for-packets', '1');
    if (baseline !== undefined) args.push('--baseline', baseline);
    const trial = new TrialProcess(spawn(join(FOLDER, 'trial'), args, { detached: true }));
    await trial.answer(PATIENCE_MS);
    return trial;
  }

  async run({ bytes, pps, milliseconds, isTimed = false }: TrialOptions): Promise<Trial> {
    const answer = this.answer(milliseconds + PATIENCE_MS);
    this.child.stdin.write(`${bytes} ${pps} ${milliseconds} ${Number(isTimed)}\n`);
    return JSON.parse(await answer) as Trial;
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((done) => this.child.once('close', done));
    this.child.kill('SIGKILL'); // its links end with it
    await ended;
  }

  private answer(milliseconds: number): Promise<string> {
    if (this.over) return Promise.reject(this.over);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.child.kill('SIGKILL');
        refuse(new Error(`trial: no answer within ${milliseconds} ms`));
      }, milliseconds);
      const done = (line: string): void => (clearTimeout(timer), resolve(line));
      const refuse = (error: Error): void => (clearTimeout(timer), reject(error));
      this.waiting = { done, refuse };
    });
  }
}
