// SPDX-License-Identifier: Apache-2.0
// What lets labs stand beside each other: whatever one does to files, pins and processes is its own, and ends with it.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { must, Progress, run, waitFor } from '../../lab/support/host';
import { ISOLATED } from '../support/capabilities';

const inside = (script: string): Promise<string> => must(ISOLATED, ['bash', '-euc', script]);
const MARK = `isolated-${process.pid}`;

describe('an isolated command', () => {
  it('writes to copies of /etc, /opt and /run', async () => {
    await inside(`for folder in /etc /opt /run; do echo ours >$folder/${MARK}; done; grep -q ours /opt/${MARK}`);
    for (const folder of ['/etc', '/opt', '/run']) expect(existsSync(`${folder}/${MARK}`)).toBe(false);
  });

  it('has network namespaces and BPF pins of its own', async () => {
    const make = `ip netns add ${MARK} && bpftool map create /sys/fs/bpf/${MARK} type array key 4 value 4 entries 1 name mine`;
    expect(await inside(`${make} && ip netns list && ls /sys/fs/bpf`)).toMatch(new RegExp(`^${MARK}$`, 'm'));
    expect((await run('ip', ['netns', 'list'])).stdout).not.toContain(MARK);
    expect(existsSync(`/sys/fs/bpf/${MARK}`)).toBe(false);
  });

  it('ends as its command does', async () => {
    expect((await run(ISOLATED, ['sh', '-c', 'exit 3'])).code).toBe(3);
  });

  it('takes along what it started when it ends, and when it is killed', async () => {
    const isThere = (): Promise<boolean> =>
      run('pgrep', ['-f', `sleep 98765.${process.pid}`]).then(({ code }) => code === 0);
    const mounts = (): string => readFileSync('/proc/self/mounts', 'utf8');
    const before = mounts();
    const gone = (): Promise<true | undefined> => isThere().then((there) => !there || undefined);
    const limits = { timeoutMs: 10_000, everyMs: 50, progress: new Progress('isolated') };
    await inside(`sleep 98765.${process.pid} & true`);
    await waitFor('end of what it started', gone, limits);
    const child = spawn(ISOLATED, ['sleep', `98765.${process.pid}`], { stdio: 'ignore' });
    await waitFor('start', () => isThere().then((there) => there || undefined), limits);
    child.kill('SIGKILL');
    await waitFor('end of what it started', gone, limits);
    expect(mounts()).toBe(before);
  });
});
