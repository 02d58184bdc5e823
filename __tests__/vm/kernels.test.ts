// SPDX-License-Identifier: Apache-2.0
// What cannot be seen on one machine: that the object loads, works and attaches on every kernel that Debian offers, old
// and new. The fixtures are the very ones that the running kernel has to pass.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { KernelVm, PROGRAMS } from '../../lab/vm/kernel-vm';
import { Progress } from '../../lab/support/host';
import { ensureKernel, TESTED_SUITES } from '../../lab/vm/kernels';
import { itAgreesWithTheModel } from '../bpf/differential';
import { itTreatsEveryFixture } from '../bpf/fixtures';
import {
  BPF_FOLDER,
  BPF_OBJECT,
  buildProgram,
  type Config,
  DEFAULT_CONFIG,
  LOADER,
  PROG_RUN,
  Program,
  type Stats,
} from '../bpf/program';

const PACKETS = process.env.TEST_ALL ? 20_000 : 5_000;
const MINUTE = 60_000;
const PINS = '/sys/fs/bpf/mirror_gateway';
const OBJECT = `${PROGRAMS}/${basename(BPF_OBJECT)}`;

interface Status extends Stats {
  readonly attached: boolean;
  readonly interface: string;
  readonly xdp_mode: string;
  readonly config: Config;
}

/** Linux has this helper since 5.18: the suite must see where an object does not load. */
const TOO_NEW = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int too_new(struct xdp_md *context) { return bpf_xdp_get_buff_len(context) ? XDP_PASS : XDP_DROP; }
char LICENSE[] SEC("license") = "GPL";
`;
/** Reads past the end of a short packet, which no kernel accepts. */
const UNSAFE = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int unsafe(struct xdp_md *context) { return *(char *)(long)context->data; }
char LICENSE[] SEC("license") = "GPL";
`;

let folder: string;
beforeAll(() => {
  buildProgram();
  folder = mkdtempSync(join(tmpdir(), 'kernels-'));
  for (const [name, source] of Object.entries({ too_new: TOO_NEW, unsafe: UNSAFE })) {
    writeFileSync(join(folder, `${name}.c`), source);
    const flags = ['-target', 'bpf', '-mcpu=v3', '-O2', '-g', '-idirafter', '/usr/include/x86_64-linux-gnu', '-I'];
    execFileSync('clang', [...flags, BPF_FOLDER, '-c', join(folder, `${name}.c`), '-o', join(folder, `${name}.o`)]);
  }
});

const summary: string[] = [];
afterAll(() => {
  rmSync(folder, { recursive: true });
  process.stderr.write(summary.map((line) => `kernels: ${line}\n`).join(''));
});

describe.each(TESTED_SUITES)('the kernel of Debian %s', (suite) => {
  const progress = new Progress(suite);
  let machine: KernelVm | undefined;
  let release = 'did not boot';
  let version: string;
  let began: number;
  let bootedAt: number;

  const guest = (): KernelVm => {
    if (machine) return machine;
    throw new Error('the machine is not up: its beforeAll failed');
  };

  beforeAll(async () => {
    const kernel = await ensureKernel(suite, progress);
    version = kernel.version;
    began = Date.now();
    const files = [PROG_RUN, LOADER, BPF_OBJECT, join(folder, 'too_new.o'), join(folder, 'unsafe.o')];
    machine = await KernelVm.boot(kernel, files, progress);
    bootedAt = Date.now();
    release = (await machine.exec('uname -r')).trim();
    progress.say(`Linux ${release} is up, ${((bootedAt - began) / 1000).toFixed(1)} s after power-on`);
  }, 15 * MINUTE);

  afterAll(async () => {
    await machine?.powerOff();
    const seconds = (from: number, to: number): string => `${((to - from) / 1000).toFixed(1)} s`;
    if (bootedAt) summary.push(`${release}: boot ${seconds(began, bootedAt)}, tests ${seconds(bootedAt, Date.now())}`);
    else summary.push(`${suite}: ${release}`);
  }, MINUTE);

  test('is the one that runs', async () => {
    expect(await guest().exec('uname -v')).toContain(`Debian ${version} `);
  });

  test('loads the object', async () => {
    // Without a request prog_run ends once it has loaded; what it says is the verifier's log.
    expect(await guest().tryExec(`prog_run ${OBJECT}`)).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  describe('the program', () => {
    let started: Program | undefined;
    beforeAll(async () => {
      started = new Program(await guest().start(`prog_run ${OBJECT}`));
    });
    afterAll(() => started?.close());
    const program = (): Program => {
      if (started) return started;
      throw new Error('the program is not running: its beforeAll failed');
    };

    itTreatsEveryFixture(program);
    itAgreesWithTheModel(program, PACKETS);
  });

  describe.each(['generic', 'driver'])('the loader, in %s mode', (mode) => {
    const attach = `udp_df_modifier_loader attach --interface port --mode ${mode}`;
    const status = async (): Promise<Status> =>
      JSON.parse(await guest().exec('udp_df_modifier_loader status')) as Status;
    /** The program's id, as `ip` shows it in either mode. */
    const hooked = async (): Promise<string | undefined> =>
      /prog\/xdp id (\d+)/.exec(await guest().exec('ip link show dev port'))?.[1];
    const pins = async (): Promise<string> => guest().exec(`ls ${PINS} 2>/dev/null || true`);
    /** Datagrams that arrive at the port with DF, as a socket sets it. */
    const send = (times: number): Promise<string> => {
      const payload = '0'.repeat(1472);
      return guest().exec(`for i in $(seq ${times}); do printf %s ${payload} >/dev/udp/10.9.0.2/31765; done`);
    };

    beforeAll(async () => {
      await guest().exec(`
        echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
        ip link add source type veth peer name port address 02:00:00:00:00:02
        ip link set port up
        ip link set source up
        ip address add 10.9.0.1/24 dev source
        ip neighbour add 10.9.0.2 lladdr 02:00:00:00:00:02 dev source nud permanent
      `);
    });
    afterAll(() => guest().exec('ip link delete source'));

    test('finds in its preflight what it needs', async () => {
      const found = await guest().exec(`udp_df_modifier_loader preflight --interface port --mode ${mode}`);
      expect(found.split('\n').filter((line) => line !== '' && !line.startsWith('ok   '))).toEqual([]);
    });

    test('hooks the program to a port', async () => {
      await guest().exec(attach);
      expect(await status()).toMatchObject({
        attached: true,
        interface: 'port',
        xdp_mode: mode,
        packets_seen: 0,
        config: DEFAULT_CONFIG,
      });
      expect((await pins()).split('\n')).toContain('link');
    });

    test('which then treats what arrives', async () => {
      await send(3);
      expect(await status()).toMatchObject({ packets_seen: 3, packets_matched: 3, packets_modified: 3 });
    });

    test('updates the program in place', async () => {
      const [before, link] = [await hooked(), await guest().exec(`stat -c %i ${PINS}/link`)];
      await guest().exec(attach);
      expect(await hooked()).toMatch(/^\d+$/);
      expect(await hooked()).not.toBe(before);
      expect(await guest().exec(`stat -c %i ${PINS}/link`)).toBe(link);
      await send(1);
      expect(await status()).toMatchObject({ attached: true, packets_seen: 4, packets_modified: 4 });
    });

    test('changes settings under way', async () => {
      await guest().exec('udp_df_modifier_loader config --traffic-percent 0');
      await send(1);
      expect(await status()).toMatchObject({ packets_modified: 4, packets_left_to_netfilter: 1 });
    });

    test('leaves nothing when it detaches', async () => {
      await guest().exec('udp_df_modifier_loader detach');
      expect(await status()).toMatchObject({ attached: false, xdp_mode: 'none' });
      expect(await hooked()).toBeUndefined();
      expect(await pins()).toBe('');
    });
  });

  describe('what does not load', () => {
    test('is refused in the words of the verifier', async () => {
      const { code, stderr } = await guest().tryExec(`prog_run ${PROGRAMS}/unsafe.o`);
      expect(code).toBe(1);
      expect(stderr).toContain('invalid access to packet');
      expect(stderr).toMatch(/prog_run: cannot load '.*unsafe.o': Permission denied\n$/);
    });

    test('nor does a helper of Linux 5.18 before it', async () => {
      const [major = 0, minor = 0] = release.split('.').map(Number);
      const { stderr } = await guest().tryExec(`prog_run ${PROGRAMS}/too_new.o`);
      // An object that loads is refused only then, for want of our maps.
      const known = major > 5 || (major === 5 && minor >= 18);
      expect(stderr).toMatch(known ? /^prog_run: '.*' lacks its program, or the map/ : /invalid func unknown#\d+/);
    });
  });
});
