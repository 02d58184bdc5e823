// SPDX-License-Identifier: Apache-2.0
// The files an instance gets besides Debian's packages: which ones, and how they become one small archive with the same
// bytes on every platform. Only JavaScript compresses here, because zlib differs from build to build.
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { gzip as pakoGzip, ungzip } from 'pako';
import { Header } from 'tar';
import { UserError } from '../config/user-error';

export interface BundleFile {
  /** Relative to the repository, and to /opt/ebpf-xdp-processor on an instance. */
  readonly path: string;
  readonly mode: number;
  readonly content: Buffer;
}

/** Where the bundle's sources live. */
export const REPOSITORY = path.resolve(__dirname, '../..');

/** What the user data itself is made of, and so not part of the bundle. */
export const TEMPLATE = 'userdata/cloud-config.yaml';
export const FETCH_SCRIPT = 'userdata/fetch_bundle.sh';

// Built in place by make: never shipped, whatever the name says.
const GENERATED = /(?:\.skel\.h|^vmlinux\.h|^settings\.h)$/;
const EDITOR_LEFTOVER = /^\.|~$|\.(?:swp|orig|rej|bak)$/;

const isSource = (name: string): boolean => name === 'Makefile' || (/\.[ch]$/.test(name) && !GENERATED.test(name));

// Each folder's own files: what lies in folders below is shipped where they are named too.
const FOLDERS: Record<string, (name: string) => boolean> = {
  bpf: isSource,
  'bpf/loader': isSource,
  'bpf/xdp': isSource,
  health: isSource,
  lib: (name) => isSource(name) || /\.(?:jq|mk)$/.test(name),
  netfilter: (name) => name === 'Makefile' || (/\.(?:c|cpp|h|hpp|nft)$/.test(name) && !GENERATED.test(name)),
  userdata: (name) => !name.endsWith('.md'),
  'userdata/lib': (name) => name.endsWith('.sh'),
  'userdata/jq': (name) => name.endsWith('.jq'),
  'userdata/units': (name) => /\.(?:service|socket|timer|conf)$/.test(name),
};

// Without one of these an instance cannot even report what is missing.
const REQUIRED = [
  'bpf/Makefile',
  'bpf/loader/options.c',
  'bpf/udp_df_modifier.bpf.c',
  'bpf/udp_df_modifier_loader.c',
  'health/Makefile',
  'health/health_endpoint.c',
  'lib/journal.c',
  'netfilter/Makefile',
  'netfilter/modify_udp_df.cpp',
  'userdata/deploy_xdp.sh',
  'userdata/lib/common.sh',
  'userdata/packages.txt',
  'userdata/settings.json',
];

function filesOf(root: string, folder: string, belongs: (name: string) => boolean): string[] {
  const absolute = path.join(root, folder);
  if (!fs.existsSync(absolute)) return [];
  return fs
    .readdirSync(absolute, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !EDITOR_LEFTOVER.test(entry.name) && belongs(entry.name))
    .map((entry) => `${folder}/${entry.name}`)
    .filter((file) => file !== TEMPLATE && file !== FETCH_SCRIPT);
}

function isScript(content: Buffer): boolean {
  return content.subarray(0, 2).toString('latin1') === '#!';
}

/**
 * The bundle's files, sorted by path.
 *
 * @param root the repository, or a copy of it
 * @throws UserError naming the files an instance cannot do without, if some are missing
 */
export function bundleFiles(root: string = REPOSITORY): readonly BundleFile[] {
  const paths = Object.entries(FOLDERS).flatMap(([folder, belongs]) => filesOf(root, folder, belongs));
  const missing = REQUIRED.filter((file) => !paths.includes(file));
  if (missing.length > 0)
    throw new UserError(`user data: the bundle lacks ${missing.join(', ')}; restore them from git`);
  // Byte order, not the locale's: it decides the bytes of the archive.
  return paths.sort((a, b) => (a < b ? -1 : 1)).map((file) => readBundleFile(root, file));
}

function readBundleFile(root: string, file: string): BundleFile {
  const content = fs.readFileSync(path.join(root, file));
  // From the content, because a checkout may lose the executable bit.
  return { path: file, mode: isScript(content) ? 0o755 : 0o644, content };
}

const BLOCK = 512;

function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

/** The files as a tar archive, owned by root and of no particular time. */
export function tarOf(files: readonly BundleFile[]): Buffer {
  const blocks = files.flatMap(({ path: name, mode, content }) => {
    const header = Buffer.alloc(BLOCK);
    const fields = {
      path: name,
      mode,
      size: content.length,
      uid: 0,
      gid: 0,
      mtime: new Date(0),
      type: 'File',
    } as const;
    if (new Header(fields).encode(header))
      throw new UserError(`user data: the path ${name} is too long for a tar header`);
    return [header, content, padding(content.length)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

/** The files of an archive that `tarOf` made. */
function untar(archive: Buffer): readonly BundleFile[] {
  const files: BundleFile[] = [];
  for (let offset = 0; offset < archive.length;) {
    const header = new Header(archive, offset);
    if (header.nullBlock) break;
    const size = header.size ?? 0;
    const start = offset + BLOCK;
    const content = Buffer.from(archive.subarray(start, start + size));
    files.push({ path: header.path ?? '', mode: header.mode ?? 0, content });
    offset = start + size + padding(size).length;
  }
  return files;
}

export function sha256(data: Buffer | string): string {
  return createHash('sha256').update(data).digest('hex');
}

/** gzip with nothing of the machine, the file or the time in its header. */
export function gzip(data: Buffer): Buffer {
  return Buffer.from(pakoGzip(data, { level: 9, memLevel: 9 }));
}

export interface Bundle {
  /** What `tar -xz` unpacks. */
  readonly archive: Buffer;
  /** Of the archive: how an instance knows its bundle. */
  readonly sha256: string;
}

/** The files as one archive. */
export function buildBundle(files: readonly BundleFile[] = bundleFiles()): Bundle {
  const archive = gzip(tarOf(files));
  return { archive, sha256: sha256(archive) };
}

/** The reverse of `buildBundle`. */
export function unpackBundle(archive: Uint8Array): readonly BundleFile[] {
  return untar(Buffer.from(ungzip(archive)));
}
