// SPDX-License-Identifier: Apache-2.0
// What a connection to the health endpoint gets: the state of the gateway in status and body, soon, and however many ask.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { DEPLOY_SCRIPT } from '../../constructs/user-data';
import { inNamespace, must, Progress } from '../../lab/host';
import { deploy, LAB, labDown, labUp } from '../../lab/namespaces';
import { Stream } from '../../lab/traffic-stream';

const GATEWAY = LAB.primary.namespace;
const QUESTION = 'GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n';
/** For this long an answer stands. */
const RECENT_MS = 1000;
const progress = new Progress('health');

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, string>>;
  readonly milliseconds: number;
}

/** Of one connection that systemd would give to the service; `question` is all that ever comes. Undefined: closed without. */
async function ask(
  question = QUESTION,
  flags: readonly string[] = [],
): Promise<(Answer & { said: string }) | undefined> {
  const startedAt = Date.now();
  const [command, args] = inNamespace(GATEWAY, 'bash', ...flags, DEPLOY_SCRIPT, 'health', '--http');
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let [answer, said] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (answer += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  child.stdin.on('error', () => undefined).write(question); // and stays open, as a client's connection
  await once(child, 'close');
  child.stdin.destroy();
  if (answer === '') return undefined;
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  expect(head).toContain(`\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`);
  return {
    ...{ status: Number(head.split(' ')[1]), body: JSON.parse(body) as Answer['body'] },
    ...{ milliseconds: Date.now() - startedAt, said },
  };
}

const later = (): Promise<void> => new Promise((done) => setTimeout(done, RECENT_MS + 100));

describe('the health endpoint', () => {
  beforeAll(() => labUp('direct/generic'));
  afterAll(() => labDown());
  beforeEach(later);

  it('is 200 and healthy while the engine that was asked for carries the traffic', async () => {
    const answers = [await ask(), await ask(), await ask()];
    expect(answers[0]).toMatchObject({ status: 200, body: { state: 'healthy', engine: 'direct', reason: '' } });
    const [first, ...rest] = answers.map((answer) => answer?.milliseconds);
    progress.say(`${first} ms where it is found out, ${rest.join(' and ')} ms within the next second`);
  });

  it.each([
    ['the legacy program', 'rollback', 'nfqueue'],
    ['the standby', 'detach', 'standby'],
  ])('is 200 and degraded while %s does, and says why', async (_, verb, engine) => {
    await deploy(verb);
    expect(await ask()).toMatchObject({
      status: 200,
      body: { state: 'degraded', engine, reason: `${engine} carries the traffic, XDP was asked for` },
    });
    await deploy('attach');
  });

  it('is 503 and broken while nothing can flow, and healthy within a second after', async () => {
    await must(...inNamespace(GATEWAY, 'ip', 'link', 'set', LAB.secondary.interface, 'nomaster'));
    expect(await ask()).toMatchObject({
      status: 503,
      body: { state: 'broken', reason: `${LAB.secondary.interface} is no active port of br0` },
    });
    await deploy('network-up');
    await later();
    expect(await ask()).toMatchObject({ status: 200, body: { state: 'healthy' } });
  });

  it('is found out once, however many ask at the same time, and costs the traffic nothing', async () => {
    await Stream.build();
    const stream = await Stream.start({ pps: 5000 }, progress);
    try {
      const answers = await Promise.all(Array.from({ length: 50 }, () => ask(QUESTION, ['-x'])));
      expect(new Set(answers.map((answer) => JSON.stringify([answer?.status, answer?.body]))).size).toBe(1);
      expect(answers[0]).toMatchObject({ status: 200, body: { state: 'healthy' } });
      const times = answers.map((answer) => answer?.milliseconds ?? 0);
      progress.say(`50 at the same time: answered within ${Math.max(...times)} ms`);
      const found = answers.filter((answer) => answer?.said.includes('renew_verdict'));
      expect(found.length).toBeGreaterThan(0);
      // One a second.
      expect(found.length).toBeLessThanOrEqual(1 + Math.ceil(Math.max(...times) / RECENT_MS));
      const { lost, sent } = await stream.finish();
      expect({ lost, isSent: sent.sent > 0 }).toEqual({ lost: [], isSent: true });
    } finally {
      stream.abort();
    }
  });

  it.each([
    ['says nothing', ''],
    ['stops within the first line', 'GET /hea'],
  ])('closes the connection of a client that %s', async (_, question) => {
    expect(await ask(question)).toBeUndefined();
  });

  it('does not wait for a client that never ends its headers', async () => {
    expect(await ask('GET /healthz HTTP/1.1\r\nHost: gateway\r\n')).toMatchObject({ status: 200 });
  });

  it.each(['GET / HTTP/1.1\r\n\r\n', 'POST /healthz HTTP/1.1\r\n\r\n', 'GET /healthz/../etc HTTP/1.1\r\n\r\n'])(
    'serves nothing else: %j',
    async (question) => {
      expect(await ask(question)).toMatchObject({ status: 404 });
    },
  );
});
