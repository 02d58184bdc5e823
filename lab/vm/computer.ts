// SPDX-License-Identifier: Apache-2.0
// A machine under test: what tests ask of it, whether it is emulated (vm.ts) or a container (container.ts).
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Progress, type RunResult, waitFor } from '../support/host';
import { STATE, VM_LAB } from './surroundings';

/** In seconds. */
export const LIMIT = { boot: 900, cloudInit: 1500, command: 120 } as const;
/** Asks a machine that may not answer yet, often enough to notice soon when it does. */
export const PROBE: ExecOptions = { timeoutSeconds: 15, connectSeconds: 3 };

export interface CloudInitResult {
  readonly errors: readonly string[];
  /** By level, such as WARNING; empty where this cloud-init does not tell (before 23.4). */
  readonly warnings: Readonly<Record<string, readonly string[]>>;
}

export interface ExecOptions {
  readonly timeoutSeconds?: number;
  /** For the connection alone: a busy, emulated machine takes its time, one that boots does not answer at all. */
  readonly connectSeconds?: number;
  readonly input?: string;
}

export abstract class Computer {
  /** When it was switched on (milliseconds since the epoch). */
  readonly bootedAt = Date.now();
  readonly lab = VM_LAB;

  protected constructor(
    readonly userData: Buffer,
    readonly progress: Progress,
  ) {}

  /** Runs a bash script as root; a non-zero exit code is an answer, not an exception. */
  abstract tryExec(script: string, options?: ExecOptions): Promise<RunResult>;
  /** An orderly reboot; returns once commands run again. */
  abstract reboot(): Promise<void>;
  /** Plugs the second interface into the running machine and lets the metadata service tell. */
  abstract attachSecondary(): Promise<void>;
  /** Unplugs it, as detaching its ENI does; `attachSecondary` plugs it in again. */
  abstract detachSecondary(): Promise<void>;
  /** Pulls the plug and removes every trace. */
  abstract powerOff(): Promise<void>;
  /** @throws Error when the machine is gone, though nobody switched it off */
  protected abstract mustRun(): void;

  /** What the console has shown so far. */
  console(): string {
    return readFileSync(join(STATE, 'console.log'), 'utf8');
  }

  /** What the DHCP server on the second interface's subnet was asked and answered. */
  dhcpLog(): string {
    const log = join(STATE, 'dhcp.log');
    return existsSync(log) ? readFileSync(log, 'utf8') : '';
  }

  /** Runs a bash script as root and returns what it printed. */
  async exec(script: string, options: ExecOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.tryExec(script, options);
    if (code === 0) return stdout;
    throw new Error(`on the machine: ${script}: exit code ${code}\n  ${(stderr.trim() || stdout.trim()).slice(-2000)}`);
  }

  /** Waits until commands run. */
  async waitUntilUp(): Promise<void> {
    const probe = async (): Promise<true | undefined> => (await this.tryExec('true', PROBE)).code === 0 || undefined;
    await this.patiently('answer of the machine', probe, LIMIT.boot);
  }

  /** Waits until user data has run to its end, well or badly. */
  async waitForCloudInit(): Promise<CloudInitResult> {
    await this.waitUntilUp();
    const probe = async (): Promise<string | undefined> => {
      const { code, stdout } = await this.tryExec('cat /run/cloud-init/result.json', { timeoutSeconds: 15 });
      return code === 0 ? stdout : undefined;
    };
    const result = JSON.parse(await this.patiently('end of cloud-init', probe, LIMIT.cloudInit)) as {
      v1: { errors: string[] };
    };
    const status = JSON.parse(await this.exec('cat /run/cloud-init/status.json')) as {
      v1: { [stage: string]: { recoverable_errors?: Record<string, string[]> } | string | null };
    };
    const warnings: Record<string, string[]> = {};
    for (const stage of Object.values(status.v1)) {
      if (stage === null || typeof stage === 'string') continue;
      for (const [level, said] of Object.entries(stage.recoverable_errors ?? {}))
        warnings[level] = [...(warnings[level] ?? []), ...said];
    }
    return { errors: result.v1.errors, warnings };
  }

  protected async bootId(): Promise<string | undefined> {
    const { code, stdout } = await this.tryExec('cat /proc/sys/kernel/random/boot_id', PROBE);
    return code === 0 ? stdout : undefined;
  }

  /** The end of the console and of cloud-init's log: what a failure has to show. */
  async lastWords(): Promise<string> {
    const tail = (text: string): string => text.trimEnd().split('\n').slice(-40).join('\n  ');
    const log = await this.tryExec('tail -n 60 /var/log/cloud-init-output.log', { timeoutSeconds: 15 });
    return `console:\n  ${tail(this.console())}\ncloud-init-output.log:\n  ${tail(log.stdout || log.stderr)}`;
  }

  protected async patiently<T>(what: string, probe: () => Promise<T | undefined>, seconds: number): Promise<T> {
    const checked = async (): Promise<T | undefined> => {
      this.mustRun();
      return probe();
    };
    const detail = (): string => `(console: ${lastLine(this.console())})`;
    try {
      return await waitFor(what, checked, { timeoutMs: seconds * 1000, progress: this.progress, detail });
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${await this.lastWords()}`, { cause: error });
    }
  }
}

function lastLine(console: string): string {
  // eslint-disable-next-line no-control-regex -- terminal sequences
  const plain = console.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '').replace(/[^\x20-\x7e\n]/g, '');
  return (plain.trimEnd().split('\n').pop() ?? '').trim().slice(0, 90);
}
