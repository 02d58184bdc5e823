// SPDX-License-Identifier: Apache-2.0
// A gateway in a virtual machine, booted from exactly the user data that EC2 would get, with the two ENIs, the metadata
// service, the bucket with its name, and the DHCP server that a VPC gives an instance:
//
//   mg-vm-src  s0 10.77.0.1/24 ── ens5  the machine  ens6 ── k0 10.88.0.95/24  mg-vm-sink
//
// and a management interface (ens4) that a VPC does not have, for ssh from this machine and for Debian's packages.
// One machine at a time, unless isolated from each other. Everything it consists of is removed however the caller ends, kill -9
// included.
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type StoredBundle } from '../aws/bucket';
import { Computer, type ExecOptions, LIMIT } from './computer';
import { must, Progress, run, scratchDirectory, tally, waitFor, type RunResult } from '../support/host';
import { ensureImage, type Image, type Release } from './image';
import { type Imds } from '../aws/imds';
import { addPrograms } from './programs';
import { accelerator, commandLine, device, netdev, Qmp, QEMU, type Nic } from './qemu';
import {
  Janitor,
  type Port,
  MANAGEMENT_MAC,
  startDhcp,
  startSurroundings,
  STATE,
  VM_LAB,
  writeSeed,
} from './surroundings';

export { VM_LAB };

/** Taps are born in the network namespace that all machines share. */
const TAPS = `mg${randomBytes(3).toString('hex')}`;
const PRIMARY: Nic = { id: 'primary', slot: 5, mac: VM_LAB.primary.mac, tap: `${TAPS}p`, mtu: VM_LAB.mtu };
const SECONDARY: Nic = { id: 'secondary', slot: 6, mac: VM_LAB.secondary.mac, tap: `${TAPS}s` };
const USER = 'admin';
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

/** A disk with what cloud-init finds. */
async function makeSeed(userData: Buffer, publicKey: string): Promise<string> {
  const [folder, seed] = [join(STATE, 'seed'), join(STATE, 'seed.iso')];
  writeSeed(folder, userData, publicKey);
  await must('genisoimage', ['-quiet', '-output', seed, '-volid', 'cidata', '-joliet', '-rock', folder]);
  return seed;
}

/** qemu opens its taps where it runs; only then can they be moved. */
async function plugIn(nic: Nic, port: Port): Promise<void> {
  const { namespace, interface: name } = port;
  await must('ip', ['link', 'set', nic.tap, 'netns', namespace, 'name', name]);
  await must('ip', ['-n', namespace, 'link', 'set', name, 'address', port.mac, 'mtu', String(VM_LAB.mtu)]);
  await must('ip', ['-n', namespace, 'address', 'add', `${port.address}/24`, 'dev', name]);
  await must('ip', ['-n', namespace, 'link', 'set', name, 'up']);
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

export class Vm extends Computer {
  constructor(private readonly parts: Parts) {
    super(parts.userData, parts.progress);
  }

  async tryExec(script: string, options: ExecOptions = {}): Promise<RunResult> {
    const { timeoutSeconds = LIMIT.command, connectSeconds = 30, input } = options;
    const quoted = `'${script.replaceAll("'", `'\\''`)}'`;
    const args = [...this.sshArgs(connectSeconds), `${USER}@127.0.0.1`, `sudo -n bash -c ${quoted}`];
    return run('ssh', args, { timeoutMs: timeoutSeconds * 1000, input });
  }

  async reboot(): Promise<void> {
    const before = await this.bootId();
    await this.tryExec('systemctl --no-block reboot', { timeoutSeconds: 15 });
    const probe = async (): Promise<string | undefined> => {
      const now = await this.bootId();
      return now === before ? undefined : now;
    };
    await this.patiently('ssh after the reboot', probe, LIMIT.boot);
  }

  async attachSecondary(): Promise<void> {
    const { qmp, imds } = this.parts;
    await qmp.execute('netdev_add', netdev(SECONDARY));
    await plugIn(SECONDARY, VM_LAB.sink);
    startDhcp();
    await qmp.execute('device_add', device(SECONDARY));
    imds.revealSecondary();
    this.progress.say('the second interface is attached');
  }

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

  protected mustRun(): void {
    if (this.parts.qemu.exitCode !== null) throw new Error('qemu has ended by itself');
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

function startQemu(args: readonly string[]): ChildProcess {
  const log = openSync(join(STATE, 'qemu.log'), 'w');
  const qemu = spawn('setpriv', ['--pdeathsig', 'SIGKILL', '--', QEMU, ...args], { stdio: ['ignore', log, log] });
  writeFileSync(join(STATE, 'pid'), `${qemu.pid} qemu\n`);
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
  const imds = await startSurroundings(bundle, late);
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
