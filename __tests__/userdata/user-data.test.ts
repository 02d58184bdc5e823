// SPDX-License-Identifier: Apache-2.0
// The bytes EC2 hands to an instance: unpacked here by the programs an instance has, and compared with the repository.
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { parse } from 'yaml';
import { tarOf } from '../../constructs/bundle';
import { loadConfig } from '../../constructs/config';
import {
  buildUserData,
  bundleFiles,
  contributors,
  describeUserData,
  renderGatewayEnv,
  REPOSITORY,
  unpackUserData,
  USER_DATA_LIMIT,
  UserDataSizeError,
  type BundleFile,
  type CloudConfig,
} from '../../constructs/user-data';
import { REQUIRED } from '../constructs/wrong-values';

const xdp = loadConfig(REQUIRED, {});
const legacy = loadConfig({ ...REQUIRED, enable_xdp: 'false' }, {});
const files = bundleFiles();

const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

function has(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
}

/** Skipping is a result, with a reason in its name. */
const testWith = (program: string, name: string, body: () => void) =>
  has(program) ? test(name, body) : test.skip(`${name} (SKIPPED: ${program} is not installed)`, body);

/** A file of bytes that no compressor shrinks, the same in every run. */
function incompressible(name: string, size: number): BundleFile {
  let state = 1;
  const content = Buffer.from(Array.from({ length: size }, () => (state = (state * 48271) % 0x7fffffff) & 0xff));
  return { path: name, mode: 0o644, content };
}

let scratch: string;
beforeAll(() => {
  scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'mirror-gateway-user-data-'));
});
afterAll(() => fs.rmSync(scratch, { recursive: true }));

describe.each([
  ['XDP', xdp],
  ['netfilter', legacy],
])('the user data for %s', (engine, config) => {
  const userData = buildUserData(config);
  const text = gunzipSync(userData).toString('utf8');
  const cloudConfig = parse(text) as CloudConfig;
  const contentOf = (file: string) => cloudConfig.write_files.find((entry) => entry.path === file)?.content ?? '';

  test('fits into what EC2 takes', () => {
    expect(userData.length).toBeLessThanOrEqual(USER_DATA_LIMIT);
  });

  test('is the same when built again, with nothing of the time or the machine in its gzip header', () => {
    expect(buildUserData(config).equals(userData)).toBe(true);
    // Magic, deflate, no flags (so no file name), time 0, best compression, and "Unix" on every platform.
    expect(userData.subarray(0, 10).toString('hex')).toBe('1f8b0800000000000203');
  });

  testWith('gzip', 'is one intact gzip stream to gzip itself', () => {
    const { stdout, stderr, status } = spawnSync('gzip', ['-dcv'], { input: userData });
    expect(stderr.toString()).not.toContain('ignored');
    expect(status).toBe(0);
    expect(stdout.toString('utf8')).toBe(text);
  });

  test('opens with #cloud-config and is plain ASCII', () => {
    expect(text.split('\n')[0]).toBe('#cloud-config');
    expect(text).toMatch(/^[\n\x20-\x7e]*$/);
  });

  test('writes the settings where the gateway reads them', () => {
    expect(contentOf('/etc/mirror-gateway/gateway.env')).toBe(renderGatewayEnv(config));
  });

  test('ends by installing, and lets no earlier failure pass unseen', () => {
    const commands = cloudConfig.runcmd as string[];
    expect(commands[0]).toBe('set -eu');
    expect(commands.at(-1)).toBe('/opt/ebpf-xdp-processor/userdata/deploy_xdp.sh install');
  });

  testWith('cloud-init', 'is accepted by the schema of cloud-init', () => {
    const file = path.join(scratch, `${engine}.yaml`);
    fs.writeFileSync(file, text);
    const checked = spawnSync('cloud-init', ['schema', '--config-file', file], { encoding: 'utf8' });
    expect(checked.stdout + checked.stderr).toContain('Valid');
    expect(checked.status).toBe(0);
  });
});

describe('the instance', () => {
  const cloudConfig = unpackUserData(buildUserData(xdp)).cloudConfig;
  const bundle = cloudConfig.write_files.find((entry) => entry.path.includes('bundle'));
  const commands = cloudConfig.runcmd as string[];

  /** Runs the shipped commands in a folder that stands for /, as the shell script cloud-init makes of them. */
  function unpack(name: string, pathVariable: string): ReturnType<typeof spawnSync> & { root: string } {
    const root = path.join(scratch, name);
    const archive = path.join(root, bundle?.path ?? '');
    fs.mkdirSync(path.dirname(archive), { recursive: true });
    fs.writeFileSync(archive, Buffer.from(bundle?.content ?? '', 'base64'));
    const script = commands
      .slice(0, -1)
      .join('\n')
      .replaceAll('/opt/', `${root}/opt/`)
      .replaceAll('/var/', `${root}/var/`);
    return { ...spawnSync('/bin/sh', ['-c', script], { env: { PATH: pathVariable } }), root };
  }

  function expectBundle(home: string): void {
    const found = fs
      .readdirSync(home, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(home, path.join(entry.parentPath, entry.name)))
      .sort();
    expect(found).toEqual(files.map((file) => file.path));
    for (const { path: file, mode, content } of files) {
      expect(fs.readFileSync(path.join(home, file)).equals(content)).toBe(true);
      expect(fs.statSync(path.join(home, file)).mode & 0o777).toBe(mode);
    }
    expect(fs.statSync(path.join(home, 'userdata/deploy_xdp.sh')).mode & 0o777).toBe(0o755);
    expect(fs.statSync(path.join(home, 'userdata/packages.txt')).mode & 0o777).toBe(0o644);
  }

  testWith('python3', 'unpacks the bundle, with nothing but what cloud-init itself brings', () => {
    const bin = path.join(scratch, 'bin');
    fs.mkdirSync(bin);
    // Not the caller's python3, which may be a version manager's shell script.
    const python = execFileSync('sh', ['-c', 'command -v python3'], { encoding: 'utf8', env: { PATH: SYSTEM_PATH } });
    fs.symlinkSync(fs.realpathSync(python.trim()), path.join(bin, 'python3'));
    const { root, status } = unpack('installed', bin);
    expect(status).toBe(0);
    expectBundle(path.join(root, 'opt/ebpf-xdp-processor'));
  });

  testWith('xz', 'finds an archive that tar and xz agree on', () => {
    const home = path.join(scratch, 'with-xz');
    fs.mkdirSync(home);
    const archive = Buffer.from(bundle?.content ?? '', 'base64');
    expect(spawnSync('tar', ['-xJf', '-', '-C', home], { input: archive }).status).toBe(0);
    expectBundle(home);
  });

  testWith('python3', 'stops and fails when the bundle does not unpack', () => {
    const good = bundle?.content ?? '';
    if (bundle) bundle.content = 'AAAA';
    const { status } = unpack('broken', SYSTEM_PATH);
    if (bundle) bundle.content = good;
    expect(status).not.toBe(0);
  });
});

describe('the bundle', () => {
  test('holds sources, scripts and units, and nothing built, tested or templated', () => {
    const paths = files.map((file) => file.path);
    expect(paths).toEqual(
      expect.arrayContaining([
        'bpf/Makefile',
        'bpf/udp_df_modifier.bpf.c',
        'bpf/udp_df_modifier_loader.c',
        'netfilter/Makefile',
        'netfilter/modify_udp_df.cpp',
        'userdata/deploy_xdp.sh',
        'userdata/packages.txt',
        'userdata/xdp-processor.service',
      ]),
    );
    expect(paths.filter((file) => /\.o$|\/tests\/|cloud-config|_loader$|modify_udp_df$/.test(file))).toEqual([]);
    expect(paths).toEqual([...paths].sort());
  });

  test('is the same archive whatever the time, the order and the modes of a checkout', () => {
    const copy = path.join(scratch, 'checkout');
    for (const folder of ['userdata', 'netfilter', 'bpf']) {
      fs.cpSync(path.join(REPOSITORY, folder), path.join(copy, folder), { recursive: true });
    }
    fs.chmodSync(path.join(copy, 'userdata/deploy_xdp.sh'), 0o600);
    fs.utimesSync(path.join(copy, 'bpf/Makefile'), 1, 1);
    fs.writeFileSync(path.join(copy, 'userdata/deploy_xdp.sh~'), 'left by an editor');
    fs.writeFileSync(path.join(copy, 'bpf/udp_df_modifier.skel.h'), 'left by a build');
    expect(tarOf(bundleFiles(copy)).equals(tarOf(files))).toBe(true);
  });

  test('refuses to be built without the files an instance cannot do without, and names them', () => {
    const empty = path.join(scratch, 'empty');
    fs.mkdirSync(path.join(empty, 'userdata'), { recursive: true });
    fs.writeFileSync(path.join(empty, 'userdata/packages.txt'), 'clang\n');
    expect(() => bundleFiles(empty)).toThrow(
      'user data: the bundle lacks bpf/Makefile, bpf/udp_df_modifier.bpf.c, bpf/udp_df_modifier_loader.c, netfilter/Makefile, ' +
        'netfilter/modify_udp_df.cpp, userdata/deploy_xdp.sh; restore them from git',
    );
  });

  test('is the repository, line by line, but for comments and indentation by tabs', () => {
    for (const { path: file, content } of files) {
      const shipped = content.toString('utf8').split('\n');
      const indented = fs.readFileSync(path.join(REPOSITORY, file), 'utf8').split('\n');
      const isIndented = /\.(?:c|h|cpp|nft|sh)$/.test(file);
      const original = indented.map((line) => (isIndented ? line.replace(/^\t+/, '') : line));
      expect(shipped).toHaveLength(original.length);
      expect(original.filter((line, index) => !line.startsWith(shipped[index] ?? '?'))).toEqual([]);
      const left = original.map((line, index) => line.slice(shipped[index]?.length).trim()).filter(Boolean);
      expect(left.filter((rest) => !/^(?:#(?!!)|\/\/|\/\*|\*)/.test(rest) && !rest.endsWith('*/'))).toEqual([]);
    }
  });

  testWith('gcc', 'means the same to a compiler without those lines', () => {
    const tokens = (input: Buffer) => {
      const args = ['-fpreprocessed', '-dD', '-E', '-P', '-x', 'c++', '-'];
      return spawnSync('gcc', args, { input, encoding: 'utf8' }).stdout.replace(/\s+/g, ' ');
    };
    const sources = files.filter((file) => /\.(?:c|cpp|h)$/.test(file.path));
    expect(sources.length).toBeGreaterThan(3);
    for (const { path: file, content } of sources) {
      expect(tokens(content)).toBe(tokens(fs.readFileSync(path.join(REPOSITORY, file))));
      expect(tokens(content)).not.toBe('');
    }
  });

  const prettyPrint = spawnSync('bash', ['--pretty-print'], { input: 'true\n', encoding: 'utf8' });
  const testWithPrinter = prettyPrint.stdout?.trim() === 'true' ? test : test.skip;
  testWithPrinter('means the same to bash without those lines (needs bash 5.2 to print what it has parsed)', () => {
    // Tabs are left where a string goes on in a new line: programs for jq, to which they mean nothing.
    const parsed = (input: string | Buffer) =>
      spawnSync('bash', ['--pretty-print'], { input, encoding: 'utf8' }).stdout.replace(/^\t+/gm, '');
    for (const { path: file, content } of files.filter(({ path: name }) => name.endsWith('.sh'))) {
      expect(parsed(content).length).toBeGreaterThan(1000);
      expect(parsed(content)).toBe(parsed(fs.readFileSync(path.join(REPOSITORY, file))));
    }
  });

  test('comes back whole from the user data', () => {
    const { env, files: unpacked } = unpackUserData(buildUserData(xdp));
    expect(unpacked).toEqual(files);
    expect(env).toBe(renderGatewayEnv(xdp));
  });

  test('opens every text file with a licence line', () => {
    const unlicensed = files.filter(
      ({ path: file, content }) =>
        !file.endsWith('.txt') && !content.subarray(0, 200).includes('SPDX-License-Identifier: '),
    );
    expect(unlicensed.map((file) => file.path)).toEqual([]);
  });

  testWith('shellcheck', 'holds scripts that shellcheck has nothing to say about', () => {
    const scripts = files
      .filter(({ content }) => /^#!.*\b(?:ba)?sh\b/.test(content.toString('utf8')))
      .map((file) => file.path);
    expect(scripts).toContain('userdata/deploy_xdp.sh');
    const { stdout, status } = spawnSync('shellcheck', scripts, { cwd: REPOSITORY, encoding: 'utf8' });
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });
});

describe('the size guard', () => {
  test('says the size, the limit, how much is over, and who is to blame', () => {
    let message = '';
    try {
      buildUserData(xdp, [...files, incompressible('userdata/firmware.bin', 20_000)]);
    } catch (error) {
      message = (error as UserDataSizeError).message;
    }
    const [, size, over, blame] =
      /^user data: (\d+) bytes, (\d+) over the limit of 16384 \(before base64\); largest contributors in compressed bytes: (.*); shorten them \(make size lists all\)$/.exec(
        message,
      ) ?? [];
    expect(Number(size) - USER_DATA_LIMIT).toBe(Number(over));
    expect(blame?.split(', ')).toHaveLength(5);
    expect(blame).toMatch(/^userdata\/firmware\.bin \d+, (?:userdata|bpf|netfilter)\/\S+ \d+, /);
  });

  test('lets what fits pass, up to the limit, and nothing beyond', () => {
    const sizeWith = (count: number): number => {
      try {
        return buildUserData(xdp, [incompressible('userdata/blob', count)]).length;
      } catch (error) {
        if (error instanceof UserDataSizeError) return error.size;
        throw error;
      }
    };
    // Each byte in costs about one byte out, so a few steps end next to the limit, on both of its sides.
    let count = 12_000;
    for (let step = 0; step < 6; step++) count += USER_DATA_LIMIT - sizeWith(count);
    const sizes = [-8, -4, 0, 4, 8].map((more) => sizeWith(count + more));
    expect(Math.min(...sizes)).toBeLessThanOrEqual(USER_DATA_LIMIT);
    expect(Math.max(...sizes)).toBeGreaterThan(USER_DATA_LIMIT);
    const accepted = (more: number) => () => buildUserData(xdp, [incompressible('userdata/blob', count + more)]);
    [-8, -4, 0, 4, 8].forEach((more, index) => {
      if ((sizes[index] ?? 0) > USER_DATA_LIMIT) expect(accepted(more)).toThrow(UserDataSizeError);
      else expect(accepted(more)).not.toThrow();
    });
  });

  test('counts shares that add up to the whole', () => {
    const shares = contributors(xdp);
    expect(shares.reduce((sum, { share }) => sum + share, 0)).toBe(buildUserData(xdp).length);
    expect(shares.map(({ path: file }) => file)).toEqual(expect.arrayContaining(files.map((file) => file.path)));
    expect([...shares].sort((a, b) => b.share - a.share)).toEqual(shares);
  });
});

describe('gateway.env', () => {
  test('is this text, in this order', () => {
    expect(renderGatewayEnv(xdp)).toBe(
      [
        'ENABLE_XDP=true',
        'XDP_ENGINE=auto',
        'XDP_MODE=auto',
        'XDP_TRAFFIC_PERCENT=100',
        'AWS_IPSEC_VM_IP=192.0.2.95',
        'AWS_IPSEC_VM_PORT=8081',
        'TARGET_PORT=31765',
        'MIN_PACKET_SIZE=1400',
        'MAX_PACKET_SIZE=9000',
        'VNI=1',
        'EGRESS_MTU=1400',
        'EGRESS_CIDRS=',
        'HEALTH_PORT=8079',
        '',
      ].join('\n'),
    );
  });

  test('joins prefixes with commas', () => {
    const config = loadConfig({ ...REQUIRED, egress_cidrs: ['10.1.0.0/16', '10.2.0.0/16'] }, {});
    expect(renderGatewayEnv(config)).toContain('EGRESS_CIDRS=10.1.0.0/16,10.2.0.0/16\n');
  });

  test.each(['1\nENABLE_XDP=false', '$(reboot)', '`id`', 'a b', '"', "'", '\\', '#', ';'])(
    'cannot be made to carry %j, even past the validation',
    (value) => {
      expect(() => renderGatewayEnv({ ...xdp, aws_ipsec_vm_ip: value })).toThrow(
        `gateway.env: aws_ipsec_vm_ip = ${JSON.stringify(value)} may hold only letters, digits and .,/`,
      );
    },
  );

  testWith('bash', 'means the same to a shell that sources it', () => {
    const file = path.join(scratch, 'gateway.env');
    fs.writeFileSync(file, renderGatewayEnv(xdp));
    const script = 'set -eu; . "$1"; printf %s "$ENABLE_XDP $TARGET_PORT [$EGRESS_CIDRS]"';
    expect(execFileSync('bash', ['-c', script, 'bash', file], { encoding: 'utf8' })).toBe('true 31765 []');
  });
});

describe('the description', () => {
  test('changes with the settings and with the bundle', () => {
    const first = describeUserData(xdp);
    expect(describeUserData({ ...xdp, vni: 2 })).not.toBe(first);
    expect(describeUserData(xdp, [...files, incompressible('userdata/more', 1)])).not.toBe(first);
    expect(describeUserData(xdp)).toBe(first);
  });
});
