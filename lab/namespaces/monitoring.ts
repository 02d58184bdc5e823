// SPDX-License-Identifier: Apache-2.0
// The shipped monitoring in the lab's gateway, as its unit would run it, and what it sends to where the CloudWatch agent is.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { INSTALLED } from '../../constructs/user-data/user-data';
import { type Emf } from '../aws/emf';
import { inNamespace, must, type Progress, REPOSITORY, waitFor } from '../support/host';
import { LAB, RUNTIME } from './namespaces';

const GATEWAY = LAB.primary.namespace;

/** The lines of a stream as they come. */
function linesOf(stream: NodeJS.ReadableStream, each: (line: string) => void): void {
  let rest = '';
  stream.on('data', (text: Buffer) => {
    const lines = (rest + text.toString()).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(each);
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

/** A socket in the place of the agent. */
export class Agent {
  /** Datagrams as they came. */
  readonly datagrams: string[] = [];

  private constructor(
    private readonly child: ChildProcess,
    private readonly progress: Progress,
  ) {}

  /** Listens when it returns. */
  static async start(progress: Progress): Promise<Agent> {
    const program = ['-r', 'ts-node/register/transpile-only', join(REPOSITORY, 'lab/aws/emf-receiver.ts')];
    const [command, args] = inNamespace(GATEWAY, process.execPath, ...program);
    const child = spawn(command, args, { cwd: REPOSITORY, stdio: ['pipe', 'pipe', 'inherit'] });
    const agent = new Agent(child, progress);
    const [first] = (await once(child.stdout, 'data')) as [Buffer];
    if (!first.toString().startsWith('bound')) throw new Error(`the socket in the agent's place: ${first.toString()}`);
    linesOf(child.stdout, (line) => agent.datagrams.push(JSON.parse(line) as string));
    return agent;
  }

  get documents(): Emf[] {
    return this.datagrams.map((datagram) => JSON.parse(datagram) as Emf);
  }

  /** So many more, from now on. */
  async next(count: number, timeoutMs = 60_000): Promise<Emf[]> {
    const known = this.datagrams.length;
    const probe = () => (this.datagrams.length >= known + count ? true : undefined);
    await waitFor(`${count} documents`, probe, { timeoutMs, everyMs: 50, progress: this.progress });
    return this.documents.slice(known);
  }

  async stop(): Promise<void> {
    this.child.stdin?.end();
    await ended(this.child);
  }
}

export interface MonitoringOptions {
  /** Between two samples; ten on a gateway. */
  readonly seconds: number;
  /** Where it finds programs before it looks elsewhere. */
  readonly path?: string;
  /** Where it runs (default: the gateway). */
  readonly namespace?: string;
}

/** xdp-monitoring.sh, running. */
export class Monitoring {
  /** What would be in its journal. */
  readonly said: string[] = [];

  private constructor(private readonly child: ChildProcess) {}

  static start({ seconds, path, namespace = GATEWAY }: MonitoringOptions): Monitoring {
    const [command, args] = inNamespace(namespace, join(INSTALLED, 'userdata/xdp-monitoring.sh'));
    const PATH = [path, process.env.PATH].filter(Boolean).join(':');
    const env = { ...process.env, PATH, INTERVAL_SECONDS: String(seconds) };
    // Its own group, which goes as a unit's would.
    const child = spawn(command, args, { env, detached: true, stdio: ['ignore', 'inherit', 'pipe'] });
    const monitoring = new Monitoring(child);
    if (child.stderr) linesOf(child.stderr, (line) => monitoring.said.push(line));
    return monitoring;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async stop(): Promise<void> {
    if (this.running && this.child.pid !== undefined) process.kill(-this.child.pid, 'SIGTERM');
    await ended(this.child);
  }
}

/** Runs xdp-latency.service once: its command, its output to where the unit says. */
export async function measureLatency(): Promise<void> {
  const unit = readFileSync(join(INSTALLED, 'userdata/units/xdp-latency.service'), 'utf8');
  const [, command = ''] = /^ExecStart=(.*)$/m.exec(unit) ?? [];
  const [, output = ''] = /^StandardOutput=truncate:(.*)$/m.exec(unit) ?? [];
  if (!output.startsWith(`${RUNTIME}/`)) throw new Error(`xdp-latency.service writes to '${output}'`);
  const [program = '', ...args] = command.split(' ');
  writeFileSync(output, await must(...inNamespace(GATEWAY, program, ...args)));
}
