// SPDX-License-Identifier: Apache-2.0
// Kernels older and newer than this machine's: the current cloud kernel of some Debian suites, unpacked from its packages
// and cached. Nothing is installed: apt works in a folder of its own, with this machine's mirror, proxy and keyring.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hostMirror } from './apt';
import { cacheDirectory, isIsolated, must, type Progress, scratchDirectory } from '../support/host';

/**
 * From the oldest that the mirror still carries to the newest that a stable release can install. A suite leaves the mirror
 * some years after its release; the tests then say so: drop it here, and the next one is the oldest.
 */
export const SUITES = ['bullseye-security', 'bookworm', 'trixie', 'trixie-backports'] as const;
export type Suite = (typeof SUITES)[number];
/** `make test` boots the oldest, and the one that gateways of Debian 13 run; `make test-all` all of them. */
export const TESTED_SUITES: readonly Suite[] = process.env.TEST_ALL ? SUITES : ['bullseye-security', 'trixie'];

const META_PACKAGE = 'linux-image-cloud-amd64';
/** What it leads to: one package, or since Linux 7 one for the kernel and one for its modules. */
const CONTENT = /^linux-(image|binary|modules)-\d/;
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
/**
 * The channel to the host, and an interface to hook; each after those it needs. Which of them are modules differs: one that
 * is not there is built in.
 */
const MODULES = [
  ...['virtio', 'virtio_ring', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci', 'virtio_console'],
  'veth',
];
/** What an IPsec VM and its subnet need beside those: ESP with AES-GCM, xfrm interfaces, nftables, a bridge. */
const IPSEC_MODULES = [
  ...['gf128mul', 'ghash-generic', 'crypto_null', 'gcm', 'geniv', 'seqiv'],
  ...['xfrm_algo', 'xfrm_user', 'esp4', 'tunnel4', 'tunnel6', 'xfrm6_tunnel', 'xfrm_interface'],
  ...['libcrc32c', 'nfnetlink', 'nf_tables', 'nf_defrag_ipv4', 'nf_defrag_ipv6', 'nf_conntrack', 'nft_ct'],
  ...['llc', 'stp', 'bridge'],
];
const UNPACKED = [...MODULES, ...IPSEC_MODULES];
const DAY = 24 * 3600_000;
const MINUTE = 60_000;

export interface Kernel {
  readonly suite: Suite;
  /** Of the Debian package. */
  readonly version: string;
  readonly kernel: string;
  /** In the order of loading. */
  readonly modules: readonly string[];
}

/** The same kernel, with what an IPsec VM needs. */
export function withIpsec(kernel: Kernel): Kernel {
  return { ...kernel, modules: modulesIn(dirname(kernel.kernel), UNPACKED) };
}

/** The kernel of a suite. The mirror is asked once a day; it is not there: an error that names the suite. */
export async function ensureKernel(suite: Suite, progress: Progress): Promise<Kernel> {
  if (process.arch !== 'x64') throw new Error(`kernels are taken for x86-64 only; this machine is ${process.arch}`);
  await sweep();
  const fresh = cached(suite).find((path) => Date.now() - statSync(path).mtimeMs < DAY);
  if (fresh !== undefined) return open(suite, fresh);
  progress.say(`asking the mirror for the kernel of ${suite}`);
  const work = await workFolder();
  try {
    const apt = await Apt.update(suite, work);
    const version = await apt.version(META_PACKAGE);
    const target = join(cacheDirectory(), `${prefix(suite)}${version}`);
    if (!existsSync(target)) await unpack(apt, work, target);
    await utimes(target, new Date(), new Date()); // when the mirror last named it
    progress.say(`the kernel of ${suite} is ${version}`);
    return open(suite, target);
  } catch (error) {
    throw new Error(`no kernel of Debian ${suite}: ${(error as Error).message}`, { cause: error });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Removed with the cache's other leftovers if its process does not live to do so. */
export function workFolder(): Promise<string> {
  return mkdtemp(join(scratchDirectory(), `kernel-work-${process.pid}-`));
}

// --- packages -------------------------------------------------------------------------------------------------------

/** One suite alone, so that whatever carries the package's name is that suite's. */
class Apt {
  private constructor(private readonly options: readonly string[]) {}

  static async update(suite: Suite, work: string): Promise<Apt> {
    const label = suite.endsWith('-security') ? 'Debian-Security' : 'Debian';
    const mirror = (await hostMirror(label)) ?? (await hostMirror('Debian'))?.replace(/debian$/, label.toLowerCase());
    if (mirror === undefined) throw new Error("no Debian mirror among this machine's apt sources: add one");
    const root = join(work, 'apt');
    await mkdir(join(root, 'lists', 'partial'), { recursive: true });
    await mkdir(join(root, 'cache', 'archives', 'partial'), { recursive: true });
    await writeFile(join(root, 'sources.list'), `deb [arch=amd64 signed-by=${KEYRING}] ${mirror} ${suite} main\n`);
    const settings = {
      'Dir::Etc::SourceList': join(root, 'sources.list'),
      'Dir::Etc::SourceParts': '/dev/null',
      'Dir::State': root,
      'Dir::State::Lists': join(root, 'lists'),
      'Dir::State::Status': '/dev/null',
      'Dir::Cache': join(root, 'cache'),
      // Its own user cannot write here; what comes is signed.
      'APT::Sandbox::User': 'root',
      'APT::Architecture': 'amd64',
      'APT::Update::Error-Mode': 'any',
      'Acquire::Languages': 'none',
      'Acquire::Retries': '3',
    };
    const lines = Object.entries(settings).map(([key, value]) => `${key} "${value}";\n`);
    await writeFile(join(root, 'apt.conf'), lines.join(''));
    const apt = new Apt(['-qq', '-c', join(root, 'apt.conf')]);
    await must('apt-get', [...apt.options, 'update'], { timeoutMs: 3 * MINUTE });
    return apt;
  }

  async version(name: string): Promise<string> {
    const shown = await must('apt-cache', [...this.options, 'show', '--no-all-versions', name]);
    const version = /^Version: (\S+)$/m.exec(shown)?.[1];
    if (version === undefined) throw new Error(`package ${name} has no version`);
    return version;
  }

  async dependencies(name: string): Promise<string[]> {
    const lines = await must('apt-cache', [...this.options, 'depends', '--recurse', '--important', name]);
    return lines.split('\n').filter((line) => CONTENT.test(line));
  }

  async download(names: readonly string[], folder: string): Promise<void> {
    await mkdir(folder);
    await must('apt-get', [...this.options, 'download', ...names], { cwd: folder, timeoutMs: 10 * MINUTE });
  }
}

async function unpack(apt: Apt, work: string, target: string): Promise<void> {
  const names = await apt.dependencies(META_PACKAGE);
  if (names.length === 0) throw new Error(`package ${META_PACKAGE} leads to none with a kernel`);
  const [archives, root, kept] = [join(work, 'archives'), join(work, 'root'), join(work, 'kept')];
  await apt.download(names, archives);
  for (const archive of readdirSync(archives)) await must('dpkg-deb', ['--extract', join(archives, archive), root]);

  await mkdir(kept);
  const files = (await must('find', [root, '-type', 'f'])).split('\n');
  const image = files.find((file) => basename(file).startsWith('vmlinuz'));
  if (image === undefined) throw new Error(`no vmlinuz in ${names.join(', ')}`);
  await rename(image, join(kept, 'vmlinuz'));
  for (const name of UNPACKED) {
    const found = files.find((file) => [`${name}.ko`, `${name}.ko.xz`].includes(basename(file)));
    if (found === undefined) continue;
    if (found.endsWith('.xz')) await must('xz', ['--decompress', found]);
    await rename(found.replace(/\.xz$/, ''), join(kept, `${name}.ko`));
  }
  await rename(kept, target).catch((error: Error) => {
    if (!existsSync(target)) throw error; // somebody else's may have come first
  });
}

// --- cache ----------------------------------------------------------------------------------------------------------

/** Another list of modules is another folder. */
const LIST = createHash('sha256').update(UNPACKED.join()).digest('hex').slice(0, 8);
/** No suite's name continues with a digit, so that bookworm's do not pass for those of its backports. */
const prefix = (suite: Suite): string => `kernel-${LIST}-${suite}-`;

function cached(suite: Suite): string[] {
  const names = readdirSync(cacheDirectory()).filter(
    (name) => name.startsWith(prefix(suite)) && /^\d/.test(name.slice(prefix(suite).length)),
  );
  const paths = names.map((name) => join(cacheDirectory(), name));
  return paths.sort((one, other) => statSync(other).mtimeMs - statSync(one).mtimeMs);
}

function open(suite: Suite, folder: string): Kernel {
  return {
    suite,
    version: basename(folder).slice(prefix(suite).length),
    kernel: join(folder, 'vmlinuz'),
    modules: modulesIn(folder, MODULES),
  };
}

/** Those of the list that are modules of this kernel. */
function modulesIn(folder: string, names: readonly string[]): string[] {
  return names.map((name) => join(folder, `${name}.ko`)).filter((path) => existsSync(path));
}

/** Removes kernels that the mirror has not named for two days, and what a killed process has left. */
async function sweep(): Promise<void> {
  for (const name of readdirSync(cacheDirectory()).filter((name) => name.startsWith('kernel-'))) {
    const path = join(cacheDirectory(), name);
    const worker = /^kernel-work-(\d+)-/.exec(name)?.[1];
    const named = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (worker === undefined ? Date.now() - named > 2 * DAY : !isIsolated() && !existsSync(`/proc/${worker}`))
      await rm(path, { recursive: true, force: true });
  }
}
