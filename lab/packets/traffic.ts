// SPDX-License-Identifier: Apache-2.0
// Frames onto an interface, captures off it, and a UDP socket at the end of it: in a network namespace or on the machine
// itself. Nothing waits for time to pass: a capture listens before `start` returns, and ends when it has seen a frame sent
// for the purpose, so whatever was on the wire before is in it.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { inNamespace, must, REPOSITORY } from '../support/host';
import { ethernet, FOREIGN_MACS, pcap } from './packet';

const START_TIMEOUT = 10_000;
const SEE_TIMEOUT = 10_000;
/** IEEE 802's EtherType for experiments: no host reacts to it. */
const EXPERIMENTAL = 0x88b5;

/** An interface, in a network namespace or (default) the caller's own. */
export interface Wire {
  readonly namespace?: string;
  readonly interface: string;
}

/** A command line that runs where the wire is. */
export function inside({ namespace }: { readonly namespace?: string }, ...command: string[]): [string, string[]] {
  if (namespace !== undefined) return inNamespace(namespace, ...command);
  const [program = '', ...args] = command;
  return [program, args];
}

/**
 * Sends frames as they are, in order (default: 1000 a second, which the slowest engine on a busy machine keeps up with).
 *
 * @param cpu which processor sends, and so receives on the other end of a veth; default: whichever is free
 * @throws Error when not all of them left
 */
export async function send(
  wire: Wire,
  frames: readonly Buffer[],
  packetsPerSecond = 1000,
  cpu?: number,
): Promise<void> {
  if (frames.length === 0) return;
  const directory = await mkdtemp(join(tmpdir(), 'traffic-'));
  try {
    const file = join(directory, 'frames.pcap');
    await writeFile(file, pcap(frames));
    const pinned: readonly string[] = cpu === undefined ? [] : ['taskset', '--cpu-list', String(cpu)];
    const replay = inside(wire, ...pinned, 'tcpreplay', `--pps=${packetsPerSecond}`, `--intf1=${wire.interface}`, file);
    const said = await must(...replay, { timeoutMs: 60_000 + (frames.length / packetsPerSecond) * 2000 });
    const sent = Number(/Successful packets:\s+(\d+)/.exec(said)?.[1]);
    if (sent !== frames.length)
      throw new Error(`tcpreplay on ${wire.interface}: ${sent} of ${frames.length} frames left`);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** What has happened so far, and waiting for what will. */
class Journal<T> {
  readonly items: T[] = [];
  private readonly waiters = new Set<() => void>();
  private failure?: Error;

  add(item: T): void {
    this.items.push(item);
    this.wake();
  }

  fail(error: Error): void {
    this.failure = error;
    this.wake();
  }

  async see(what: string, wanted: (item: T) => boolean, timeoutMs: number): Promise<T> {
    let from = 0;
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const found = this.items.slice(from).find(wanted);
      if (found !== undefined) return found;
      if (this.failure) throw this.failure;
      from = this.items.length;
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`${what}: not seen within ${timeoutMs / 1000} s`);
      await this.change(left);
    }
  }

  private change(timeoutMs: number): Promise<void> {
    return new Promise((done) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.waiters.delete(finish);
        done();
      };
      const timer = setTimeout(finish, timeoutMs);
      this.waiters.add(finish);
    });
  }

  private wake(): void {
    [...this.waiters].forEach((waiter) => waiter());
  }
}

type Piped = ChildProcessByStdio<Writable, Readable, Readable>;

/** Everything that passes an interface, both ways, tags and foreign addresses included. */
export class Capture {
  private constructor(
    private readonly wire: Wire,
    private readonly tcpdump: Piped,
    private readonly journal: Journal<Buffer>,
    private readonly messages: Journal<string>,
  ) {}

  /**
   * Listens when it returns.
   *
   * @param snapLength how many bytes of a frame it keeps, the whole by default; the kernel's buffer holds the more frames
   */
  static async start(wire: Wire, { snapLength = 9216 } = {}): Promise<Capture> {
    // The kernel's buffer has slots of the snapshot length: ten thousand that fit the largest frame.
    const size = ['-s', String(snapLength), '-B', '98304'];
    const flags = ['-n', '-U', '--immediate-mode', '-Z', 'root', ...size, '-w', '-'];
    const [command, args] = inside(wire, 'tcpdump', ...flags, '-i', wire.interface);
    const tcpdump = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    const journal = new Journal<Buffer>();
    const messages = lines(tcpdump.stderr);
    tcpdump.stdout.on(
      'data',
      pcapReader((frame) => journal.add(frame)),
    );
    tcpdump.on('error', (error) => [journal, messages].forEach((each) => each.fail(error)));
    tcpdump.on('close', () => {
      const error = new Error(`tcpdump on ${wire.interface} ended: ${messages.items.join('; ')}`);
      [journal, messages].forEach((each) => each.fail(error));
    });
    await messages.see(
      `tcpdump on ${wire.interface} listening`,
      (line) => line.includes('listening on'),
      START_TIMEOUT,
    );
    return new Capture(wire, tcpdump, journal, messages);
  }

  /** So far. */
  get frames(): readonly Buffer[] {
    return this.journal.items;
  }

  /** Waits for a frame; one already captured counts. */
  see(what: string, wanted: (frame: Buffer) => boolean, timeoutMs = SEE_TIMEOUT): Promise<Buffer> {
    return this.journal.see(`${what} on ${this.wire.interface}`, wanted, timeoutMs);
  }

  /**
   * Ends with every frame that was on the wire before the call.
   *
   * @throws Error when the kernel dropped frames that the capture should have
   */
  async stop(): Promise<Buffer[]> {
    const end = endMark();
    await send(this.wire, [end]);
    await this.see('the end mark of the capture', (frame) => frame.equals(end));
    await this.abort();
    const dropped = this.messages.items.find((line) => /^[1-9]\d* packets? dropped/.test(line));
    if (dropped) throw new Error(`tcpdump on ${this.wire.interface}: ${dropped}`);
    return this.journal.items.filter((frame) => !isEndMark(frame));
  }

  /** Ends at once, for a caller that failed. */
  async abort(): Promise<void> {
    await end(this.tcpdump, 'SIGINT');
  }
}

/** A datagram as a program gets it: reassembled, its checksum verified by the kernel. */
export interface Received {
  /** `address:port` */
  readonly from: string;
  readonly length: number;
  readonly payloadHash: string;
}

/** A UDP socket in a namespace: a Node process of its own, because a process cannot be in two. */
export class Receiver {
  private constructor(
    private readonly child: Piped,
    private readonly journal: Journal<Received>,
    readonly endpoint: string,
  ) {}

  /** Bound when it returns. */
  static async start(where: { readonly namespace?: string }, address: string, port: number): Promise<Receiver> {
    const program = ['-r', 'ts-node/register/transpile-only', join(__dirname, 'udp-receiver.ts')];
    const [command, args] = inside(where, process.execPath, ...program, address, String(port));
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], cwd: REPOSITORY });
    const journal = new Journal<Received>();
    const errors = lines(child.stderr);
    const output = lines(child.stdout, (line) => {
      if (line.startsWith('{')) journal.add(JSON.parse(line) as Received);
    });
    child.on('close', () => {
      const error = new Error(`UDP receiver on ${address}:${port} ended: ${errors.items.join('; ')}`);
      [journal, output].forEach((each) => each.fail(error));
    });
    await output.see(`UDP receiver on ${address}:${port}`, (line) => line === 'bound', START_TIMEOUT);
    return new Receiver(child, journal, `${address}:${port}`);
  }

  /** So far, in the order received. */
  get datagrams(): readonly Received[] {
    return this.journal.items;
  }

  /** Waits for a datagram; one already received counts. */
  see(what: string, wanted: (datagram: Received) => boolean, timeoutMs = SEE_TIMEOUT): Promise<Received> {
    return this.journal.see(`${what} at the UDP socket ${this.endpoint}`, wanted, timeoutMs);
  }

  async stop(): Promise<void> {
    await end(this.child, 'SIGTERM');
  }
}

async function end(child: Piped, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill(signal);
  await closed;
}

function endMark(): Buffer {
  return ethernet({ source: FOREIGN_MACS.source, type: EXPERIMENTAL, payload: randomBytes(46) });
}

function isEndMark(frame: Buffer): boolean {
  return frame.length === 60 && frame.readUInt16BE(12) === EXPERIMENTAL;
}

function lines(stream: Readable, each: (line: string) => void = () => undefined): Journal<string> {
  const journal = new Journal<string>();
  let rest = '';
  stream.setEncoding('utf8').on('data', (text: string) => {
    const complete = (rest + text).split('\n');
    rest = complete.pop() ?? '';
    for (const line of complete) {
      each(line);
      journal.add(line);
    }
  });
  return journal;
}

/** Takes a capture file as it is written, gives the frames one by one. */
function pcapReader(each: (frame: Buffer) => void): (chunk: Buffer) => void {
  let rest = Buffer.alloc(0);
  let headerSeen = false;
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    if (!headerSeen && rest.length < 24) return;
    if (!headerSeen) rest = rest.subarray(24);
    headerSeen = true;
    while (rest.length >= 16 && rest.length >= 16 + rest.readUInt32LE(8)) {
      const length = rest.readUInt32LE(8);
      each(Buffer.from(rest.subarray(16, 16 + length)));
      rest = rest.subarray(16 + length);
    }
  };
}
