// SPDX-License-Identifier: Apache-2.0
// What suites need from the machine beside Node, found out by trying, with the remedy for whoever lacks it.
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';

export type Need = 'root' | 'namespaces' | 'bpf' | 'tun' | 'containers';

/** Runs tests beside others: see there. */
export const ISOLATED = join(__dirname, 'isolated');

/** Environment variables would be lost without -E, the path even with it. */
export function asRoot(command: readonly string[]): string[] {
  if (process.getuid?.() === 0) return [...command];
  return ['sudo', '-n', '-E', 'env', `PATH=${process.env.PATH}`, ...command];
}

function works(...command: string[]): boolean {
  const [program = '', ...args] = asRoot(command);
  return spawnSync(program, args, { stdio: 'ignore', timeout: 30_000 }).status === 0;
}

function opens(path: string): boolean {
  try {
    closeSync(openSync(path, 'r+'));
    return true;
  } catch {
    return process.getuid?.() !== 0 && works('test', '-w', path);
  }
}

const MAP = ['/sys/fs/bpf/probe', 'type', 'array', 'key', '4', 'value', '4', 'entries', '1', 'name', 'probe'];

const PROBES: Record<Need, { readonly isThere: () => boolean; readonly lacks: string; readonly remedy: string }> = {
  root: {
    isThere: () => works('true'),
    lacks: 'not root, and sudo asks for a password or is not there',
    remedy: 'run it as root, or allow sudo without a password',
  },
  namespaces: {
    isThere: () => works(ISOLATED, 'sh', '-c', 'ip netns add probe && ip netns delete probe'),
    lacks: 'may not make mount, process and network namespaces',
    remedy: 'in a container: docker run --privileged',
  },
  bpf: {
    isThere: () => works(ISOLATED, 'bpftool', 'map', 'create', ...MAP),
    lacks: 'may not load BPF programs and maps',
    remedy: 'in a container: docker run --privileged; elsewhere a kernel with CONFIG_BPF_SYSCALL',
  },
  containers: {
    isThere: () => works('sh', '-c', 'losetup -f && test -w "$(findmnt -n -f -o TARGET -t cgroup2)/cgroup.procs"'),
    lacks: 'no loop device, or no cgroup2 that can be written',
    remedy: 'modprobe loop; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified; in a container: docker run --privileged',
  },
  tun: {
    isThere: () => opens('/dev/net/tun'),
    lacks: '/dev/net/tun does not open',
    remedy: 'modprobe tun; in a container: docker run --privileged, or --device /dev/net/tun',
  },
};

/** Why a suite cannot run here, with the remedy; undefined where it can. Each need is tried once. */
export class Capabilities {
  private readonly found = new Map<Need, boolean>();

  constructor(private readonly probes: Readonly<typeof PROBES> = PROBES) {}

  hindrance(needs: readonly Need[]): string | undefined {
    const missing = needs.find((need) => !this.has(need));
    if (missing === undefined) return undefined;
    const { lacks, remedy } = this.probes[missing];
    return `${lacks}: ${remedy}`;
  }

  private has(need: Need): boolean {
    const known = this.found.get(need);
    if (known !== undefined) return known;
    const answer = this.probes[need].isThere();
    this.found.set(need, answer);
    return answer;
  }
}
