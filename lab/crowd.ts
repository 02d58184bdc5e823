// SPDX-License-Identifier: Apache-2.0
// Many who ask an HTTP server at once, and some who connect and say nothing. ADDRESS PORT ASKING SILENT; prints a Crowd.
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Crowd {
  /** Answers of those who asked within a second, by their status line and body; `refused`: closed without an answer. */
  readonly answers: Readonly<Record<string, number>>;
  /** From the first question to the last answer. */
  readonly seconds: number;
  /** After this time the server had closed all silent connections. */
  readonly silentSeconds: number;
}

const PATIENCE_MS = 60_000;

/** What came until the server closed. */
function exchange(address: string, port: number, question: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(port, address, () => question && socket.write(question));
    socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error('still open')));
    socket.on('data', (data) => (answer += data.toString('latin1')));
    socket.on('error', (error) => (answer += error.message === 'still open' ? error.message : ''));
    socket.on('close', () => resolve(answer));
  });
}

function summaryOf(answer: string): string {
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  return head === '' ? 'refused' : `${head.split('\r\n')[0]} ${body.trim()}`;
}

async function main([address = '', port = '0', asking = '0', silent = '0']: string[]): Promise<void> {
  const secondsSince = (start: number): number => (Date.now() - start) / 1000;
  const startedAt = Date.now();
  const mute = Promise.all(Array.from({ length: Number(silent) }, () => exchange(address, Number(port), '')));
  const silentSeconds = mute.then(() => secondsSince(startedAt));
  await sleep(100);
  const askedAt = Date.now();
  const exchanges: Promise<string>[] = [];
  while (exchanges.length < Number(asking)) {
    const due = Math.min(Number(asking), Math.ceil(secondsSince(askedAt) * Number(asking)));
    while (exchanges.length < due)
      exchanges.push(exchange(address, Number(port), `GET /healthz HTTP/1.1\r\nHost: ${address}\r\n\r\n`));
    await sleep(1);
  }
  const answers: Record<string, number> = {};
  for (const answer of (await Promise.all(exchanges)).map(summaryOf)) answers[answer] = (answers[answer] ?? 0) + 1;
  const crowd: Crowd = { answers, seconds: secondsSince(askedAt), silentSeconds: await silentSeconds };
  process.stdout.write(`${JSON.stringify(crowd)}\n`);
}

void main(process.argv.slice(2));
