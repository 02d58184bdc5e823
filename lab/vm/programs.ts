// SPDX-License-Identifier: Apache-2.0
// Puts a bundle and the programs built from it into a disk, as an image does that was made of a running gateway: no minutes
// of an emulated compiler. The programs are this machine's; where they do not start on that disk, the gateway builds them.
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { INSTALLED } from '../../constructs/user-data/user-data';
import { must } from '../support/host';

/** Later than what they are built from. */
const isBuilt = (path: string): boolean => /\.o$|_loader$|health_endpoint$|modify_udp_df$/.test(path);

/** debugfs knows neither quotes nor blanks: paths of a bundle have none. */
function commands(root: string): string[] {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true });
  const paths = entries.map((entry) => ({
    isFolder: entry.isDirectory(),
    from: join(entry.parentPath, entry.name),
    to: join(INSTALLED, join(entry.parentPath, entry.name).slice(root.length)),
  }));
  const folders = paths.filter(({ isFolder }) => isFolder).sort((a, b) => a.to.length - b.to.length);
  const files = paths.filter(({ isFolder }) => !isFolder);
  return [
    `mkdir ${INSTALLED}`,
    ...folders.map(({ to }) => `mkdir ${to}`),
    ...files.map(({ from, to }) => `write ${from} ${to}`),
    ...files.filter(({ from }) => !isBuilt(from)).map(({ to }) => `set_inode_field ${to} mtime 19700101000001`),
  ];
}

/**
 * Writes into an ext4 file system that nobody has mounted.
 *
 * @param bundle a gzipped tar, as user data fetches it
 */
export async function addPrograms(disk: string, bundle: Buffer): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'programs-'));
  const root = join(work, 'root');
  try {
    mkdirSync(root);
    await must('tar', ['-xz', '--no-same-owner', '-C', root], { input: bundle });
    for (const folder of ['health', 'bpf', 'netfilter'])
      await must('make', ['-s', '-C', join(root, folder)], { timeoutMs: 300_000 });
    writeFileSync(join(root, '.sha256'), `${createHash('sha256').update(bundle).digest('hex')}\n`);
    writeFileSync(join(work, 'commands'), `${commands(root).join('\n')}\n`);
    await must('debugfs', ['-w', '-f', join(work, 'commands'), disk]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
