// SPDX-License-Identifier: Apache-2.0
// A gateway in a virtual machine, booted from exactly the user data that EC2 would get, with the two ENIs, the metadata
// service, the bucket with its name, and the DHCP server that a VPC gives an instance:
//
//   mg-vm-src  s0 10.77.0.1/24 ── ens5  the machine  ens6 ── k0 10.88.0.95/24  mg-vm-sink
//
// and a management interface (ens4) that a VPC does not have, for ssh from this machine and for Debian's packages.
// One machine at a time, unless isolated from each other. Everything it consists of is removed however the caller ends, kill -9 included.
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { identityFor } from './authority';
import { Bucket, type StoredBundle } from './bucket';
import {
  cacheDirectory,
  inNamespace,
  must,
  Progress,
  run,
  scratchDirectory,
  tally,
  waitFor,
  type RunResult,
} from './host';
import { ensureImage, type Image, type Release } from './image';
import { IMDS_ADDRESS, startImds, type Imds } from './imds';
import { LAB } from './namespaces';
import { addPrograms } from './programs';
import { accelerator, commandLine, device, netdev, Qmp, QEMU, type Nic } from './qemu';

/** As {@link LAB}; the gateway's own ends are inside the machine. */
export const VM_LAB = {
  source: { ...LAB.source, namespace: 'mg-vm-src' },
  primary: { ...LAB.primary, namespace: undefined },
  secondary: { ...LAB.secondary, namespace: undefined },
  sink: { ...LAB.sink, namespace: 'mg-vm-sink' },
  mtu: LAB.mtu,
} as const;

const SUBNET = { primary: '10.77.0.0/24', secondary: '10.88.0.0/24' } as const;
/** Where a VPC has its resolver; here the bucket is at the same address. */
const VPC_SERVICES = '169.254.169.253';
const VPC_ROUTER = '10.88.0.1';
const MANAGEMENT_MAC = '02:00:0a:00:02:0f';
/** Taps are born in the network namespace that all machines share. */
const TAPS = `mg${randomBytes(3).toString('hex')}`;
const PRIMARY: Nic = { id: 'primary', slot: 5, mac: VM_LAB.primary.mac, tap: `${TAPS}p`, mtu: VM_LAB.mtu };
const SECONDARY: Nic = { id: 'secondary', slot: 6, mac: VM_LAB.secondary.mac, tap: `${TAPS}s` };
/** Sockets, keys and logs; short, because a socket's path may not be long. */
const STATE = '/run/mirror-gateway-vm';
const LOCK = '/run/lock/mirror-gateway-vm.lock';
const USER = 'admin';
/** Asks a machine that may not answer yet, often enough to notice soon when it does. */
const PROBE: ExecOptions = { timeoutSeconds: 15, connectSeconds: 3 };
const LIMIT = { lock: 3600, ssh: 900, cloudInit: 1500, command: 120 } as const;

export interface VmOptions {
  readonly release: Release;
  readonly baked: boolean;
  /** The image brings the bundle as well, with the programs built. */
  readonly prebuilt?: boolean;
  /** The very bytes, as taken from a synthesized stack. */
  readonly stack: { readonly userData: Buffer; readonly bundle: StoredBundle };
  /** `late`: the second interface is not there before `attachSecondary()`, as when the Lambda attaches it. */
  readonly secondary?: 'at boot' | 'late';
  readonly progress?: Progress;
}

export interface CloudInitResult {
  readonly errors: readonly string[];
  /** By level, such as WARNING; empty where this cloud-init does not tell (before 23.4). */
  readonly warnings: Readonly<Record<string, readonly string[]>>;
}

export interface ExecOptions {
  readonly timeoutSeconds?: number;
  /** For the connection alone: a busy, emulated machine takes its time, one that boots does not answer at all. */
  readonly connectSeconds?: number;
  readonly input?: string;
}

// --- user data ------------------------------------------------------------------------------------------------------

function networkConfig(): string {
  const management = {
    match: { macaddress: MANAGEMENT_MAC },
    addresses: ['10.0.2.15/24'],
    // Before whatever default route the second interface's DHCP server offers.
    routes: [{ to: '0.0.0.0/0', via: '10.0.2.2', metric: 50 }],
    nameservers: { addresses: ['10.0.2.3'] },
  };
  const primary = {
    match: { macaddress: PRIMARY.mac },
    addresses: [`${VM_LAB.primary.address}/24`],
    routes: [IMDS_ADDRESS, VPC_SERVICES].map((service) => ({ to: `${service}/32`, scope: 'link' })),
    // Of AWS's names only the bucket's has an address here; packages come over the management interface.
    nameservers: { addresses: [VPC_SERVICES], search: ['~amazonaws.com'] },
  };
  return JSON.stringify({ version: 2, ethernets: { management, primary } });
}

/** What cloud-init finds in place of EC2's own data source: the same user data, byte for byte. */
async function makeSeed(userData: Buffer, publicKey: string): Promise<string> {
  const folder = join(STATE, 'seed');
  const seed = join(STATE, 'seed.iso');
  const metaData = {
    'instance-id': `i-${randomBytes(8).toString('hex')}`,
    'local-hostname': `ip-${VM_LAB.primary.address.replaceAll('.', '-')}`,
    'public-keys': [publicKey],
  };
  mkdirSync(folder);
  writeFileSync(join(folder, 'user-data'), userData);
  writeFileSync(join(folder, 'meta-data'), JSON.stringify(metaData));
  writeFileSync(join(folder, 'network-config'), networkConfig());
  await must('genisoimage', ['-quiet', '-output', seed, '-volid', 'cidata', '-joliet', '-rock', folder]);
  return seed;
}

// --- what has to be cleaned up --------------------------------------------------------------------------------------

/**
 * Holds the machine-wide lock and waits for the end of its input, which comes with our own end, whatever that is. Then it
 * removes everything. It does not share our process group: an interrupt from the keyboard must not reach it.
 */
const JANITOR = `
mkdir -p "\${LOCK%/*}"
exec 9>"$LOCK"
flock --timeout "$LIMIT" 9 || exit 1
clean() {
  read -r pid <"$STATE/qemu.pid" && grep -q ^qemu "/proc/$pid/comm" && kill -KILL "$pid"
  for name in $NAMESPACES; do
    ip netns pids "$name" | xargs -r kill -KILL
    ip netns delete "$name"
  done
  if [ -r "$STATE/console.log" ]; then cp "$STATE/console.log" "$KEPT_CONSOLE"; fi
  rm -rf "$STATE" "$OVERLAY" "$OVERLAY.disk"
} 2>/dev/null
clean
echo ready
cat >/dev/null
clean
`;

class Janitor {
  private constructor(private readonly shell: ChildProcess) {}

  static async engage(overlay: string, progress: Progress): Promise<Janitor> {
    const env = {
      ...process.env,
      LOCK,
      STATE,
      LIMIT: String(LIMIT.lock),
      NAMESPACES: `${VM_LAB.source.namespace} ${VM_LAB.sink.namespace}`,
      OVERLAY: overlay,
      KEPT_CONSOLE: join(cacheDirectory(), 'last-console.log'),
    };
    const shell = spawn('sh', ['-c', JANITOR], { env, detached: true, stdio: ['pipe', 'pipe', 'ignore'] });
    let ready = false;
    shell.stdout.on('data', () => (ready = true));
    const locked = (): true | undefined => {
      if (shell.exitCode !== null) throw new Error(`${LOCK} is held by another machine; see who with: fuser ${LOCK}`);
      return ready || undefined;
    };
    await waitFor('lock (one machine at a time)', locked, { timeoutMs: LIMIT.lock * 1000, everyMs: 50, progress });
    shell.unref();
    for (const stream of [shell.stdin, shell.stdout]) (stream as Socket).unref();
    return new Janitor(shell);
  }

  async dismiss(): Promise<void> {
    const { shell } = this;
    shell.ref();
    const gone = shell.exitCode !== null ? Promise.resolve() : new Promise((done) => shell.once('exit', done));
    shell.stdin?.end();
    await gone;
  }
}

// --- surroundings ---------------------------------------------------------------------------------------------------

async function addNamespaces(): Promise<void> {
  for (const { namespace } of [VM_LAB.source, VM_LAB.sink]) {
    await must('ip', ['netns', 'add', namespace]);
    await must('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    const quiet = ['net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1'];
    const foreign = ['net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0'];
    await must(...inNamespace(namespace, 'sysctl', '-qw', ...quiet, ...foreign));
  }
}

type Port = { readonly namespace: string; readonly interface: string; readonly mac: string; readonly address: string };

/** qemu opens its taps where it runs; only then can they be moved. */
async function plugIn(nic: Nic, port: Port): Promise<void> {
  const { namespace, interface: name } = port;
  await must('ip', ['link', 'set', nic.tap, 'netns', namespace, 'name', name]);
  await must('ip', ['-n', namespace, 'link', 'set', name, 'address', port.mac, 'mtu', String(VM_LAB.mtu)]);
  await must('ip', ['-n', namespace, 'address', 'add', `${port.address}/24`, 'dev', name]);
  await must('ip', ['-n', namespace, 'link', 'set', name, 'up']);
}

/** Answers on the second interface's subnet as a VPC would: with the ENI's address and a default route. */
function startDhcp(): void {
  const { namespace, interface: name } = VM_LAB.sink;
  const options = [
    ...['--conf-file=/dev/null', '--port=0', '--keep-in-foreground', '--user=root', '--no-ping', '--leasefile-ro'],
    ...['--pid-file=', '--log-dhcp', `--log-facility=${join(STATE, 'dhcp.log')}`],
    ...[`--interface=${name}`, '--bind-interfaces', '--dhcp-authoritative'],
    ...['--dhcp-range=10.88.0.0,static,255.255.255.0', `--dhcp-host=${SECONDARY.mac},${VM_LAB.secondary.address}`],
    ...[`--dhcp-option=option:router,${VPC_ROUTER}`],
  ];
  const tether = ['setpriv', '--pdeathsig', 'SIGKILL', '--'];
  const [command, args] = inNamespace(namespace, ...tether, 'dnsmasq', ...options);
  spawn(command, args, { stdio: 'ignore' }).unref();
}

/** The bucket under the name that the user data has for it; returns the file with the credentials that open it. */
async function startBucket(stored: StoredBundle): Promise<string> {
  const { namespace } = VM_LAB.source;
  const name = `${stored.bucket}.s3.${stored.region}.amazonaws.com`;
  await must(...inNamespace(namespace, 'ip', 'address', 'replace', `${VPC_SERVICES}/32`, 'dev', 'lo'));
  const options = [
    ...['--conf-file=/dev/null', '--keep-in-foreground', '--user=root', '--pid-file=', '--no-resolv', '--no-hosts'],
    ...[`--listen-address=${VPC_SERVICES}`, '--bind-interfaces', `--address=/${name}/${VPC_SERVICES}`],
  ];
  const [command, args] = inNamespace(namespace, 'setpriv', '--pdeathsig', 'SIGKILL', '--', 'dnsmasq', ...options);
  spawn(command, args, { stdio: 'ignore' }).unref();
  const folder = join(STATE, 'bucket');
  mkdirSync(folder);
  const tls = await identityFor(name, folder);
  const bucket = await Bucket.start(stored, { namespace, address: VPC_SERVICES, port: 443, tls });
  const credentials = join(folder, 'credentials.json');
  writeFileSync(credentials, await bucket.close());
  return credentials;
}

function freePort(): Promise<number> {
  return new Promise((done, refuse) => {
    const server = createServer().once('error', refuse);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => done(port));
    });
  });
}

// --- the machine ----------------------------------------------------------------------------------------------------

interface Parts {
  readonly options: VmOptions;
  readonly userData: Buffer;
  readonly progress: Progress;
  readonly janitor: Janitor;
  readonly imds: Imds;
  readonly qmp: Qmp;
  readonly qemu: ChildProcess;
  readonly sshPort: number;
}

export class Vm {
  /** When it was switched on (milliseconds since the epoch). */
  readonly bootedAt = Date.now();
  readonly lab = VM_LAB;

  constructor(private readonly parts: Parts) {}

  get userData(): Buffer {
    return this.parts.userData;
  }

  get progress(): Progress {
    return this.parts.progress;
  }

  /** What the serial console has shown so far. */
  console(): string {
    return readFileSync(join(STATE, 'console.log'), 'utf8');
  }

  /** What the DHCP server on the second interface's subnet was asked and answered. */
  dhcpLog(): string {
    const log = join(STATE, 'dhcp.log');
    return existsSync(log) ? readFileSync(log, 'utf8') : '';
  }

  /** Runs a bash script as root; a non-zero exit code is an answer, not an exception. */
  async tryExec(script: string, options: ExecOptions = {}): Promise<RunResult> {
    const { timeoutSeconds = LIMIT.command, connectSeconds = 30, input } = options;
    const quoted = `'${script.replaceAll("'", `'\\''`)}'`;
    const args = [...this.sshArgs(connectSeconds), `${USER}@127.0.0.1`, `sudo -n bash -c ${quoted}`];
    return run('ssh', args, { timeoutMs: timeoutSeconds * 1000, input });
  }

  /** Runs a bash script as root and returns what it printed. */
  async exec(script: string, options: ExecOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.tryExec(script, options);
    if (code === 0) return stdout;
    throw new Error(`on the machine: ${script}: exit code ${code}\n  ${(stderr.trim() || stdout.trim()).slice(-2000)}`);
  }

  async waitForSsh(): Promise<void> {
    const probe = async (): Promise<true | undefined> => (await this.tryExec('true', PROBE)).code === 0 || undefined;
    await this.patiently('ssh on the machine', probe, LIMIT.ssh);
  }

  /** Waits until user data has run to its end, well or badly. */
  async waitForCloudInit(): Promise<CloudInitResult> {
    await this.waitForSsh();
    const probe = async (): Promise<string | undefined> => {
      const { code, stdout } = await this.tryExec('cat /run/cloud-init/result.json', { timeoutSeconds: 15 });
      return code === 0 ? stdout : undefined;
    };
    const result = JSON.parse(await this.patiently('end of cloud-init', probe, LIMIT.cloudInit)) as {
      v1: { errors: string[] };
    };
    const status = JSON.parse(await this.exec('cat /run/cloud-init/status.json')) as {
      v1: { [stage: string]: { recoverable_errors?: Record<string, string[]> } | string | null };
    };
    const warnings: Record<string, string[]> = {};
    for (const stage of Object.values(status.v1)) {
      if (stage === null || typeof stage === 'string') continue;
      for (const [level, said] of Object.entries(stage.recoverable_errors ?? {}))
        warnings[level] = [...(warnings[level] ?? []), ...said];
    }
    return { errors: result.v1.errors, warnings };
  }

  /** An orderly reboot; returns once ssh answers again. */
  async reboot(): Promise<void> {
    const bootId = async (): Promise<string | undefined> => {
      const { code, stdout } = await this.tryExec('cat /proc/sys/kernel/random/boot_id', PROBE);
      return code === 0 ? stdout : undefined;
    };
    const before = await bootId();
    await this.tryExec('systemctl --no-block reboot', { timeoutSeconds: 15 });
    const probe = async (): Promise<string | undefined> => {
      const now = await bootId();
      return now === before ? undefined : now;
    };
    await this.patiently('ssh after the reboot', probe, LIMIT.ssh);
  }

  /** Plugs the second interface into the running machine and lets the metadata service tell. */
  async attachSecondary(): Promise<void> {
    const { qmp, imds } = this.parts;
    await qmp.execute('netdev_add', netdev(SECONDARY));
    await plugIn(SECONDARY, VM_LAB.sink);
    startDhcp();
    await qmp.execute('device_add', device(SECONDARY));
    imds.revealSecondary();
    this.progress.say('the second interface is attached');
  }

  /** Unplugs it, as detaching its ENI does; `attachSecondary` plugs it in again. */
  async detachSecondary(): Promise<void> {
    const { qmp } = this.parts;
    await qmp.execute('device_del', { id: SECONDARY.id });
    const released = async (): Promise<true | undefined> => {
      const devices = (await qmp.execute('qom-list', { path: '/machine/peripheral' })) as { name: string }[];
      return !devices.some(({ name }) => name === SECONDARY.id) || undefined;
    };
    await this.patiently('release of the second interface', released, LIMIT.command);
    await qmp.execute('netdev_del', { id: netdev(SECONDARY).id });
    this.progress.say('the second interface is detached');
  }

  /** Pulls the plug and removes every trace. */
  async powerOff(): Promise<void> {
    const { qmp, qemu, janitor } = this.parts;
    qmp.close();
    qemu.ref();
    const gone = qemu.exitCode ?? qemu.signalCode;
    const ended = gone === null ? new Promise((done) => qemu.once('exit', done)) : undefined;
    await janitor.dismiss();
    await ended;
    this.progress.say('the machine is off');
  }

  /** The end of the console and of cloud-init's log: what a failure has to show. */
  async lastWords(): Promise<string> {
    const tail = (text: string): string => text.trimEnd().split('\n').slice(-40).join('\n  ');
    const log = await this.tryExec('tail -n 60 /var/log/cloud-init-output.log', { timeoutSeconds: 15 });
    return `console:\n  ${tail(this.console())}\ncloud-init-output.log:\n  ${tail(log.stdout || log.stderr)}`;
  }

  private async patiently<T>(what: string, probe: () => Promise<T | undefined>, seconds: number): Promise<T> {
    const checked = async (): Promise<T | undefined> => {
      if (this.parts.qemu.exitCode !== null) throw new Error('qemu has ended by itself');
      return probe();
    };
    const detail = (): string => `(console: ${lastLine(this.console())})`;
    try {
      return await waitFor(what, checked, { timeoutMs: seconds * 1000, progress: this.progress, detail });
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${await this.lastWords()}`, { cause: error });
    }
  }

  private sshArgs(connectSeconds: number): string[] {
    const options = {
      BatchMode: 'yes',
      ConnectTimeout: String(connectSeconds),
      ControlMaster: 'auto',
      ControlPath: join(STATE, 'ssh'),
      ControlPersist: '30',
      IdentitiesOnly: 'yes',
      LogLevel: 'ERROR',
      StrictHostKeyChecking: 'no', // the machine has made its key seconds ago
      UserKnownHostsFile: '/dev/null',
    };
    const flags = Object.entries(options).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
    return ['-F', '/dev/null', '-i', join(STATE, 'key'), '-p', String(this.parts.sshPort), ...flags];
  }
}

function lastLine(console: string): string {
  // eslint-disable-next-line no-control-regex -- terminal sequences
  const plain = console.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '').replace(/[^\x20-\x7e\n]/g, '');
  return (plain.trimEnd().split('\n').pop() ?? '').trim().slice(0, 90);
}

function startQemu(args: readonly string[]): ChildProcess {
  const log = openSync(join(STATE, 'qemu.log'), 'w');
  const qemu = spawn('setpriv', ['--pdeathsig', 'SIGKILL', '--', QEMU, ...args], { stdio: ['ignore', log, log] });
  writeFileSync(join(STATE, 'qemu.pid'), `${qemu.pid}\n`);
  qemu.unref();
  return qemu;
}

async function openControl(path: string, qemu: ChildProcess, progress: Progress): Promise<Qmp> {
  const probe = async (): Promise<Qmp | undefined> => {
    if (qemu.exitCode !== null) throw new Error(`qemu: ${readFileSync(join(STATE, 'qemu.log'), 'utf8').trim()}`);
    return existsSync(path) ? Qmp.open(path).catch(() => undefined) : undefined;
  };
  return waitFor('qemu', probe, { timeoutMs: 20_000, everyMs: 50, progress });
}

async function assemble(
  options: VmOptions,
  image: Image,
  overlay: string,
  janitor: Janitor,
  progress: Progress,
): Promise<Parts> {
  const late = options.secondary === 'late';
  const { userData, bundle } = options.stack;
  mkdirSync(STATE, { mode: 0o700 });
  await must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'vm-lab', '-f', join(STATE, 'key')]);
  const publicKey = readFileSync(join(STATE, 'key.pub'), 'utf8').trim();
  const seed = await makeSeed(userData, publicKey);
  const disk = options.prebuilt ? `${overlay}.disk` : image.disk;
  if (options.prebuilt) {
    await must('cp', ['--sparse=always', '--', image.disk, disk]);
    await addPrograms(disk, bundle.content);
  }
  await must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', disk, '-F', 'raw', overlay]);
  await addNamespaces();
  const credentials = await startBucket(bundle);
  const sshPort = await freePort();
  const control = join(STATE, 'control');
  const machine = {
    ...{ image, overlay, seed, control, sshPort, console: join(STATE, 'console.log') },
    ...{ managementMac: MANAGEMENT_MAC, nics: late ? [PRIMARY] : [PRIMARY, SECONDARY] },
    accelerator: await accelerator(image, progress),
  };
  const qemu = startQemu(commandLine(machine));
  const qmp = await openControl(control, qemu, progress);
  await plugIn(PRIMARY, VM_LAB.source);
  if (!late) await plugIn(SECONDARY, VM_LAB.sink);
  if (!late) startDhcp();
  const card = (port: { mac: string; address: string }, subnet: string) => ({ ...port, subnet });
  const imds = await startImds({
    namespace: VM_LAB.source.namespace,
    primary: card(VM_LAB.primary, SUBNET.primary),
    secondary: card(VM_LAB.secondary, SUBNET.secondary),
    credentials,
    late,
  });
  await qmp.execute('cont');
  return { options, userData, progress, janitor, imds, qmp, qemu, sshPort };
}

/** Switches a machine on; it boots while the caller goes on. */
export async function bootVm(options: VmOptions): Promise<Vm> {
  if (process.getuid?.() !== 0)
    throw new Error('the VM lab needs root, for taps and namespaces; run it through make or sudo');
  const title = `debian${options.release} ${options.baked ? 'baked' : 'base'}`;
  const progress = options.progress ?? new Progress(title);
  const image = await ensureImage(options.release, options.baked, progress);
  const overlay = join(scratchDirectory(), 'overlay.qcow2');
  tally('boot');
  const janitor = await Janitor.engage(overlay, progress);
  try {
    const vm = new Vm(await assemble(options, image, overlay, janitor, progress));
    progress.say(`switched on: ${image.name}, ${vm.userData.length} bytes of user data`);
    return vm;
  } catch (error) {
    await janitor.dismiss();
    throw error;
  }
}
