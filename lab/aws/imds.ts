// SPDX-License-Identifier: Apache-2.0
// The part of EC2's instance metadata service (version 2, tokens required) that the shipped scripts ask, so that they run
// unchanged in both labs. As a program it serves one instance until it is killed; SIGUSR1 makes the --late interface
// appear, as when the Lambda attaches it to an instance that is already running; SIGUSR2 takes the tags out of the metadata,
// or brings them back. `startImds` runs it in a namespace, `imdsServer` in this process.
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { inNamespace, must, REPOSITORY } from '../support/host';

export const IMDS_ADDRESS = '169.254.169.254';
const REGION = 'eu-central-1';
const ZONE = `${REGION}a`;
const ROLE = 'mirror-gateway';
const GROUP = 'mirror-gateway-xdp-asg';
const DEFAULT_TTL_SECONDS = 21_600;

/** One network interface of the instance: `MAC,IP,CIDR`, the CIDR being its subnet's. */
export interface ImdsInterface {
  readonly mac: string;
  readonly address: string;
  readonly subnet: string;
}

export interface ImdsOptions {
  readonly namespace: string;
  readonly primary: ImdsInterface;
  readonly secondary?: ImdsInterface;
  /** A file with the credentials of the instance's role, in JSON (default: it has no role). */
  readonly credentials?: string;
  /** The secondary interface is not there until `revealSecondary()`. */
  readonly late?: boolean;
  /** Serves on after the calling process has ended, until `kill(pid)` (default: ends with it). */
  readonly outlive?: boolean;
}

export interface Imds {
  readonly pid: number;
  revealSecondary(): void;
}

// --- the service ----------------------------------------------------------------------------------------------------

export interface Instance {
  readonly id: string;
  /** In order of their device numbers. */
  readonly interfaces: readonly ImdsInterface[];
  /** Credentials of its role, in JSON; they may come later than the instance. */
  readonly credentials?: string;
  /** Its Auto Scaling group, as the tag that EC2 gives it says, where tags are in the metadata. */
  readonly group?: string;
}

function interfacePages({ mac, address, subnet }: ImdsInterface, deviceNumber: number): Record<string, string> {
  const base = subnet.slice(0, subnet.lastIndexOf('/'));
  return {
    'device-number': String(deviceNumber),
    'interface-id': `eni-0${mac.replaceAll(':', '').padStart(16, '0')}`,
    'local-ipv4s': address,
    mac,
    'subnet-id': `subnet-0${Buffer.from(base).toString('hex').padStart(16, '0').slice(-16)}`,
    'subnet-ipv4-cidr-block': subnet,
  };
}

function documentOf(instance: Instance): string {
  const document = {
    accountId: '123456789012',
    architecture: 'x86_64',
    availabilityZone: ZONE,
    imageId: 'ami-00000000000000000',
    instanceId: instance.id,
    instanceType: 'c5n.large',
    privateIp: instance.interfaces[0]?.address,
    region: REGION,
    version: '2017-09-30',
  };
  return JSON.stringify(document, null, 2);
}

/** Every page by its path below /latest/; a directory answers with its entries, as the real one does. */
function pagesOf(instance: Instance): Map<string, string> {
  const pages = new Map<string, string>([
    ['dynamic/instance-identity/document', documentOf(instance)],
    ['meta-data/instance-id', instance.id],
    ['meta-data/instance-type', 'c5n.large'],
    ['meta-data/local-ipv4', instance.interfaces[0]?.address ?? ''],
    ['meta-data/mac', instance.interfaces[0]?.mac ?? ''],
    ['meta-data/placement/availability-zone', ZONE],
    // No placement/region: a gateway would ask that region's S3 for the SSM agent, and a lab sends nothing out.
  ]);
  if (instance.group !== undefined) pages.set('meta-data/tags/instance/aws:autoscaling:groupName', instance.group);
  if (instance.credentials !== undefined) pages.set(`meta-data/iam/security-credentials/${ROLE}`, instance.credentials);
  instance.interfaces.forEach((card, deviceNumber) => {
    for (const [name, value] of Object.entries(interfacePages(card, deviceNumber)))
      pages.set(`meta-data/network/interfaces/macs/${card.mac}/${name}`, value);
  });
  return pages;
}

function directoryListing(pages: Map<string, string>, path: string): string | undefined {
  const prefix = path === '' || path.endsWith('/') ? path : `${path}/`;
  const entries = new Set<string>();
  for (const page of pages.keys()) {
    if (!page.startsWith(prefix)) continue;
    const [name, ...below] = page.slice(prefix.length).split('/');
    entries.add(below.length > 0 ? `${name}/` : `${name}`);
  }
  return entries.size > 0 ? [...entries].sort().join('\n') : undefined;
}

class Tokens {
  private readonly expiry = new Map<string, number>();

  issue(ttlSeconds: number): string {
    const token = randomBytes(40).toString('base64url');
    this.expiry.set(token, Date.now() + ttlSeconds * 1000);
    return token;
  }

  accept(token: unknown): boolean {
    return typeof token === 'string' && (this.expiry.get(token) ?? 0) > Date.now();
  }
}

function answer(response: ServerResponse, status: number, body = ''): void {
  response.writeHead(status, { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(body) }).end(body);
}

function issueToken(tokens: Tokens, request: IncomingMessage, response: ServerResponse): void {
  const ttl = Number(request.headers['x-aws-ec2-metadata-token-ttl-seconds'] ?? Number.NaN);
  if (!Number.isInteger(ttl) || ttl < 1 || ttl > DEFAULT_TTL_SECONDS) return answer(response, 400, 'Bad Request');
  response.setHeader('x-aws-ec2-metadata-token-ttl-seconds', String(ttl));
  answer(response, 200, tokens.issue(ttl));
}

/** What the instance is may change while it is served. */
export function imdsServer(instance: Instance): Server {
  const tokens = new Tokens();
  return createServer((request, response) => {
    const path = decodeURIComponent((request.url ?? '/').split('?')[0] ?? '/');
    if (request.method === 'PUT' && path === '/latest/api/token') return issueToken(tokens, request, response);
    if (request.method !== 'GET') return answer(response, 405, 'Method Not Allowed');
    if (!tokens.accept(request.headers['x-aws-ec2-metadata-token'])) return answer(response, 401, 'Unauthorized');
    if (!path.startsWith('/latest/')) return answer(response, 404, 'Not Found');
    const pages = pagesOf(instance);
    const page = path.slice('/latest/'.length);
    const body = pages.get(page) ?? directoryListing(pages, page);
    return body === undefined ? answer(response, 404, 'Not Found') : answer(response, 200, body);
  });
}

function serve(instance: Instance, listen: string, port: number): void {
  const server = imdsServer(instance);
  server.on('error', (error) => {
    process.stderr.write(`imds: cannot listen on ${listen}:${port}: ${error.message}\n`);
    process.exit(1);
  });
  server.listen(port, listen, () => process.stdout.write(`imds: listening on ${listen}:${port}\n`));
}

// --- starting it ----------------------------------------------------------------------------------------------------

function asArgument({ mac, address, subnet }: ImdsInterface): string {
  return [mac, address, subnet].join(',');
}

/** Serves in the namespace, on its loopback; resolves once it listens. Unless told otherwise it dies with its caller. */
export async function startImds(options: ImdsOptions): Promise<Imds> {
  const { namespace, primary, secondary, credentials, late = false, outlive = false } = options;
  await must(...inNamespace(namespace, 'ip', 'link', 'set', 'lo', 'up'));
  await must(...inNamespace(namespace, 'ip', 'address', 'replace', `${IMDS_ADDRESS}/32`, 'dev', 'lo'));
  const program = [process.execPath, '-r', 'ts-node/register/transpile-only', join(REPOSITORY, 'lab/aws/imds.ts')];
  const flags = ['--listen', IMDS_ADDRESS, '--port', '80', '--primary', asArgument(primary)];
  if (secondary) flags.push(late ? '--late' : '--secondary', asArgument(secondary));
  if (credentials !== undefined) flags.push('--credentials', credentials);
  const tether = outlive ? [] : ['setpriv', '--pdeathsig', 'SIGKILL', '--'];
  const [command, args] = inNamespace(namespace, ...tether, ...program, ...flags);
  const child = spawn(command, args, { cwd: REPOSITORY, detached: outlive, stdio: ['ignore', 'pipe', 'pipe'] });
  await listening(child);
  child.unref();
  return {
    pid: child.pid ?? 0,
    revealSecondary: () => void child.kill('SIGUSR1'),
  };
}

function listening(child: ChildProcessByStdio<null, Readable, Readable>): Promise<void> {
  return new Promise((ready, refuse) => {
    let said = '';
    const timer = setTimeout(() => refuse(new Error(`imds: not listening within 30 s: ${said}`)), 30_000);
    for (const stream of [child.stdout, child.stderr]) {
      (stream as Socket).unref(); // an open pipe would keep a finished test run alive
      stream.on('data', (text: Buffer) => {
        said += text.toString();
        if (!said.includes('listening')) return;
        clearTimeout(timer);
        ready();
      });
    }
    child.on('error', refuse);
    child.on('exit', (code) => {
      clearTimeout(timer);
      refuse(new Error(`imds: ended with exit code ${code}: ${said.trim()}`));
    });
  });
}

function parseInterface(flag: string, value: string): ImdsInterface {
  const [mac, address, subnet] = value.split(',');
  if (mac && address && subnet?.includes('/')) return { mac: mac.toLowerCase(), address, subnet };
  throw new Error(`imds: ${flag} is '${value}', it must be MAC,IP,CIDR`);
}

function main(argv: readonly string[]): void {
  const flags = new Map<string, string>();
  for (let i = 0; i < argv.length; i += 2) flags.set(argv[i] ?? '', argv[i + 1] ?? '');
  const known = ['--listen', '--port', '--primary', '--secondary', '--late', '--credentials'];
  const unknown = [...flags.keys()].find((flag) => !known.includes(flag));
  if (unknown !== undefined) throw new Error(`imds: no flag '${unknown}'; the flags are ${known.join(' ')}`);
  const interfaces = ['--primary', '--secondary'].flatMap((flag) => {
    const value = flags.get(flag);
    return value === undefined ? [] : [parseInterface(flag, value)];
  });
  if (!flags.has('--primary')) throw new Error('imds: --primary MAC,IP,CIDR is required');
  const file = flags.get('--credentials');
  const credentials = file === undefined ? undefined : readFileSync(file, 'utf8');
  let hasTags = true;
  const instance: Instance = {
    ...{ id: 'i-00000000000000001', interfaces, credentials },
    get group() {
      return hasTags ? GROUP : undefined;
    },
  };
  const late = flags.get('--late');
  const later = late === undefined ? undefined : parseInterface('--late', late);
  process.on('SIGUSR1', () => {
    if (later && !interfaces.includes(later)) interfaces.push(later);
  });
  process.on('SIGUSR2', () => (hasTags = !hasTags));
  serve(instance, flags.get('--listen') ?? IMDS_ADDRESS, Number(flags.get('--port') ?? 80));
}

if (require.main === module) {
  try {
    main(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exit(2);
  }
}
