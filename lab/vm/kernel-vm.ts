// SPDX-License-Identifier: Apache-2.0
// A kernel and nothing else: a machine of a few seconds whose whole distribution is an initramfs with a shell and the
// programs under test, and whose only way out are three ports to this process. No disk, no network, no name that another
// machine could have. It ends with this process, however that ends: its ports close, and the kernel kills it.
import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { must, type Progress, run, type RunResult, waitFor } from '../support/host';
import { type Kernel, workFolder } from './kernels';
import { accelerator, QEMU } from './qemu';

/** Where the machine has its programs and whatever else it is given. */
export const PROGRAMS = '/programs';
/** Bash opens UDP sockets, which busybox does not. */
const TOOLS = ['bash', 'ip'];
const BUSYBOX = '/bin/busybox';
const LIMIT = { boot: 120_000, command: 60_000 } as const;

/** Its first process. Each port is a character device that opens once; the first carries commands, until we are gone. */
const INIT = `#!${BUSYBOX} sh
${BUSYBOX} --install -s /bin
export PATH=${PROGRAMS}:/bin
mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
for module in $(ls /modules | sort -n); do insmod "/modules/$module"; done
ip link set lo up
until [ -c /dev/vport0p3 ]; do usleep 20000; done
sh <>/dev/vport0p1 >&0
poweroff -f
`;

/** A program that runs in the machine, its standard streams on ports. */
export interface Started {
  readonly stdin: Duplex;
  readonly stdout: Duplex;
  /** The last lines that it has written to stderr, and in the end its exit code. */
  readonly log: () => string;
  readonly ended: Promise<void>;
}

type Answer = (line: string) => void;

export class KernelVm {
  private readonly waiting: Answer[] = [];
  private started = false;

  private constructor(
    private readonly qemu: ChildProcess,
    private readonly consoleText: () => string,
    private readonly progress: Progress,
  ) {
    for (const port of [0, 1, 2]) this.port(port).on('error', () => undefined); // the machine is gone; whoever waits sees
    this.onLine(0, (line) => this.waiting.shift()?.(line));
  }

  /** Boots a kernel with files of this machine, and the libraries they need, in `PROGRAMS`. */
  static async boot(kernel: Kernel, files: readonly string[], progress: Progress): Promise<KernelVm> {
    const work = await workFolder();
    try {
      const initramfs = await makeInitramfs(kernel, files, work);
      const accelerated = await accelerator(kernel, progress);
      const machine = KernelVm.start(commandLine(kernel, initramfs, accelerated), progress);
      try {
        await machine.exec('true', LIMIT.boot);
      } catch (error) {
        await machine.powerOff();
        throw error;
      }
      return machine;
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  private static start(args: readonly string[], progress: Progress): KernelVm {
    const stdio = ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'] as const;
    const qemu = spawn('setpriv', ['--pdeathsig', 'SIGKILL', '--', QEMU, ...args], { stdio: [...stdio] });
    let text = '';
    for (const stream of [qemu.stdout, qemu.stderr]) stream?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    qemu.on('error', (error) => (text += `${error.message}\n`));
    return new KernelVm(qemu, () => text, progress);
  }

  /** Runs a bash script, which ends at its first error; a non-zero exit is an answer, not an exception. */
  async tryExec(script: string, timeoutMs: number = LIMIT.command): Promise<RunResult> {
    let answer: string | undefined;
    this.waiting.push((line) => (answer = line));
    const encoded = Buffer.from(script).toString('base64');
    const limited = `timeout -s KILL ${Math.ceil(timeoutMs / 1000)} bash -eu /tmp/script`;
    // One line there and one back, whatever the script holds or prints.
    this.port(0).write(
      `echo ${encoded} | base64 -d >/tmp/script; ${limited} </dev/null >/tmp/out 2>/tmp/err; ` +
        'echo "$?|$(base64 /tmp/out | tr -d "\\n")|$(base64 /tmp/err | tr -d "\\n")"\n',
    );
    const probe = (): string | undefined => {
      this.assertAlive();
      return answer;
    };
    const options = { timeoutMs: timeoutMs + 5_000, everyMs: 10, progress: this.progress };
    const line = await waitFor('answer from the machine', probe, options).catch((error: Error) => {
      throw new Error(`${error.message}; its console ends with\n${this.lastWords()}`);
    });
    const [code, stdout = '', stderr = ''] = line.split('|');
    const decode = (text: string): string => Buffer.from(text, 'base64').toString();
    return { code: Number(code), stdout: decode(stdout), stderr: decode(stderr) };
  }

  /** Like `tryExec`, for scripts whose failure ends the work. */
  async exec(script: string, timeoutMs?: number): Promise<string> {
    const { code, stdout, stderr } = await this.tryExec(script, timeoutMs);
    if (code === 0) return stdout;
    throw new Error(`on the machine: ${script}: exit code ${code}\n${stderr || stdout}`);
  }

  /** Runs a command beside all others, with this process on its standard streams. There are ports for one. */
  async start(command: string): Promise<Started> {
    if (this.started) throw new Error(`no port is left for ${command}`);
    this.started = true;
    const said: string[] = [];
    const ended = new Promise<void>((done) => {
      this.onLine(2, (line) => {
        said.push(line);
        if (line.startsWith('ended with exit code ')) done();
      });
      this.qemu.once('exit', () => done());
    });
    const whole = `code=0; ${command} <>/dev/vport0p2 >&0 || code=$?; echo "ended with exit code $code" >&2`;
    await this.exec(`{ ${whole}; } >/dev/null 2>/dev/vport0p3 &`);
    return { stdin: this.port(1), stdout: this.port(1), log: () => said.slice(-3).join('\n'), ended };
  }

  async powerOff(): Promise<void> {
    const { qemu } = this;
    const running = qemu.exitCode === null && qemu.signalCode === null && qemu.pid !== undefined;
    const gone = running ? new Promise((done) => qemu.once('exit', done)) : undefined;
    qemu.kill('SIGKILL');
    await gone;
  }

  /** The end of its console. */
  lastWords(): string {
    return this.consoleText().trimEnd().split(/\r?\n/).slice(-30).join('\n');
  }

  private port(index: number): Socket {
    return this.qemu.stdio[3 + index] as Socket;
  }

  private onLine(port: number, take: (line: string) => void): void {
    // The interface repeats its input's errors.
    createInterface({ input: this.port(port) })
      .on('line', take)
      .on('error', () => undefined);
  }

  private assertAlive(): void {
    const { exitCode, signalCode, pid } = this.qemu;
    if (exitCode === null && signalCode === null && pid !== undefined) return;
    throw new Error('the machine has ended');
  }
}

function commandLine({ kernel }: Kernel, initramfs: string, accelerated: readonly string[]): string[] {
  const port = (index: number): string[] => [
    ...['-chardev', `socket,id=port${index},fd=${3 + index}`],
    ...['-device', `virtserialport,chardev=port${index},nr=${index + 1}`],
  ];
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-machine', 'pc', ...accelerated],
    // One runs a single program three times as fast as two do; room for a second, so that counters are summed over CPUs.
    ...['-smp', '1,maxcpus=2', '-m', '512', '-kernel', kernel, '-initrd', initramfs],
    ...['-append', 'console=ttyS0 rdinit=/init panic=-1 mitigations=off quiet', '-serial', 'stdio'],
    ...['-device', 'virtio-serial-pci', ...port(0), ...port(1), ...port(2)],
  ];
}

// --- initramfs ------------------------------------------------------------------------------------------------------

async function makeInitramfs(kernel: Kernel, files: readonly string[], work: string): Promise<string> {
  const root = join(work, 'root');
  for (const folder of ['bin', 'dev', 'modules', 'proc', 'programs', 'sys', 'tmp'])
    await mkdir(join(root, folder), { recursive: true });
  await writeFile(join(root, 'init'), INIT);
  await chmod(join(root, 'init'), 0o755);
  await copyFile(BUSYBOX, join(root, BUSYBOX)).catch((error: Error) => {
    throw new Error(`${error.message}; install busybox-static: make setup`);
  });
  for (const [order, module] of kernel.modules.entries())
    await copyFile(module, join(root, 'modules', `${order}-${basename(module)}`));

  const tools = await Promise.all(TOOLS.map(async (name) => (await must('which', [name])).trim()));
  const programs = [...tools, ...files];
  for (const file of programs) await copyFile(file, join(root, PROGRAMS, basename(file)));
  for (const library of await libraries(programs)) {
    await mkdir(join(root, dirname(library)), { recursive: true });
    await copyFile(library, join(root, library)); // follows links, and so keeps the name that the loader looks for
  }

  const initramfs = join(work, 'initramfs');
  await must('sh', ['-c', `find . | cpio --quiet --create --format=newc --owner=0:0 >"$0"`, initramfs], { cwd: root });
  return initramfs;
}

/** What the dynamic linker would load, by absolute path. */
async function libraries(programs: readonly string[]): Promise<Set<string>> {
  const found = new Set<string>();
  for (const program of programs) {
    const { stdout } = await run('ldd', [program]);
    for (const [, library = ''] of stdout.matchAll(/^\s+(?:\S+ => )?(\/\S+) \(0x/gm)) found.add(library);
  }
  return found;
}
