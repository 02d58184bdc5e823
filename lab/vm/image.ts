// SPDX-License-Identifier: Apache-2.0
// Debian disks for the VM lab, built once and cached: `base` is what a Debian EC2 image has, `baked` carries the packages
// of userdata/packages.txt as well, as a baked AMI would. Like the EC2 image they run cloud-init, netplan on networkd and
// resolved, and user `admin`; unlike it they trust the authority of this machine's labs, and DHCP whatever en* interface is
// plugged in, which is the worst a base image may do to a second ENI: the shipped scripts have to cope. Kernel and initrd
// lie beside the disk, qemu loads them itself.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ensureAuthority } from '../aws/authority';
import { hostMirror } from './apt';
import { cacheDirectory, isIsolated, must, Progress, REPOSITORY, run, scratchDirectory } from '../support/host';

export type Release = '12' | '13';
export const RELEASES: readonly Release[] = ['12', '13'];
const CODENAME: Record<Release, string> = { '12': 'bookworm', '13': 'trixie' };
const DISK_SIZE = '6G';
const DAY = 24 * 3600_000;

export interface Image {
  readonly name: string;
  /** A raw ext4 file system without a partition table; never written to: boot from an overlay. */
  readonly disk: string;
  readonly kernel: string;
  readonly initrd: string;
}

const BASE_PACKAGES = [
  ...['systemd-sysv', 'udev', 'dbus', 'libpam-systemd', 'systemd-resolved', 'systemd-timesyncd', 'netplan.io'],
  ...['linux-image-cloud-amd64', 'initramfs-tools', 'zstd', 'kmod', 'procps', 'netbase', 'iproute2', 'iputils-ping'],
  ...['cloud-init', 'openssh-server', 'sudo', 'ca-certificates', 'apt-utils', 'debian-archive-keyring'],
  ...['e2fsprogs', 'curl', 'xz-utils', 'ethtool', 'iptables', 'less', 'tcpdump'],
];

/** Files of the image, by path; what each one is for stands in it. */
const FILES: Record<string, string> = {
  'etc/fstab': '/dev/vda / ext4 rw,discard,errors=remount-ro 0 0\n',
  'etc/hostname': 'debian\n',
  'etc/default/locale': 'LANG=C.UTF-8\n',
  'etc/modprobe.d/blacklist.conf': 'blacklist pcspkr\nblacklist floppy\n',
  'etc/cloud/cloud.cfg.d/01_debian_cloud.cfg': [
    '# As in the EC2 image, but the package sources stay those the image was built from.',
    'apt: {preserve_sources_list: true}',
    'datasource_list: [NoCloud, None]',
    'ssh_genkeytypes: [ed25519]',
    'system_info:',
    '  default_user:',
    '    name: admin',
    '    lock_passwd: true',
    '    gecos: Debian',
    '    groups: [adm, sudo]',
    '    sudo: ["ALL=(ALL) NOPASSWD:ALL"]',
    '    shell: /bin/bash',
    '',
  ].join('\n'),
  'etc/systemd/network/80-hotplug.network': [
    '# Sorts after what cloud-init renders through netplan, so it takes only interfaces nobody configured.',
    '[Match]\nName=en*\n\n[Network]\nDHCP=yes\n',
  ].join('\n'),
  'etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf': [
    '# An interface that waits for its DHCP server must not hold up the boot.',
    '[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=30\n',
  ].join('\n'),
  'etc/initramfs-tools/conf.d/lab': 'MODULES=list\nCOMPRESS=zstd\n',
  'etc/initramfs-tools/modules': 'virtio_pci\nvirtio_blk\next4\n',
};

/** What would compete for a slow, emulated CPU, or for dpkg's lock, at a moment of its own choosing. */
const MASKED = [
  'systemd-binfmt.service',
  'systemd-timesyncd.service',
  'apt-daily.timer',
  'apt-daily-upgrade.timer',
  'man-db.timer',
  'e2scrub_all.timer',
  'e2scrub_reap.service',
];

export function bakedPackages(): string[] {
  const list = readFileSync(join(REPOSITORY, 'userdata', 'packages.txt'), 'utf8');
  return list.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

// --- package sources: whatever this machine itself uses ---------------------------------------------------------------

interface Sources {
  readonly list: string;
  readonly aptOptions: readonly string[];
}

/** Proxies, and whether this machine lets its mirror's clock differ from its own. */
async function hostAptOptions(): Promise<string[]> {
  const kept = /^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date|Retries) "[^"]+";$/;
  const lines = (await must('apt-config', ['dump'])).split('\n');
  return lines.filter((line) => kept.test(line)).map((line) => line.replace(/;$/, ''));
}

async function sources(release: Release): Promise<Sources> {
  const suite = CODENAME[release];
  const aptOptions = await hostAptOptions();
  const main = await hostMirror('Debian');
  if (main === undefined) return { list: '', aptOptions }; // mmdebstrap's own default
  const lines = [`deb ${main} ${suite} main`, `deb ${main} ${suite}-updates main`];
  const security = await hostMirror('Debian-Security');
  if (security !== undefined) lines.push(`deb ${security} ${suite}-security main`);
  return { list: `${lines.join('\n')}\n`, aptOptions };
}

// --- building -------------------------------------------------------------------------------------------------------

interface Recipe {
  readonly release: Release;
  readonly packages: readonly string[];
  readonly sources: Sources;
  /** Certificate of the authority to trust, in PEM. */
  readonly authority: string;
}

/** Names everything that goes in: this file, the packages, where they come from, whom it trusts. */
function fingerprint(recipe: Recipe): string {
  const builder = readFileSync(__filename, 'utf8');
  return createHash('sha256').update(builder).update(JSON.stringify(recipe)).digest('hex').slice(0, 12);
}

async function addFiles(root: string): Promise<void> {
  for (const [path, content] of Object.entries(FILES)) {
    const file = join(root, path);
    await mkdir(join(file, '..'), { recursive: true });
    await writeFile(file, content);
  }
}

function finishingScript(): string {
  return [
    'set -eu',
    'systemctl --quiet enable systemd-networkd.service systemd-resolved.service ssh.service',
    `systemctl --quiet mask ${MASKED.join(' ')}`,
    'update-ca-certificates',
    'update-initramfs -u -k all',
    'rm -f /etc/ssh/ssh_host_*', // each instance makes its own
    'ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf',
    ': >/etc/machine-id',
    'touch /etc/.updated /var/.updated', // the first boot need not look for what /usr has new
    'apt-get clean',
    'rm -rf /var/lib/apt/lists/* /var/log/*.log /var/log/apt/*',
  ].join('\n');
}

async function debootstrap(recipe: Recipe, root: string, work: string, progress: Progress): Promise<void> {
  const overlay = join(work, 'files');
  const script = join(work, 'finish.sh');
  await addFiles(overlay);
  await writeFile(join(overlay, 'authority.crt'), recipe.authority);
  await writeFile(script, finishingScript());
  const args = [
    ...['--mode=root', '--variant=minbase', '--format=directory', `--include=${recipe.packages.join(',')}`],
    ...recipe.sources.aptOptions.map((option) => `--aptopt=${option}`),
    '--dpkgopt=force-confold', // a file of ours that a package also brings
    `--setup-hook=cp -r ${overlay}/etc/initramfs-tools "$1"/`,
    `--essential-hook=mkdir -p "$1"/etc && cp -r ${overlay}/etc/. "$1"/etc/`,
    `--customize-hook=cp ${overlay}/authority.crt "$1"/usr/local/share/ca-certificates/`,
    `--customize-hook=cp -r ${overlay}/etc/. "$1"/etc/ && chroot "$1" sh <${script}`,
    ...[CODENAME[recipe.release], root, '-'],
  ];
  // Its last argument names a file of sources: `-` is stdin, an empty one the default mirror.
  const input = recipe.sources.list;
  if (input === '') args.pop();
  const result = await run('mmdebstrap', args, {
    input,
    timeoutMs: 30 * 60_000,
    onLine: (line) => {
      if (/^I: (?!.*-hook)/.test(line)) progress.say(line.slice(3));
    },
  });
  if (result.code === 0) return;
  const said = result.stderr.split('\n').filter(Boolean).slice(-15).join('\n  ');
  throw new Error(`mmdebstrap ${CODENAME[recipe.release]}: exit code ${result.code}\n  ${said}`);
}

function newest(root: string, prefix: string): string {
  const found = readdirSync(join(root, 'boot'))
    .filter((name) => name.startsWith(prefix))
    .sort()
    .pop();
  if (found === undefined)
    throw new Error(`the new image has no /boot/${prefix}*; is linux-image-cloud-amd64 installable?`);
  return join(root, 'boot', found);
}

async function build(recipe: Recipe, target: string, progress: Progress): Promise<void> {
  const work = await mkdtemp(join(scratchDirectory(), `building-${process.pid}-`));
  const root = join(work, 'root');
  const image = join(work, 'image');
  try {
    await mkdir(image);
    await debootstrap(recipe, root, work, progress);
    await chmod(root, 0o755);
    await must('cp', ['--', newest(root, 'vmlinuz-'), join(image, 'vmlinuz')]);
    await must('cp', ['--', newest(root, 'initrd.img-'), join(image, 'initrd.img')]);
    progress.say('making the file system');
    const flags = ['-q', '-F', '-L', 'root', '-m', '1', '-d', root, join(image, 'disk.ext4'), DISK_SIZE];
    await must('mkfs.ext4', flags, { timeoutMs: 10 * 60_000 });
    if (!existsSync(target)) await rename(image, target); // somebody else's may have come first
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** What a killed build has mounted in its root stays mounted. */
async function unmountBelow(path: string): Promise<void> {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const below = mounts.map((line) => line.split(' ')[1] ?? '').filter((point) => point.startsWith(`${path}/`));
  for (const point of below.reverse()) await run('umount', ['--lazy', point]);
}

/** Removes images that no checkout has used for a day, and what a killed build has left. */
async function sweep(): Promise<void> {
  for (const name of readdirSync(cacheDirectory())) {
    const path = join(cacheDirectory(), name);
    const builder = /^building-(\d+)-/.exec(name)?.[1];
    const abandoned = builder !== undefined && !isIsolated() && !existsSync(`/proc/${builder}`);
    const unused = name.startsWith('debian') && Date.now() - statSync(path).mtimeMs > DAY;
    if (abandoned) await unmountBelow(path);
    if (abandoned || unused) await rm(path, { recursive: true, force: true });
  }
}

/** The image of a release, from the cache or, the first time and after any change to what goes in, freshly built. */
export async function ensureImage(release: Release, baked: boolean, progress: Progress): Promise<Image> {
  if (process.arch !== 'x64') throw new Error(`images are built for x86-64 only; this machine is ${process.arch}`);
  const packages = [...new Set([...BASE_PACKAGES, ...(baked ? bakedPackages() : [])])];
  const authority = readFileSync((await ensureAuthority()).certificate, 'utf8');
  const recipe = { release, packages, sources: await sources(release), authority };
  const name = `debian${release}-${baked ? 'baked' : 'base'}-${fingerprint(recipe)}`;
  const target = join(cacheDirectory(), name);
  if (!existsSync(target)) {
    progress.say(`building ${name} (once; a few minutes)`);
    await build(recipe, target, progress);
    progress.say(`built ${name}`);
  }
  await utimes(target, new Date(), new Date()); // in use
  await sweep();
  const file = (basename: string): string => join(target, basename);
  return { name, disk: file('disk.ext4'), kernel: file('vmlinuz'), initrd: file('initrd.img') };
}

async function main(wanted: readonly string[]): Promise<void> {
  const names = wanted.length > 0 ? wanted : ['13-baked', '13-base', '12-base'];
  for (const name of names) {
    const [release, kind] = name.split('-');
    const known = RELEASES.find((candidate) => candidate === release);
    if (known === undefined || (kind !== 'base' && kind !== 'baked'))
      throw new Error(
        `image: '${name}' must be RELEASE-KIND, RELEASE one of ${RELEASES.join(', ')}, KIND base or baked`,
      );
    console.log((await ensureImage(known, kind === 'baked', new Progress(`image ${name}`))).disk);
  }
}

if (require.main === module) {
  main(process.argv.slice(2)).catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
