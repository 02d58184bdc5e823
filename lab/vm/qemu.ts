// SPDX-License-Identifier: Apache-2.0
// The machine under a VM: which accelerator really runs a kernel here, the command line, and the control socket (QMP).
// PCI slots give the guest its interface names: virtio-net in slot 4 is ens4, in slots 5 and 6 ens5 and ens6 as on EC2.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { cacheDirectory, run, type Progress } from '../support/host';
import type { Image } from './image';

export const QEMU = 'qemu-system-x86_64';

export interface Nic {
  readonly id: string;
  readonly slot: number;
  readonly mac: string;
  /** Name of the tap that qemu opens; it is moved to its namespace afterwards. */
  readonly tap: string;
  /** What virtio-net tells the guest, as a VPC's DHCP would. @default - nothing: the guest begins with Ethernet's 1500 */
  readonly mtu?: number;
}

export interface Machine {
  readonly image: Image;
  readonly overlay: string;
  readonly seed: string;
  readonly console: string;
  readonly control: string;
  readonly sshPort: number;
  readonly managementMac: string;
  readonly nics: readonly Nic[];
  readonly accelerator: readonly string[];
}

export function netdev({ id, tap }: Nic): Record<string, string> {
  return { type: 'tap', id: `net-${id}`, ifname: tap, script: 'no', downscript: 'no' };
}

export function device({ id, slot, mac, mtu }: Nic): Record<string, string | number> {
  const where = { id, netdev: `net-${id}`, addr: slot.toString(16), romfile: '' };
  return { driver: 'virtio-net-pci', mac, ...(mtu === undefined ? {} : { host_mtu: mtu }), ...where };
}

function option(fields: Record<string, string | number>): string {
  const { type, driver, ...rest } = fields;
  return [type ?? driver, ...Object.entries(rest).map(([key, value]) => `${key}=${value}`)].join(',');
}

/** The machine starts paused: its taps have to be in their namespaces before the first instruction runs. */
export function commandLine(machine: Machine): string[] {
  const { image, nics } = machine;
  const forward = `hostfwd=tcp:127.0.0.1:${machine.sshPort}-:22`;
  return [
    ...['-S', '-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'pc', ...machine.accelerator],
    ...['-smp', '2', '-m', '2G', '-rtc', 'base=utc', '-device', 'virtio-rng-pci'],
    ...['-kernel', image.kernel, '-initrd', image.initrd],
    ...['-append', 'root=/dev/vda rw console=ttyS0 mitigations=off quiet systemd.show_status=1'],
    ...['-drive', `file=${machine.overlay},if=none,id=root,format=qcow2,cache=unsafe,discard=unmap`],
    ...['-device', 'virtio-blk-pci,drive=root,addr=3'],
    ...['-drive', `file=${machine.seed},if=none,id=seed,format=raw,readonly=on`],
    ...['-device', 'virtio-blk-pci,drive=seed,addr=8'],
    ...['-netdev', `user,id=management,ipv6=off,${forward}`],
    ...['-device', `virtio-net-pci,netdev=management,mac=${machine.managementMac},addr=4,romfile=`],
    ...nics.flatMap((nic) => ['-netdev', option(netdev(nic)), '-device', option(device(nic))]),
    ...['-serial', `file:${machine.console}`, '-qmp', `unix:${machine.control},server=on,wait=off`],
  ];
}

// --- accelerator ----------------------------------------------------------------------------------------------------

const EMULATION = ['-accel', 'tcg,thread=multi', '-cpu', 'max'];
const VIRTUALISATION = ['-accel', 'kvm', '-cpu', 'host'];
/** Good until the next boot of this machine, as is whatever made the answer true. */
const remembered = (): string =>
  join(cacheDirectory(), `accelerator-${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}`);

/** A /dev/kvm that opens may still not carry a kernel (nested, filtered). Only one that ran to its panic counts. */
async function kvmWorks(image: Pick<Image, 'kernel'>): Promise<boolean> {
  if (!existsSync('/dev/kvm')) return false;
  const boot = ['-kernel', image.kernel, '-append', 'console=ttyS0 panic=-1 root=/dev/none', '-serial', 'stdio'];
  const bare = ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-m', '512', '-smp', '2'];
  const { stdout } = await run(QEMU, [...VIRTUALISATION, ...bare, ...boot], { timeoutMs: 8_000 });
  return stdout.includes('Unable to mount root fs') && !stdout.includes('Oops');
}

export async function accelerator(image: Pick<Image, 'kernel'>, progress: Progress): Promise<readonly string[]> {
  const file = remembered();
  if (!existsSync(file)) writeFileSync(file, (await kvmWorks(image)) ? 'kvm' : 'tcg');
  const kvm = readFileSync(file, 'utf8') === 'kvm';
  progress.say(
    kvm ? 'KVM runs the machine' : 'KVM does not work here: emulation runs the machine, some ten times slower',
  );
  return kvm ? VIRTUALISATION : EMULATION;
}

// --- control --------------------------------------------------------------------------------------------------------

interface Reply {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** QEMU's control socket: one command at a time. */
export class Qmp {
  private waiting: ((reply: Reply) => void) | undefined;

  private constructor(private readonly socket: Socket) {
    socket.unref();
    socket.on('error', () => undefined); // the machine is gone; whoever waits for it finds out
    createInterface({ input: socket }).on('line', (line) => {
      const reply = JSON.parse(line) as Reply;
      if (!('return' in reply) && !('error' in reply)) return; // greeting or event
      this.waiting?.(reply);
      this.waiting = undefined;
    });
  }

  static async open(path: string): Promise<Qmp> {
    const socket = await new Promise<Socket>((done, refuse) => {
      const attempt = connect(path, () => done(attempt));
      attempt.once('error', refuse);
    });
    const qmp = new Qmp(socket);
    await qmp.execute('qmp_capabilities');
    return qmp;
  }

  execute(command: string, fields: Record<string, unknown> = {}): Promise<unknown> {
    return new Promise((done, refuse) => {
      const timer = setTimeout(() => refuse(new Error(`qemu: no answer to ${command} within 10 s`)), 10_000);
      this.waiting = ({ error, return: value }) => {
        clearTimeout(timer);
        if (error) refuse(new Error(`qemu: ${command}: ${error.desc}`));
        else done(value);
      };
      this.socket.write(`${JSON.stringify({ execute: command, arguments: fields })}\n`);
    });
  }

  close(): void {
    this.socket.destroy();
  }
}
