// SPDX-License-Identifier: Apache-2.0
// What of `make test-all` a change asks for: by the files that differ from the last commit that passed it, or from the last tag.
import { spawnSync } from 'node:child_process';
import { REPOSITORY } from '../../lab/support/host';

/** Moved by a `make test-all` that passed on a clean checkout. */
const PASSED = 'refs/test-all/passed';

const PROGRAMS = /^(bpf|health|lib|netfilter|userdata)\//;
const MACHINES =
  /^lab\/vm\/(apt|computer|image|programs|qemu|surroundings|vm)\.ts|^__tests__\/vm\/(emulated|lifecycle|machine|unbaked|upgrades)/;
/** Whatever a machine boots from. */
const BOOTED = new RegExp(`${PROGRAMS.source}|${MACHINES.source}|^constructs/user-data/`);

const PARTS: readonly { readonly part: string; readonly files: RegExp }[] = [
  { part: 'plain Debian images', files: BOOTED },
  { part: "all of Debian's kernels", files: /^bpf\/|^lab\/vm\/(kernels|kernel-vm)\.ts|^__tests__\/vm\/.*kernels/ },
  { part: 'stress runs of full length', files: PROGRAMS },
  { part: 'emulated machines', files: BOOTED },
];

function git(...args: string[]): string | undefined {
  const { status, stdout } = spawnSync('git', args, { cwd: REPOSITORY, encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

/** The parts that these changed files (paths from the top) ask for. */
export function partsFor(files: readonly string[]): string[] {
  return PARTS.filter((each) => files.some((file) => each.files.test(file))).map(({ part }) => part);
}

/** One line: what to run, since when; undefined outside a git checkout. */
export function advice(): string | undefined {
  const since = git('rev-parse', '--short', '--verify', '--quiet', PASSED) ?? git('describe', '--tags', '--abbrev=0');
  // Where nothing is known to have passed, everything is new.
  const from = since ?? git('hash-object', '-t', 'tree', '/dev/null');
  if (from === undefined) return undefined;
  const files = [git('diff', '--name-only', from), git('ls-files', '--others', '--exclude-standard')];
  const parts = partsFor(files.flatMap((each) => (each ?? '').split('\n')).filter(Boolean));
  const reason = since === undefined ? 'no test-all has passed in this checkout' : `changed since ${since}`;
  if (parts.length === 0) return `make test-all: nothing of it is asked for (${reason})`;
  return `make test-all is asked for (${reason}): ${parts.join(', ')}`;
}

/** What is checked out, if nothing differs from it. */
export function cleanCommit(): string | undefined {
  return git('status', '--porcelain') === '' ? git('rev-parse', 'HEAD') : undefined;
}

/** Remembers that everything passed for the commit that was checked out before, if it still is. */
export function remember(commit: string): void {
  if (cleanCommit() === commit) git('update-ref', PASSED, commit);
}
