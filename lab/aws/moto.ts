// SPDX-License-Identifier: Apache-2.0
// moto's server as a child process: AWS behind a real HTTP endpoint, on loopback or wherever it is told to listen.
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { inNamespace } from '../support/host';
import { pythonTool } from '../support/python-tools';

const STARTS_WITHIN_MS = 60_000;

export interface MotoOptions {
  /** Network namespace to listen in. @default - that of the caller */
  readonly namespace?: string;
  /** @default - loopback */
  readonly address?: string;
  /** @default - a free one */
  readonly port?: number;
  /** PEM files, for HTTPS. @default - HTTP */
  readonly tls?: { readonly certificate: string; readonly key: string };
}

export interface Moto {
  readonly port: number;
  /** Forgets everything. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}

/** Ends with its caller at the latest. */
export async function startMoto({ namespace, address = '127.0.0.1', port = 0, tls }: MotoOptions = {}): Promise<Moto> {
  const files = tls ? ['-c', tls.certificate, '-k', tls.key] : [];
  const server = ['setpriv', '--pdeathsig', 'SIGKILL', '--', pythonTool('moto_server')];
  server.push('-H', address, '-p', String(port), ...files);
  const [program = '', ...args] = server;
  const [command, inside] = namespace === undefined ? [program, args] : inNamespace(namespace, ...server);
  const child = spawn(command, inside, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<void>((done) => child.once('close', () => done()));
  const stop = async () => {
    child.ref();
    child.kill('SIGKILL');
    await ended;
  };
  let said = '';
  const listens = await new Promise<number>((found, refuse) => {
    const timer = setTimeout(() => refuse(new Error(`moto: not up within a minute\n${said}`)), STARTS_WITHIN_MS);
    const read = (text: string): void => {
      said = (said + text).slice(-10_000);
      // With port 0 the kernel gives a free one, moto says which.
      const number = /Running on https?:\/\/[0-9.]+:(\d+)/.exec(said)?.[1];
      if (!number) return;
      clearTimeout(timer);
      found(Number(number));
    };
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', read);
      (stream as Socket).unref(); // an open pipe would keep a finished test run alive
    }
    child.once('error', refuse);
    void ended.then(() => refuse(new Error(`moto: ended\n${said}`)));
  });
  child.unref();
  const reset = async () => void (await fetch(`http://127.0.0.1:${listens}/moto-api/reset`, { method: 'POST' }));
  return { port: listens, reset, stop };
}
