// SPDX-License-Identifier: Apache-2.0
// The XDP program and its loader as a later version might be: with one counter more, so that its statistics are laid out
// differently and an upgrade has to carry the counters over.
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { must, REPOSITORY } from '../support/host';

/** By file, the line behind which another goes. */
const ADDITIONS = [
  ['bpf/udp_df_modifier.h', '__u64 fragments_seen;', '__u64 packets_of_tomorrow;'],
  ['bpf/loader/status.c', '\t"fragments_seen",', '\t"packets_of_tomorrow",'],
  ['bpf/udp_df_modifier.bpf.c', 'count->packets_seen++;', 'count->packets_of_tomorrow++;'],
] as const;

/** Copies the sources of program and loader into a folder, below which they lie as in the repository. */
export async function copySources(folder: string): Promise<void> {
  for (const name of ['bpf', 'lib', 'userdata'])
    await cp(join(REPOSITORY, name), join(folder, name), { recursive: true });
}

/** Builds them there. */
export async function buildSources(folder: string): Promise<void> {
  await must('make', ['-s', '-B', '-C', join(folder, 'bpf')], { timeoutMs: 120_000 });
}

/** Builds the next version in a folder that does not exist yet. */
export async function makeNextVersion(folder: string): Promise<void> {
  await copySources(folder);
  for (const [file, before, line] of ADDITIONS) {
    const text = await readFile(join(folder, file), 'utf8');
    if (!text.includes(before)) throw new Error(`${file}: no line '${before}'; the next version needs another edit`);
    await writeFile(join(folder, file), text.replace(before, `${before}\n${line}`));
  }
  await buildSources(folder);
}
