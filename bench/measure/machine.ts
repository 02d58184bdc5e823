// SPDX-License-Identifier: Apache-2.0
// Who has which processor, and what a gateway takes of it and of the memory.
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { must, run, sleep } from '../../lab/support/host';

export const GENERATOR_CORE = 0;
export const GATEWAY_CORE = 1;

/** Of all that works for a gateway, as of the generator: others who use the machine shall not take its processor. */
export const FAVOUR = -20;

/**
 * Of a gateway's packets so few in a turn that the fragments of each, seven at most, are no more than the 64 frames of a turn of
 * the sink (process_backlog in net/core/dev.c, NAPI_POLL_WEIGHT): they would fill the ring between the two, and the sink be the
 * limit.
 */
export const DEV_WEIGHT = 8;
/**
 * Packets that wait for the gateway's processor. At overload as many as ENA's ring has descriptors (ENA_DEFAULT_RING_SIZE): a
 * longer queue, always full, is more than a processor's caches hold, and what an engine does then depends on who else uses them.
 * Else room for what comes while a virtual machine stands still for some milliseconds.
 */
export const BACKLOG = { overload: 1024, other: 8192 } as const;

/** What was set before, until it is again: it outlives a run that was killed. */
const QUEUES_BEFORE = '/run/mirror-gateway-bench.sysctl';

/** Of the whole machine, until `restoreQueues`. */
export async function setQueues(): Promise<void> {
  const names = ['net.core.dev_weight', 'net.core.netdev_max_backlog'];
  if (!existsSync(QUEUES_BEFORE)) {
    writeFileSync(`${QUEUES_BEFORE}.part`, await must('sysctl', names));
    renameSync(`${QUEUES_BEFORE}.part`, QUEUES_BEFORE);
  }
  await must('sysctl', ['-qw', `net.core.dev_weight=${DEV_WEIGHT}`]);
  setBacklog('other');
}

/** After `setQueues`. */
export function setBacklog(at: keyof typeof BACKLOG): void {
  writeFileSync('/proc/sys/net/core/netdev_max_backlog', String(BACKLOG[at]));
}

export async function restoreQueues(): Promise<void> {
  if (!existsSync(QUEUES_BEFORE)) return;
  await must('sysctl', ['-q', '-p', QUEUES_BEFORE]);
  rmSync(QUEUES_BEFORE);
}

/** USER_HZ (proc(5)). */
const TICKS = 100;

/** The kernel's threads for packets that an interrupt has no time for. */
export async function favour(nice: number): Promise<void> {
  for (const core of [GENERATOR_CORE, GATEWAY_CORE]) {
    const thread = (await run('pgrep', ['-x', `ksoftirqd/${core}`])).stdout.trim();
    if (thread !== '') await run('renice', ['-n', String(nice), thread]);
  }
}

/** Process ids of the threads that poll a gateway's primary interface, this one's and others'. */
export async function pollingThreads(): Promise<string[]> {
  return (await run('pgrep', ['napi/ens5'])).stdout.split('\n').filter(Boolean);
}

/** In bytes. */
export function residentSet(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes ?? NaN) * 1024;
}

/**
 * Seconds since boot in which the gateway's processor was idle, or not this machine's at all. The kernel takes the times of
 * idleness from its clock, and the others from samples (kernel/time/tick-sched.c, get_cpu_idle_time_us).
 */
function idleSeconds(): number {
  const line = new RegExp(`^cpu${GATEWAY_CORE} (.*)$`, 'm').exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? '';
  const [, , , idle = NaN, waiting = NaN, , , stolen = NaN] = line.split(' ').map(Number);
  return (idle + waiting + stolen) / TICKS;
}

/** How long the gateway's processor worked meanwhile, and how long that was; both in seconds. */
export async function busy<T>(work: () => Promise<T>): Promise<{ result: T; worked: number; elapsed: number }> {
  const [startedAt, idleBefore] = [performance.now(), idleSeconds()];
  const result = await work();
  const elapsed = (performance.now() - startedAt) / 1000;
  return { result, elapsed, worked: Math.max(elapsed - (idleSeconds() - idleBefore), 0) };
}

/** Of a gateway at rest, at least: less is somebody else's work, and worth another look. */
const LEAST_IDLE = 0.9;
const [LOOKS, LOOK_MS] = [5, 2000];

/** Of the gateway's processor, while nothing is offered. */
export async function idleShare(): Promise<number> {
  let most = 0;
  for (let look = 0; look < LOOKS && most < LEAST_IDLE; look++)
    most = Math.max(most, 1 - (await busy(() => sleep(LOOK_MS))).worked / (LOOK_MS / 1000));
  return most;
}
