// SPDX-License-Identifier: Apache-2.0
// The health endpoint of the lab's gateway. The lab has no systemd, but its tool that listens and hands the socket over.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { INSTALLED } from '../../constructs/user-data/user-data';
import type { Flood } from './flood';
import { inNamespace, must, type Progress, REPOSITORY, waitFor } from '../support/host';
import { LAB, RUNTIME } from './namespaces';

/** When, the HTTP status, the verdict. */
export const VERDICT_FILE = join(RUNTIME, 'health');
const PORT = 8079;
const URL = `http://${LAB.primary.address}:${PORT}`;
const { namespace: GATEWAY } = LAB.primary;
const { namespace: SOURCE } = LAB.source;

export interface Answer {
  readonly code: number;
  readonly body: unknown;
}

export class HealthEndpoint {
  private constructor(private readonly child: ChildProcess) {}

  /** Listens when it returns. */
  static async start(progress: Progress): Promise<HealthEndpoint> {
    const program = [join(INSTALLED, 'health/health_endpoint'), VERDICT_FILE];
    const [command, args] = inNamespace(GATEWAY, 'systemd-socket-activate', '-l', `0.0.0.0:${PORT}`, ...program);
    const child = spawn(command, args, { stdio: 'ignore' });
    const listens = async (): Promise<true | undefined> =>
      (await must(...inNamespace(GATEWAY, 'ss', '-Hltn', `sport = :${PORT}`))) !== '' || undefined;
    await waitFor('listening socket', listens, { timeoutMs: 10_000, everyMs: 50, progress });
    return new HealthEndpoint(child);
  }

  /** As the load balancer does, from outside. */
  async ask(path = '/healthz'): Promise<Answer> {
    const ask = ['curl', '-s', '-m', '10', '-w', '\n%{http_code}', `${URL}${path}`];
    const [body = '', code] = (await must(...inNamespace(SOURCE, ...ask))).split(/\n+/);
    return { code: Number(code), body: JSON.parse(body) as unknown };
  }

  async flood(requests: number, held: number): Promise<Flood> {
    const program = ['-r', 'ts-node/register/transpile-only', join(__dirname, 'flood.ts')];
    const args = [LAB.primary.address, PORT, requests, held].map(String);
    const output = await must(...inNamespace(SOURCE, process.execPath, ...program, ...args), { cwd: REPOSITORY });
    return JSON.parse(output) as Flood;
  }

  /** kB */
  async memory(): Promise<{ readonly resident: number; readonly proportional: number; readonly own: number }> {
    const text = await readFile(`/proc/${this.child.pid}/smaps_rollup`, 'utf8');
    const kB = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1]);
    return { resident: kB('Rss'), proportional: kB('Pss'), own: kB('Anonymous') };
  }

  /** Of the processor, in seconds since its start. */
  async seconds(): Promise<number> {
    const [, after = ''] = (await readFile(`/proc/${this.child.pid}/stat`, 'utf8')).split(') ');
    const [user, system] = after.split(' ').slice(11, 13).map(Number);
    return ((user ?? NaN) + (system ?? NaN)) / 100;
  }

  async descriptors(): Promise<number> {
    return (await readdir(`/proc/${this.child.pid}/fd`)).length;
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill();
    await ended;
  }
}
