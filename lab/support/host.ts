// SPDX-License-Identifier: Apache-2.0
// What a lab needs from the machine it runs on: commands, bounded waits that say what they wait for, and a place for
// what is dear to build. Nothing in here waits without a limit or in silence.
import { spawn } from 'node:child_process';
import { appendFileSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

export const REPOSITORY = resolve(__dirname, '../..');

/** Where images live. ${XDG_CACHE_HOME} moves it, for instance to a bigger disk. */
export function cacheDirectory(): string {
  const directory = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'mirror-gateway');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return directory;
}

/** Where large files go that end with the test: a folder of the run of all tests, or the cache. */
export function scratchDirectory(): string {
  return process.env.SCRATCH || cacheDirectory();
}

/** Whether other processes' numbers mean nothing here: a run of all tests gives each file processes of its own. */
export function isIsolated(): boolean {
  return Boolean(process.env.SCRATCH);
}

/** Counts for the table of a run of all tests how often a lab was built, a machine booted. */
export function tally(what: 'lab-up' | 'boot'): void {
  if (process.env.TALLY) appendFileSync(process.env.TALLY, `${what}\n`);
}

/** Lines on stderr, each with the seconds since the first: a reader can tell slow from stuck. */
export class Progress {
  private readonly startedAt = Date.now();

  constructor(private readonly title: string) {}

  say(message: string): void {
    const elapsed = ((Date.now() - this.startedAt) / 1000).toFixed(1).padStart(6);
    process.stderr.write(`[${this.title} ${elapsed}s] ${message}\n`);
  }
}

export interface RunOptions {
  readonly input?: string | Buffer;
  readonly timeoutMs?: number;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Sees each line of both streams as it comes. */
  readonly onLine?: (line: string) => void;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end; a non-zero exit is an answer, not an exception. 124 when it took longer than it may. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((done, refuse) => {
    const child = spawn(command, args, { cwd: options.cwd, env: options.env ?? process.env });
    const output = { stdout: '', stderr: '' };
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, options.timeoutMs ?? 60_000);
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8').on('data', (text: string) => (output[stream] += text));
      if (options.onLine) eachLine(child[stream], options.onLine);
    }
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      refuse(error.code === 'ENOENT' ? new Error(`${command}: not found; install it: make setup`) : error);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      done({ code: late ? 124 : (code ?? 128), ...output });
    });
    child.stdin.on('error', () => undefined); // a command may end without reading what it was given
    child.stdin.end(options.input ?? '');
  });
}

/** Like `run`, for commands whose failure ends the work. */
export async function must(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(command, args, options);
  if (result.code === 0) return result.stdout;
  const said = (result.stderr.trim() || result.stdout.trim()).split('\n').slice(-8).join('\n  ');
  throw new Error(`${command} ${args.join(' ')}: exit code ${result.code}\n  ${said}`);
}

/** Calls for each complete line of a stream. */
export function eachLine(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = '';
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(onLine);
  });
}

export interface WaitOptions {
  readonly timeoutMs: number;
  readonly everyMs?: number;
  readonly progress: Progress;
  /** Added to each progress line: what can be seen of the thing waited for. */
  readonly detail?: () => string;
}

/** Asks until there is an answer; every ten seconds says what is still missing; gives up at the limit. */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  { timeoutMs, everyMs = 500, progress, detail = () => '' }: WaitOptions,
): Promise<T> {
  const startedAt = Date.now();
  let saidAt = startedAt;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined) return answer;
    const now = Date.now();
    if (now - startedAt > timeoutMs) throw new Error(`no ${what} within ${Math.round(timeoutMs / 1000)} s`);
    if (now - saidAt >= 10_000) {
      saidAt = now;
      progress.say(`waiting for ${what}: ${Math.round((now - startedAt) / 1000)} s ${detail()}`.trimEnd());
    }
    await sleep(everyMs);
  }
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, milliseconds));
}

/** A command line that runs inside a network namespace. `ip netns exec` would remount /sys and hide bpffs. */
export function inNamespace(namespace: string, ...command: string[]): [string, string[]] {
  return ['nsenter', [`--net=/var/run/netns/${namespace}`, ...command]];
}

/** Programs and maps are pinned in a BPF file system; systemd mounts it so at boot, a container or a bare init may not. */
export async function mountBpffs(): Promise<void> {
  const { code } = await run('findmnt', ['--types', 'bpf', '/sys/fs/bpf']);
  if (code !== 0) await must('mount', ['-t', 'bpf', '-o', 'nosuid,nodev,noexec,mode=0700', 'bpf', '/sys/fs/bpf']);
}
