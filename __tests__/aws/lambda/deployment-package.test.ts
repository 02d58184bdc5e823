// SPDX-License-Identifier: Apache-2.0
// What Lambda gets: the same bytes from everywhere, small, and it works.
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unzipSync } from 'fflate';
import { packageEniFunction, HANDLER } from '../../../lambda/shared/deployment-package';
import { must, REPOSITORY, run, type RunResult } from '../../../lab/support/host';
import { environmentOf, FakeAws, SWEEP, ZONES } from './fake-aws';

const MEGABYTE = 1_000_000;
/** The SDK looks for it where a call is signed for several regions, and does without. */
const OPTIONAL = '@aws-sdk/signature-v4-crt';

const bundle = packageEniFunction();
let folder: string;
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'mirror-gateway-eni-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the bundle', () => {
  test('is one script, below a megabyte packed and unpacked, with everything in it', () => {
    const entries = unzipSync(bundle);
    expect(Object.keys(entries)).toEqual(['index.js']);
    expect(bundle.length).toBeLessThan(MEGABYTE);
    const script = Buffer.from(entries['index.js'] ?? []).toString('utf8');
    expect(script.length).toBeLessThan(MEGABYTE);
    const required = [...script.matchAll(/\brequire\("([^"]+)"\)/g)].map(([, name]) => name ?? '');
    expect(required.filter((name) => !isBuiltin(name) && name !== OPTIONAL)).toEqual([]);
  });

  test('names nothing of the machine that made it', () => {
    const script = Buffer.from(unzipSync(bundle)['index.js'] ?? []).toString('utf8');
    expect(script).not.toContain(REPOSITORY);
    expect(script).not.toContain('node_modules');
  });

  test('has the same bytes from a copy in another folder, another working directory and another time zone', async () => {
    const copy = join(folder, 'a copy', 'of it');
    cpSync(join(REPOSITORY, 'lambda'), join(copy, 'lambda'), { recursive: true });
    cpSync(join(REPOSITORY, 'tsconfig.json'), join(copy, 'tsconfig.json'));
    symlinkSync(join(REPOSITORY, 'node_modules'), join(copy, 'node_modules'));
    const program = `process.stdout.write(require(${JSON.stringify(join(copy, 'lambda/shared/deployment-package'))}).packageEniFunction().toString('base64'))`;
    const register = require.resolve('ts-node/register/transpile-only');
    const env = { ...process.env, TZ: 'Pacific/Apia', TS_NODE_PROJECT: join(copy, 'tsconfig.json') };
    const made = await must(process.execPath, ['-r', register, '-e', program], { cwd: folder, env });
    expect(Buffer.from(made, 'base64').equals(bundle)).toBe(true);
  });
});

describe('the function out of the bundle', () => {
  let aws: FakeAws;
  beforeAll(async () => {
    aws = await FakeAws.create();
    writeFileSync(join(folder, 'index.js'), unzipSync(bundle)['index.js'] ?? '');
  });
  afterAll(() => aws.destroy());

  /** Runs it as Lambda would: a fresh process, the handler by its name, everything else from the environment. */
  function invoke(event: unknown, change: Record<string, string> = {}): Promise<RunResult> {
    const [file, name] = HANDLER.split('.');
    const program =
      `require(${JSON.stringify(join(folder, `${file}.js`))}).${name}(${JSON.stringify(event)}, ` +
      "{ functionName: 'eni', memoryLimitInMB: '256', awsRequestId: '1', getRemainingTimeInMillis: () => 120000 })" +
      '.catch((error) => { process.stderr.write(`rejected: ${error.message}`); process.exitCode = 1; })';
    const { securityGroup, subnets } = aws.configuration;
    const env = {
      PATH: process.env.PATH,
      AWS_REGION: 'eu-central-1',
      AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
      AWS_ENDPOINT_URL: `http://127.0.0.1:${aws.endpoint.port}`,
      NODE_NO_WARNINGS: '1',
      ...environmentOf(securityGroup, subnets),
      STACK: aws.configuration.stack,
      ...change,
    };
    return run(process.execPath, ['-e', program], { cwd: folder, env });
  }

  /** Warnings and errors go to the other stream; Lambda reads both. */
  function linesOf({ stdout, stderr }: RunResult): readonly Record<string, unknown>[] {
    return `${stdout}${stderr}`
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  beforeEach(() => aws.renew());

  test('brings a launch to its end, with structured lines that name the instance', async () => {
    const gateway = await aws.launch(ZONES[1]);
    const result = await invoke(gateway.event);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(await aws.ours()).toMatchObject([
      {
        SourceDestCheck: false,
        Attachment: { InstanceId: gateway.instance, DeviceIndex: 1, DeleteOnTermination: true },
      },
    ]);
    expect(aws.resultsOf(gateway)).toEqual(['CONTINUE']);
    const lines = linesOf(result);
    expect(lines.map(({ message }) => message)).toEqual(['interface created', 'launch completed']);
    for (const line of lines)
      expect(line).toMatchObject({ level: 'INFO', instance: gateway.instance, cold_start: true });
  });

  test('sweeps, and writes a line that CloudWatch makes a metric of', async () => {
    await aws.leftover('i-0123456789abcdef0', ZONES[0], 2 * 3_600_000);
    const result = await invoke(SWEEP);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(await aws.ours()).toEqual([]);
    expect(linesOf(result)).toMatchObject([
      {
        OrphanedEnisDeleted: 1,
        AutoScalingGroupName: aws.configuration.group,
        _aws: { CloudWatchMetrics: [{ Metrics: [{ Name: 'OrphanedEnisDeleted' }] }] },
      },
    ]);
  });

  test('refuses a foreign event and ends well', async () => {
    const result = await invoke({ source: 'aws.s3' });
    expect(result).toMatchObject({ code: 0, stdout: '' });
    expect(linesOf(result)).toMatchObject([{ level: 'WARN', message: expect.stringContaining('refused') as string }]);
  });

  test('fails with one line where its environment is wrong', async () => {
    const result = await invoke(SWEEP, { HEARTBEAT_SECONDS: 'long' });
    const line = 'environment: HEARTBEAT_SECONDS is "long", it must be a number of seconds; deploy the stack again';
    expect(result).toMatchObject({ code: 1, stdout: '' });
    expect(result.stderr.split('\n').at(-1)).toBe(`rejected: ${line}`);
    expect(linesOf(result)).toMatchObject([{ level: 'ERROR', message: line }]);
  });
});
