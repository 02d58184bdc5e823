// SPDX-License-Identifier: Apache-2.0
// A gateway in a container that boots as a machine does: the disk of vm.ts, its systemd and cloud-init, user data, ENIs and
// metadata service, but on this machine's kernel and at this machine's speed. Mounts and processes end with it.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Computer, type ExecOptions, LIMIT } from './computer';
import { type Engine, UNCONFIGURED_MTU } from '../namespaces/engines';
import { inNamespace, must, Progress, run, scratchDirectory, tally, type RunResult, waitFor } from '../support/host';
import { ensureImage, type Image } from './image';
import { type Imds } from '../aws/imds';
import { farMtu } from '../namespaces/namespaces';
import { cgroupRoot, GATEWAY, Janitor, startDhcp, startSurroundings, STATE, VM_LAB, writeSeed } from './surroundings';
import type { VmOptions } from './vm';

export interface ContainerOptions extends Omit<VmOptions, 'prebuilt'> {
  /** That it will run: for what the other ends of its wires have to be ready. */
  readonly engine: Engine;
}

/** What is written, over the image; like a disk it outlives a reboot. */
const DISK = join(STATE, 'disk');
/** Where commands are, for systemd and for what tests run beside it. */
const PATHS = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const SPACES = '--mount --propagation private --pid --uts --ipc --cgroup --fork --kill-child';
const NAMES = { primary: 'ens5', secondary: 'ens6' } as const;

/**
 * The first process of new namespaces: puts the root together and becomes systemd. /sys can only be read, by which systemd and
 * networkd know that no udev tells of devices; boot_id is what journals and tests tell boots apart by.
 */
const INIT = `
set -eu
root=$DISK/root
mkdir -p "$DISK/image" "$root"
mount -o loop,ro "$IMAGE" "$DISK/image"
mount -t overlay -o "lowerdir=$DISK/image,upperdir=$DISK/upper,workdir=$DISK/work" overlay "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec,ro sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t bpf -o nosuid,nodev,noexec,mode=0700 bpf "$root/sys/fs/bpf"
mount -t tmpfs -o mode=0755 dev "$root/dev"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r name major minor <<<"$node"
  mknod -m 0666 "$root/dev/$name" c "$major" "$minor"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for n in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/\${n%:*}" "$root/dev/\${n#*:}"; done
touch "$root/dev/console"
mount --bind "$STATE/console.log" "$root/dev/console"
mount -t tmpfs -o mode=0755 run "$root/run"
printf '%s\\n' "$BOOT_ID" >"$root/run/boot_id"
mount --bind "$root/run/boot_id" "$root/proc/sys/kernel/random/boot_id"
mkdir -p "$root/run/before"
cd "$root"
pivot_root . run/before
umount --lazy /run/before
exec env -i container=mirror-gateway PATH="$PATHS" /sbin/init
`;

/**
 * Of the image: the root is mounted, nobody logs in here; and a veth has no permanent address, by which the gateway keeps DHCP away
 * from a card: that, emulated machines show.
 */
const CHANGED = {
  'etc/fstab': '',
  'etc/systemd/system/console-getty.service': '',
  'etc/systemd/network/80-hotplug.network': '',
};

function newCgroup(): string {
  const root = cgroupRoot();
  if (root === undefined)
    throw new Error('no cgroup2 is mounted here, and a container with systemd needs it: mount one');
  return join(root, `mirror-gateway-${randomUUID().slice(0, 8)}`);
}

class Container extends Computer {
  private init?: ChildProcess;
  private isGoingDown = false;
  private readonly cgroup = newCgroup();

  constructor(
    private readonly options: ContainerOptions,
    private readonly image: Image,
    private readonly janitor: Janitor,
    private readonly imds: Imds,
    progress: Progress,
  ) {
    super(options.stack.userData, progress);
  }

  /** Whatever a boot begins with: no bridge, no rules, interfaces as they were attached. */
  async start(withSecondary: boolean): Promise<void> {
    // A wire is gone at once with either end; with its namespace it would be some time later.
    for (const { namespace, interface: name } of [VM_LAB.source, VM_LAB.sink])
      await run('ip', ['-n', namespace, 'link', 'delete', name]);
    await run('ip', ['netns', 'delete', GATEWAY.namespace]);
    await must('ip', ['netns', 'add', GATEWAY.namespace]);
    await this.plug('primary', VM_LAB.mtu);
    if (withSecondary) await this.plug('secondary', UNCONFIGURED_MTU);
    mkdirSync(this.cgroup, { recursive: true });
    writeFileSync(join(STATE, 'cgroup'), `${this.cgroup}\n`);
    const own = { IMAGE: this.image.disk, BOOT_ID: randomUUID(), CGROUP: this.cgroup };
    const env = { ...process.env, ...own, DISK, STATE, PATHS, SPACES, INIT };
    const enter = 'set -e; echo $$ >"$CGROUP/cgroup.procs"; exec unshare $SPACES bash -c "$INIT"';
    const tether = ['setpriv', '--pdeathsig', 'SIGKILL', '--'];
    const [command, args] = inNamespace(GATEWAY.namespace, ...tether, 'sh', '-c', enter);
    const log = openSync(join(STATE, 'container.log'), 'a');
    this.isGoingDown = false;
    this.init = spawn(command, args, { env, stdio: ['ignore', log, log] });
    writeFileSync(join(STATE, 'pid'), `${this.init.pid} unshare\n`);
    this.init.unref();
  }

  /** A wire between the gateway and its subnet. The frames that XDP sends arrive at a veth that has GRO. */
  private async plug(which: 'primary' | 'secondary', mtu: number): Promise<void> {
    const [port, far] = which === 'primary' ? [VM_LAB.primary, VM_LAB.source] : [VM_LAB.secondary, VM_LAB.sink];
    const wide = String(farMtu(this.options.engine));
    const outside = [far.interface, 'netns', far.namespace, 'address', far.mac, 'mtu', wide];
    const inside = [NAMES[which], 'netns', GATEWAY.namespace, 'address', port.mac, 'mtu', String(mtu)];
    await must('ip', ['link', 'add', ...outside, 'type', 'veth', 'peer', ...inside]);
    await must('ip', ['-n', far.namespace, 'address', 'add', `${far.address}/24`, 'dev', far.interface]);
    await must('ip', ['-n', far.namespace, 'link', 'set', far.interface, 'up']);
    await must(...inNamespace(far.namespace, 'ethtool', '-K', far.interface, 'gro', 'on'));
    if (which === 'secondary') startDhcp();
  }

  tryExec(script: string, { timeoutSeconds = LIMIT.command, input }: ExecOptions = {}): Promise<RunResult> {
    const target = this.first();
    if (target === undefined) return Promise.resolve({ code: 255, stdout: '', stderr: 'the container is not up' });
    const spaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--wd=/'];
    const clean = ['env', '-i', 'HOME=/root', `PATH=${PATHS}`];
    const args = ['--target', target, ...spaces, '--', ...clean, 'bash', '-c', script];
    return run('nsenter', args, { timeoutMs: timeoutSeconds * 1000, input });
  }

  /** The number of its systemd, once it is one. */
  private first(): string | undefined {
    const { pid } = this.init ?? {};
    if (pid === undefined || this.isGone()) return undefined;
    try {
      const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
      if (!child) return undefined;
      return readFileSync(`/proc/${child}/comm`, 'utf8').trim() === 'systemd' ? child : undefined;
    } catch {
      return undefined; // it has ended between two looks
    }
  }

  private isGone(): boolean {
    return this.init?.exitCode !== null || this.init.signalCode !== null;
  }

  protected mustRun(): void {
    if (this.isGoingDown || !this.isGone()) return;
    const said = readFileSync(join(STATE, 'container.log'), 'utf8').trim();
    throw new Error(`the container has ended by itself: ${said.slice(-500)}`);
  }

  async reboot(): Promise<void> {
    this.isGoingDown = true;
    await this.tryExec('systemctl --no-block reboot');
    const gone = (): true | undefined => this.isGone() || undefined;
    await waitFor('end of the container', gone, { timeoutMs: 120_000, everyMs: 50, progress: this.progress });
    await this.start(await this.hasSecondary());
    await this.waitUntilUp();
  }

  private async hasSecondary(): Promise<boolean> {
    const { code } = await run('ip', ['-n', VM_LAB.sink.namespace, 'link', 'show', VM_LAB.sink.interface]);
    return code === 0;
  }

  async attachSecondary(): Promise<void> {
    await this.plug('secondary', UNCONFIGURED_MTU);
    this.imds.revealSecondary();
    this.progress.say('the second interface is attached');
  }

  async detachSecondary(): Promise<void> {
    const { namespace, interface: name } = VM_LAB.sink;
    await must('ip', ['-n', namespace, 'link', 'delete', name]);
    this.progress.say('the second interface is detached');
  }

  async powerOff(): Promise<void> {
    this.isGoingDown = true;
    await this.janitor.dismiss();
    this.progress.say('the container is off');
  }
}

/** Switches a container on; it boots while the caller goes on. */
export async function bootContainer(options: ContainerOptions): Promise<Computer> {
  if (process.getuid?.() !== 0)
    throw new Error('a container needs root, for mounts and namespaces; run it through make or sudo');
  const progress = options.progress ?? new Progress(`container debian${options.release}`);
  if (!options.baked)
    throw new Error('a container has no way to an archive of packages: take a baked image, or emulate');
  const image = await ensureImage(options.release, options.baked, progress);
  tally('boot');
  const janitor = await Janitor.engage(join(scratchDirectory(), 'overlay.qcow2'), progress);
  try {
    const { stack, secondary } = options;
    mkdirSync(DISK, { recursive: true, mode: 0o755 });
    await must('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'disk', DISK]);
    for (const folder of ['upper', 'work']) mkdirSync(join(DISK, folder));
    writeFileSync(join(STATE, 'console.log'), '');
    for (const [path, content] of Object.entries(CHANGED)) {
      mkdirSync(join(DISK, 'upper', path, '..'), { recursive: true });
      writeFileSync(join(DISK, 'upper', path), content);
    }
    writeSeed(join(DISK, 'upper/var/lib/cloud/seed/nocloud'), stack.userData);
    const imds = await startSurroundings(stack.bundle, secondary === 'late');
    const container = new Container(options, image, janitor, imds, progress);
    await container.start(secondary !== 'late');
    progress.say(`switched on: a container of ${image.name}, ${stack.userData.length} bytes of user data`);
    return container;
  } catch (error) {
    await janitor.dismiss();
    throw error;
  }
}
