// SPDX-License-Identifier: Apache-2.0
// The files an instance gets besides Debian's packages: which ones, and how they become one small archive with the same
// bytes on every platform. Only JavaScript compresses here, because zlib and xz differ from build to build.
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as lzma from 'lzma';
import { Deflate, gzip as pakoGzip, Z_DEFAULT_STRATEGY, Z_FINISH, Z_HUFFMAN_ONLY, Z_SYNC_FLUSH } from 'pako';
import type { DeflateOptions } from 'pako';
import { Header } from 'tar';
import { Problem } from './problem';

export interface BundleFile {
  /** Relative to the repository, and to /opt/ebpf-xdp-processor on an instance. */
  readonly path: string;
  readonly mode: number;
  readonly content: Buffer;
}

/** Where the bundle's sources live. */
export const REPOSITORY = path.resolve(__dirname, '..');

/** The template around the bundle; it is not part of it. */
export const TEMPLATE = 'userdata/cloud-config.yaml';

// Built in place by make: never shipped, whatever the name says.
const GENERATED = /(?:\.skel\.h|^vmlinux\.h)$/;
const EDITOR_LEFTOVER = /^\.|~$|\.(?:swp|orig|rej|bak)$/;

const FOLDERS: Record<string, (name: string) => boolean> = {
  bpf: (name) => name === 'Makefile' || (/\.[ch]$/.test(name) && !GENERATED.test(name)),
  netfilter: (name) => name === 'Makefile' || (/\.(?:c|cpp|h|hpp|nft)$/.test(name) && !GENERATED.test(name)),
  userdata: (name) => !name.endsWith('.md'),
};

// Without one of these an instance cannot even report what is missing.
const REQUIRED = [
  'bpf/Makefile',
  'bpf/udp_df_modifier.bpf.c',
  'bpf/udp_df_modifier_loader.c',
  'netfilter/Makefile',
  'netfilter/modify_udp_df.cpp',
  'userdata/deploy_xdp.sh',
  'userdata/packages.txt',
];

function filesOf(root: string, folder: string, belongs: (name: string) => boolean): string[] {
  const absolute = path.join(root, folder);
  if (!fs.existsSync(absolute)) return [];
  return fs
    .readdirSync(absolute, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !EDITOR_LEFTOVER.test(entry.name) && belongs(entry.name))
    .map((entry) => `${folder}/${entry.name}`)
    .filter((file) => file !== TEMPLATE);
}

function isScript(content: Buffer): boolean {
  return content.subarray(0, 2).toString('latin1') === '#!';
}

/**
 * The bundle's files, sorted by path.
 *
 * @param root the repository, or a copy of it
 * @throws Problem naming the files an instance cannot do without, if some are missing
 */
export function bundleFiles(root: string = REPOSITORY): readonly BundleFile[] {
  const paths = Object.entries(FOLDERS).flatMap(([folder, belongs]) => filesOf(root, folder, belongs));
  const missing = REQUIRED.filter((file) => !paths.includes(file));
  if (missing.length > 0) throw new Problem(`user data: the bundle lacks ${missing.join(', ')}; restore them from git`);
  // Byte order, not the locale's: it decides the bytes of the archive.
  return paths.sort((a, b) => (a < b ? -1 : 1)).map((file) => readBundleFile(root, file));
}

/**
 * The text without its comments and, where it means nothing, its indentation: prose and white space compress worst. Lines
 * keep their numbers, so that a message on an instance still points into the repository. Licence lines stay, and what a #
 * or // behind code might be.
 */
function condensed(file: string, text: string): string {
  const bare = /\.(?:c|h|cpp)$/.test(file)
    ? text.replace(/[ \t]*\/\*[^]*?\*\/$|^[ \t]*\/\/.*$/gm, blank)
    : text.replace(/^[ \t]*#(?!!).*$/gm, blank);
  // Tabs only: what a script prints is indented by blanks.
  return /\.(?:c|h|cpp|nft|sh)$/.test(file) ? bare.replace(/^\t+/gm, '') : bare;
}

function blank(comment: string): string {
  return comment.includes('SPDX') ? comment : comment.replace(/[^\n]/g, '');
}

function readBundleFile(root: string, file: string): BundleFile {
  const content = Buffer.from(condensed(file, fs.readFileSync(path.join(root, file), 'utf8')));
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
      throw new Problem(`user data: the path ${name} is too long for a tar header`);
    return [header, content, padding(content.length)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

/** The files of an archive that `tarOf` made. */
export function untar(archive: Buffer): readonly BundleFile[] {
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

// The dictionary, 16 MiB, is more than needed; what counts is the longest match, which grows up to this mode.
const LZMA_MODE = 8;

const compressed = new Map<string, Buffer>();

export function sha256(data: Buffer | string): string {
  return createHash('sha256').update(data).digest('hex');
}

/** What `xz -d`, and so `tar -xJ`, unpacks. Half a second of work: kept for the next stack in the same process. */
export function compress(data: Buffer): Buffer {
  const key = sha256(data);
  const known = compressed.get(key);
  if (known) return known;
  const result = Buffer.from(lzma.compress(data, LZMA_MODE));
  compressed.set(key, result);
  return result;
}

export function decompress(data: Buffer): Buffer {
  // The library answers with a string where the bytes happen to be UTF-8.
  return Buffer.from(lzma.decompress(data) as string);
}

const GZIP = { level: 9, memLevel: 9 } as const;

/** gzip with nothing of the machine, the file or the time in its header. */
export function gzip(data: Buffer): Buffer {
  return Buffer.from(pakoGzip(data, GZIP));
}

function deflated(
  data: Buffer,
  strategy: DeflateOptions['strategy'],
  flush: typeof Z_SYNC_FLUSH | typeof Z_FINISH,
): Buffer {
  const chunks: Uint8Array[] = [];
  const stream = new Deflate({ ...GZIP, raw: true, strategy });
  stream.onData = (chunk) => chunks.push(chunk);
  stream.push(data, flush);
  return Buffer.concat(chunks);
}

/**
 * The same for a text that ends in base64. There a repetition is an accident, and matching it costs more than it saves:
 * a deflate block of its own, without matches, brings base64 back to six bits a character. Saves some 200 bytes.
 *
 * @param start where the base64 begins
 */
export function gzipBeforeBase64(text: Buffer, start: number): Buffer {
  const whole = gzip(text);
  const head = deflated(text.subarray(0, start), Z_DEFAULT_STRATEGY, Z_SYNC_FLUSH);
  const tail = deflated(text.subarray(start), Z_HUFFMAN_ONLY, Z_FINISH);
  // Ten bytes of gzip header, and the eight that hold checksum and size of the text: the same however it is cut.
  return Buffer.concat([whole.subarray(0, 10), head, tail, whole.subarray(-8)]);
}
