// SPDX-License-Identifier: Apache-2.0
// More health checks than any load balancer sends, from one that means no good: connections that say nothing, or half of what
// they should, are opened and opened again when they are closed, and beside them complete requests are sent at an even pace,
// one a connection. Prints what came of the requests, as JSON. Runs in the namespace of the source.
import { connect, type Socket } from 'node:net';

export interface Flood {
  /** From the first request to the last. */
  readonly seconds: number;
  /** How often each answer came, whole as it was sent. */
  readonly answers: Readonly<Record<string, number>>;
  /** Refused, reset, or closed without a word. */
  readonly refused: number;
  /** Of the answers, ascending. */
  readonly milliseconds: readonly number[];
  /** Connections that were closed, and so opened again. */
  readonly reopened: number;
}

const EVERY_MS = 10;
const [host = '127.0.0.1', port = '8079', requests = '1000', held = '0'] = process.argv.slice(2);
const count = Number(requests);

const open = (): Socket => connect({ host, port: Number(port) }).on('error', () => undefined);

const holding = new Set<Socket>();
let reopened = -Number(held);
function hold(silent: boolean): void {
  reopened++;
  const socket = open();
  holding.add(socket);
  if (!silent) socket.write('GET /healthz HTTP/1.1\r\nHost: ');
  socket.on('close', () => {
    if (holding.delete(socket)) setTimeout(() => hold(silent), EVERY_MS);
  });
  socket.resume();
}

const answers: Record<string, number> = {};
const milliseconds: number[] = [];
let refused = 0;

function request(): Promise<void> {
  return new Promise((done) => {
    const startedAt = performance.now();
    let answer = '';
    open()
      .setEncoding('utf8')
      .on('data', (text: string) => (answer += text))
      .on('close', () => {
        if (answer === '') refused++;
        else {
          answers[answer] = (answers[answer] ?? 0) + 1;
          milliseconds.push(performance.now() - startedAt);
        }
        done();
      })
      .write(`GET /healthz HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  });
}

/** What is late is made up for, so that all leave within their second. */
async function flood(): Promise<Flood> {
  for (let i = 0; i < Number(held); i++) hold(i % 2 === 0);
  await new Promise((done) => setTimeout(done, 500));
  const pending: Promise<void>[] = [];
  const startedAt = performance.now();
  while (pending.length < count) {
    const due = Math.min(count, Math.ceil((count * (performance.now() - startedAt + EVERY_MS)) / 1000));
    while (pending.length < due) pending.push(request());
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
  const seconds = (performance.now() - startedAt) / 1000;
  await Promise.all(pending);
  return { seconds, answers, refused, milliseconds: milliseconds.sort((a, b) => a - b), reopened };
}

if (require.main === module)
  void flood().then((result) => {
    process.stdout.write(JSON.stringify(result));
    process.exit(0);
  });
