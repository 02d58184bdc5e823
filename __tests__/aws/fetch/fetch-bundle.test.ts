// SPDX-License-Identifier: Apache-2.0
// fetch_bundle.sh as it is shipped, against a bucket that checks signatures and the stack's own policy, and a metadata
// service: what works, what comes late, what is gone, what is broken. On loopback, and without root.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { buildBundle, bundleFiles, FETCH_SCRIPT, REPOSITORY, sha256 } from '../../../constructs/user-data/bundle';
import { type FetchSettings, renderBundleEnv } from '../../../constructs/user-data/user-data';
import { Bucket, type StoredBundle } from '../../../lab/aws/bucket';
import { run, type RunResult } from '../../../lab/support/host';
import { imdsServer, type Instance } from '../../../lab/aws/imds';
import { only, synth } from '../../unit/constructs/synthesized';

const SCRIPT = path.join(REPOSITORY, FETCH_SCRIPT);
const stack = synth();
const stored: StoredBundle = {
  region: 'eu-central-1',
  bucket: only(stack, 'aws_s3_bucket').bucket as string,
  key: only(stack, 'aws_s3_object').key as string,
  content: Buffer.from(only(stack, 'aws_s3_object').content_base64 as string, 'base64'),
  policy: only(stack, 'aws_iam_role_policy', { name: 'read-bundle' }).policy as string,
};
const files = bundleFiles();
/** What other deployments put there before and after. */
const [older, newer] = ['older', 'newer'].map((text) =>
  buildBundle([{ path: 'userdata/packages.txt', mode: 0o644, content: Buffer.from(text) }]),
);

let bucket: Bucket;
let imds: Server;
let scratch: string;
let credentials: string;
const instance: { -readonly [Key in keyof Instance]: Instance[Key] } = { id: 'i-00000000000000001', interfaces: [] };
const servers: Server[] = [];

function listen(server: Server): Promise<Server> {
  servers.push(server);
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done(server)));
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

beforeAll(async () => {
  scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'mirror-gateway-fetch-'));
  imds = await listen(imdsServer(instance));
  bucket = await Bucket.start({ ...stored, content: older?.archive ?? Buffer.of() });
  await bucket.put(stored.content);
  await bucket.put(newer?.archive ?? Buffer.of());
  await bucket.delete();
  credentials = await bucket.close();
});

beforeEach(() => (instance.credentials = credentials));

afterAll(async () => {
  servers.forEach((server) => void server.closeAllConnections());
  servers.forEach((server) => server.close());
  await bucket.stop();
  fs.rmSync(scratch, { recursive: true });
});

interface Fetched extends RunResult {
  readonly directory: string;
  readonly settings: string;
}

function settingsFor(directory: string, changes: Partial<FetchSettings>): string {
  const settings = path.join(scratch, `${path.basename(directory)}.env`);
  const env = renderBundleEnv({
    // An address has no subdomains for buckets.
    bucketUrl: `http://127.0.0.1:${bucket.port}/${stored.bucket}`,
    region: stored.region,
    key: stored.key,
    sha256: sha256(stored.content),
    imdsUrl: `http://127.0.0.1:${portOf(imds)}/latest`,
    directory,
    patienceSeconds: 0,
    ...changes,
  });
  fs.writeFileSync(settings, env);
  return settings;
}

function fetchAgain(settings: string, env: NodeJS.ProcessEnv = process.env): Promise<RunResult> {
  return run(SCRIPT, [settings], { env, timeoutMs: 60_000 });
}

async function fetchBundle(changes: Partial<FetchSettings> = {}): Promise<Fetched> {
  const directory = path.join(scratch, randomBytes(6).toString('hex'));
  const settings = settingsFor(directory, changes);
  return { ...(await fetchAgain(settings)), directory, settings };
}

function expectBundle({ code, stdout, directory }: Fetched): void {
  expect(stdout).toContain(`is in ${directory}\n`);
  expect(code).toBe(0);
  for (const { path: file, mode, content } of files) {
    expect(fs.readFileSync(path.join(directory, file)).equals(content)).toBe(true);
    expect(fs.statSync(path.join(directory, file)).mode & 0o777).toBe(mode);
  }
}

/** Nothing is left that could be run or taken for a bundle, and one line says why. */
function expectFailure({ code, stderr, directory }: Fetched, reason: string): void {
  expect(stderr).toContain(reason);
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(code).toBe(1);
  expect(fs.readdirSync(scratch).filter((name) => name.startsWith(`${path.basename(directory)}`))).toEqual([
    `${path.basename(directory)}.env`,
  ]);
}

test('fetches the version that it is asked for, although a newer one and a deletion came after it', async () => {
  expectBundle(await fetchBundle());
});

test('does nothing where the bundle already is, and does it without a network', async () => {
  const first = await fetchBundle();
  fs.writeFileSync(path.join(first.directory, 'built'), 'by make');
  await Promise.resolve();
  const again = await fetchAgain(
    settingsFor(first.directory, { imdsUrl: 'http://127.0.0.1:1', bucketUrl: 'http://127.0.0.1:1' }),
  );
  expect(again).toMatchObject({ code: 0, stderr: '' });
  expect(again.stdout).toMatch(/^fetch_bundle\.sh: bundle [0-9a-f]{12} is already in /);
  expect(fs.existsSync(path.join(first.directory, 'built'))).toBe(true);
});

test('replaces another bundle as a whole', async () => {
  const first = await fetchBundle({ sha256: older?.sha256 });
  expect(first.code).toBe(0);
  fs.writeFileSync(path.join(first.directory, 'left'), 'by the older one');
  const second = { ...first, ...(await fetchAgain(settingsFor(first.directory, {}))) };
  expectBundle(second);
  expect(fs.existsSync(path.join(first.directory, 'left'))).toBe(false);
  expect(fs.readdirSync(scratch).filter((name) => /\.(?:new|old)$/.test(name))).toEqual([]);
});

test('shows nobody the credentials', async () => {
  const { SecretAccessKey, Token } = JSON.parse(credentials) as Record<string, string>;
  const bin = path.join(scratch, 'watched');
  const seen = path.join(scratch, 'seen');
  fs.mkdirSync(bin);
  const curl = (await run('sh', ['-c', 'command -v curl'])).stdout.trim();
  fs.writeFileSync(path.join(bin, 'curl'), `#!/bin/sh\necho "$@" >>${seen}\nenv >>${seen}\nexec ${curl} "$@"\n`, {
    mode: 0o755,
  });
  const settings = settingsFor(path.join(scratch, 'shown'), {});
  const { code, stdout, stderr } = await fetchAgain(settings, { ...process.env, PATH: `${bin}:${process.env.PATH}` });
  expect(code).toBe(0);
  const everything = stdout + stderr + fs.readFileSync(seen, 'utf8');
  expect(everything).toContain('--aws-sigv4');
  expect([SecretAccessKey, Token].filter((secret) => everything.includes(secret ?? ''))).toEqual([]);
});

describe('credentials', () => {
  test('that come late are waited for', async () => {
    delete instance.credentials;
    setTimeout(() => (instance.credentials = credentials), 3000);
    const fetched = await fetchBundle({ patienceSeconds: 30 });
    expectBundle(fetched);
    expect(fetched.stdout).toMatch(/iam\/security-credentials\/: no credentials; .*; trying again\n/);
  });

  test('that never come fail, and say what to look at', async () => {
    delete instance.credentials;
    expectFailure(
      await fetchBundle({ patienceSeconds: 1 }),
      'no credentials; does the launch template name an instance profile',
    );
  });

  test.each([
    ['SecretAccessKey', 'SignatureDoesNotMatch'],
    ['AccessKeyId', 'InvalidAccessKeyId'],
    ['Token', 'InvalidToken'],
  ])('with a wrong %s are refused', async (field, code) => {
    const wrong = JSON.parse(credentials) as Record<string, string>;
    instance.credentials = JSON.stringify({ ...wrong, [field]: `${wrong[field]?.slice(0, -4)}AAAA` }, null, 2);
    expectFailure(await fetchBundle(), code);
  });

  test('open nothing but this bucket', async () => {
    const other = `http://127.0.0.1:${bucket.port}/${stored.bucket}-other`;
    expectFailure(await fetchBundle({ bucketUrl: other }), 'HTTP status 403 AccessDenied; ');
  });

  test('cannot be had without a metadata service', async () => {
    expectFailure(
      await fetchBundle({ imdsUrl: 'http://127.0.0.1:1/latest' }),
      'is the metadata service of this instance enabled?',
    );
  });
});

describe('the bucket', () => {
  /** S3 with a fault before it. */
  const before = (fault: RequestListener) => listen(createServer(fault));

  function pass(...[request, response]: Parameters<RequestListener>): void {
    const upstream = connect(bucket.port, '127.0.0.1');
    const headers = Object.entries({ ...request.headers, connection: 'close' }).map(
      ([name, value]) => `${name}: ${String(value)}`,
    );
    upstream.write(`${request.method} ${request.url} HTTP/1.1\r\n${headers.join('\r\n')}\r\n\r\n`);
    upstream.pipe(response.socket as NodeJS.WritableStream);
  }

  test('that answers later is waited for', async () => {
    let refused = 0;
    const server = await before((request, response) => {
      if (refused++ < 2) response.writeHead(503).end('<Error><Code>SlowDown</Code></Error>');
      else pass(request, response);
    });
    const fetched = await fetchBundle({
      bucketUrl: `http://127.0.0.1:${portOf(server)}/${stored.bucket}`,
      patienceSeconds: 30,
    });
    expectBundle(fetched);
    expect(fetched.stdout).toContain('HTTP status 503 SlowDown; ');
  });

  test('that cannot be reached fails, and says so', async () => {
    expectFailure(await fetchBundle({ bucketUrl: 'http://127.0.0.1:1' }), 'can this subnet reach S3');
  });

  test('without such a bundle fails at once, however patient', async () => {
    const fetched = await fetchBundle({ sha256: sha256('something else'), patienceSeconds: 600 });
    expectFailure(fetched, `none of 3 versions has the SHA-256 ${sha256('something else')}; deploy the stack again`);
  });

  test('that breaks off is asked again, and half a bundle is never used', async () => {
    let broken = 0;
    const server = await before((request, response) => {
      if (!request.url?.includes('versionId=') || broken++ > 0) return pass(request, response);
      response.writeHead(200, { 'content-length': stored.content.length });
      response.write(stored.content.subarray(0, 5000), () => response.socket?.destroy());
    });
    const fetched = await fetchBundle({
      bucketUrl: `http://127.0.0.1:${portOf(server)}/${stored.bucket}`,
      patienceSeconds: 30,
    });
    expectBundle(fetched);
    expect(fetched.stdout).toMatch(/versionId=.*: curl: \(18\) .*; trying again\n/);
  });

  test('that only ever breaks off fails', async () => {
    const server = await before((request, response) => {
      if (!request.url?.includes('versionId=')) return pass(request, response);
      response.writeHead(200, { 'content-length': stored.content.length });
      response.write(stored.content.subarray(0, 5000), () => response.socket?.destroy());
    });
    const fetched = await fetchBundle({
      bucketUrl: `http://127.0.0.1:${portOf(server)}/${stored.bucket}`,
      patienceSeconds: 3,
    });
    expectFailure(fetched, 'curl: (18)');
  });
});

describe('curl', () => {
  /** A path with the programs of this machine and a curl or an apt-get of our own, or none. */
  function pathWith(programs: Record<string, string>): string {
    const bin = fs.mkdtempSync(path.join(scratch, 'bin-'));
    for (const name of [
      'bash',
      'cat',
      'mktemp',
      'sed',
      'head',
      'tail',
      'tr',
      'sort',
      'tar',
      'gzip',
      'sha256sum',
      'mkdir',
      'mv',
      'rm',
      'sleep',
      'env',
      'ln',
    ]) {
      fs.symlinkSync(
        ['/usr/bin', '/bin'].map((folder) => path.join(folder, name)).find((file) => fs.existsSync(file)) ?? '',
        path.join(bin, name),
      );
    }
    for (const [name, script] of Object.entries(programs))
      fs.writeFileSync(path.join(bin, name), `#!/bin/bash\n${script}\n`, { mode: 0o755 });
    return bin;
  }

  test('is installed where it is missing, as soon as apt can', async () => {
    const marker = path.join(scratch, 'apt-was-busy');
    const apt = [
      `[[ $* != *update* || -e ${marker} ]] || { : >${marker}; exit 100; }`,
      `[[ $* != *install* ]] || ln -s /usr/bin/curl "\${0%/*}/curl"`,
    ].join('\n');
    const directory = path.join(scratch, 'without-curl');
    const settings = settingsFor(directory, { patienceSeconds: 30 });
    const fetched = await fetchAgain(settings, { PATH: pathWith({ 'apt-get': apt }) });
    expectBundle({ ...fetched, directory, settings });
    expect(fetched.stdout).toMatch(/curl: installing\n.*curl: apt-get cannot install it; .*; trying again\n/);
  });

  test('of Ubuntu 22.04 is refused with what to take instead', async () => {
    const directory = path.join(scratch, 'old-curl');
    const settings = settingsFor(directory, {});
    const fetched = await fetchAgain(settings, { PATH: pathWith({ curl: 'echo curl 7.81.0 somewhere' }) });
    expectFailure(
      { ...fetched, directory, settings },
      'curl: 7.81.0 cannot sign for S3, it must be 7.88 or newer; take an image of',
    );
  });
});

test('without its settings it says who should have written them', async () => {
  const { code, stderr } = await fetchAgain('/nowhere/bundle.env');
  expect(code).toBe(1);
  expect(stderr).toBe(
    'fetch_bundle.sh: /nowhere/bundle.env is missing; the user data writes it: see /var/log/cloud-init-output.log\n',
  );
});
