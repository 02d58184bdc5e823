// SPDX-License-Identifier: Apache-2.0
// moto's server as a child process: an EC2 with real VPCs, subnets and instances behind a real HTTP endpoint on loopback.
import { spawn } from 'node:child_process';
import { pythonTool } from '../../lab/python-tools';

const STARTS_WITHIN_MS = 60_000;

export interface Moto {
  readonly port: number;
  /** Forgets everything. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}

export async function startMoto(): Promise<Moto> {
  // Port 0: the kernel gives a free one, moto says which.
  const child = spawn(pythonTool('moto_server'), ['-H', '127.0.0.1', '-p', '0'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<void>((done) => child.once('close', () => done()));
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  process.once('exit', () => child.kill('SIGKILL'));
  let said = '';
  const port = await new Promise<number>((found, refuse) => {
    const timer = setTimeout(() => refuse(new Error(`moto: not up within a minute\n${said}`)), STARTS_WITHIN_MS);
    const read = (text: string): void => {
      said = (said + text).slice(-10_000);
      const port = /Running on http:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[1];
      if (!port) return;
      clearTimeout(timer);
      found(Number(port));
    };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', read);
    child.once('error', refuse);
    void ended.then(() => refuse(new Error(`moto: ended\n${said}`)));
  });
  const reset = async () => void (await fetch(`http://127.0.0.1:${port}/moto-api/reset`, { method: 'POST' }));
  return { port, reset, stop };
}
