// SPDX-License-Identifier: Apache-2.0
// The bytes EC2 hands to an instance, and the bundle that they name: unpacked here by the programs an instance has, and
// compared with the repository.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { parse } from 'yaml';
import { version } from '../../../package.json';
import { settings } from '../../../userdata/settings.json';
import { buildBundle, FETCH_SCRIPT, unpackBundle } from '../../../constructs/user-data/bundle';
import { loadConfig } from '../../../constructs/config/load';
import {
  buildUserData,
  bundleFiles,
  contributors,
  describeUserData,
  renderGatewayEnv,
  REPOSITORY,
  USER_DATA_LIMIT,
  UserDataSizeError,
  type BundleFile,
  type BundleLocation,
  type CloudConfig,
} from '../../../constructs/user-data/user-data';
import { REQUIRED } from '../constructs/wrong-values';

const xdp = loadConfig(REQUIRED, {});
const legacy = loadConfig({ ...REQUIRED, enable_xdp: 'false' }, {});
const files = bundleFiles();
const bundle = buildBundle(files);
const location: BundleLocation = {
  bucketUrl: 'https://some-bucket.s3.eu-central-1.amazonaws.com',
  region: 'eu-central-1',
  key: 'bundle.tar.gz',
  sha256: bundle.sha256,
};

function has(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
}

/** Skipping is a result, with a reason in its name. */
const testWith = (program: string, name: string, body: () => void) =>
  has(program) ? test(name, body) : test.skip(`${name} (SKIPPED: ${program} is not installed)`, body);

/** Text that no compressor shrinks below six bits a character, the same in every run. */
function incompressible(size: number): string {
  let state = 1;
  const bytes = Buffer.from(Array.from({ length: size }, () => (state = (state * 48271) % 0x7fffffff) & 0xff));
  return bytes.toString('base64').slice(0, size);
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
  const userData = buildUserData(config, location);
  const text = gunzipSync(userData).toString('utf8');
  const cloudConfig = parse(text) as CloudConfig;
  const contentOf = (file: string) => cloudConfig.write_files.find((entry) => entry.path === file)?.content ?? '';

  test('fits into what EC2 takes', () => {
    expect(userData.length).toBeLessThanOrEqual(USER_DATA_LIMIT);
  });

  test('is the same when built again, with nothing of the time or the machine in its gzip header', () => {
    expect(buildUserData(config, location).equals(userData)).toBe(true);
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

  test('names the bundle and where everything about it is, in the form of the settings', () => {
    expect(contentOf('/etc/mirror-gateway/bundle.env')).toBe(
      [
        'BUCKET_URL=https://some-bucket.s3.eu-central-1.amazonaws.com',
        'REGION=eu-central-1',
        'KEY=bundle.tar.gz',
        `SHA256=${bundle.sha256}`,
        'IMDS_URL=http://169.254.169.254/latest',
        'DIRECTORY=/opt/ebpf-xdp-processor',
        'PATIENCE_SECONDS=300',
        '',
      ].join('\n'),
    );
  });

  test('fetches, then installs, and lets no earlier failure pass unseen', () => {
    expect(cloudConfig.runcmd).toEqual([
      'set -eu',
      '/usr/local/sbin/fetch_bundle.sh',
      '/opt/ebpf-xdp-processor/userdata/deploy_xdp.sh install',
    ]);
    const script = cloudConfig.write_files.find(({ path: file }) => file === '/usr/local/sbin/fetch_bundle.sh');
    expect(script).toMatchObject({
      permissions: '0755',
      content: fs.readFileSync(path.join(REPOSITORY, FETCH_SCRIPT), 'utf8'),
    });
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
  testWith('tar', 'unpacks the bundle with what every image has', () => {
    const home = path.join(scratch, 'installed');
    fs.mkdirSync(home);
    expect(spawnSync('tar', ['-xzf', '-', '-C', home], { input: bundle.archive }).status).toBe(0);
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
  });

  testWith(
    'cc',
    'builds its health endpoint before and without anything else: no BPF program may keep it silent',
    () => {
      const folder = path.join(scratch, 'health');
      fs.mkdirSync(folder);
      files
        .filter((file) => file.path.startsWith('health/'))
        .forEach(({ path: file, content }) => fs.writeFileSync(path.join(scratch, file), content));
      const env = { ...process.env, CLANG: 'false' };
      expect(spawnSync('make', ['-s', '-C', folder], { env, encoding: 'utf8' })).toMatchObject({
        status: 0,
        stderr: '',
      });
      expect(spawnSync(path.join(folder, 'health_endpoint'), ['--help'], { encoding: 'utf8' })).toMatchObject({
        status: 0,
        stdout: 'usage: health_endpoint FILE\n',
      });
      expect(files.map(({ content }) => content.toString()).join('\n')).toContain(
        'for folder in health bpf netfilter; do',
      );
    },
  );
});

describe('a script of the bundle', () => {
  const scripts = files.filter((file) => file.path.startsWith('userdata/') && file.path.endsWith('.sh'));
  const textOf = (name: string) => scripts.find((file) => file.path === name)?.content.toString('utf8') ?? '';
  const PROGRAMS = ['userdata/deploy_xdp.sh', 'userdata/xdp-monitoring.sh'];

  test.each(PROGRAMS)('%s sources what is there, and nothing that it sources runs by itself', (program) => {
    const sourced = [...textOf(program).matchAll(/^source "\$USERDATA\/(.*)"$/gm)].map(
      ([, name]) => `userdata/${name}`,
    );
    expect(sourced).toContain('userdata/lib/common.sh');
    expect(files).toEqual(
      expect.arrayContaining(sourced.map((name) => expect.objectContaining({ path: name, mode: 0o644 }) as unknown)),
    );
  });

  test('is found by every name that it has on an instance', () => {
    const link = path.join(scratch, 'deploy_xdp.sh');
    fs.symlinkSync(path.join(REPOSITORY, 'userdata/deploy_xdp.sh'), link);
    const { stdout, stderr } = spawnSync(link, ['help'], { cwd: '/', encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^usage: deploy_xdp.sh VERB\n/);
  });

  test('opens with a question that it answers, has at most 500 lines and no function of more than 60', () => {
    for (const { path: name, content } of scripts) {
      const text = content.toString('utf8');
      expect({ name, asks: /^(?:#.*\n)+/.exec(text)?.[0].includes('?') }).toEqual({ name, asks: true });
      expect(text.split('\n').length).toBeLessThanOrEqual(500);
      const functions = text.matchAll(/^\w+\(\) [({](?: #.*)?\n([^]*?)^[)}]$/gm);
      for (const [whole] of functions) expect(whole.split('\n').length).toBeLessThanOrEqual(60);
    }
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
        'bpf/loader/options.c',
        'health/health_endpoint.c',
        'lib/journal.c',
        'bpf/xdp/match.h',
        'netfilter/Makefile',
        'netfilter/modify_udp_df.cpp',
        'userdata/deploy_xdp.sh',
        'userdata/packages.txt',
        'userdata/lib/common.sh',
        'userdata/jq/status.jq',
        'userdata/units/xdp-processor.service',
      ]),
    );
    expect(
      paths.filter((file) => /\.o$|\/tests\/|cloud-config|fetch_|_loader$|_endpoint$|modify_udp_df$/.test(file)),
    ).toEqual([]);
    expect(paths).toEqual([...paths].sort());
  });

  test('is the same archive whatever the time, the order and the modes of a checkout', () => {
    const copy = path.join(scratch, 'checkout');
    for (const folder of ['userdata', 'netfilter', 'lib', 'health', 'bpf']) {
      fs.cpSync(path.join(REPOSITORY, folder), path.join(copy, folder), { recursive: true });
    }
    fs.chmodSync(path.join(copy, 'userdata/deploy_xdp.sh'), 0o600);
    fs.utimesSync(path.join(copy, 'bpf/Makefile'), 1, 1);
    fs.writeFileSync(path.join(copy, 'userdata/deploy_xdp.sh~'), 'left by an editor');
    fs.writeFileSync(path.join(copy, 'bpf/udp_df_modifier.skel.h'), 'left by a build');
    expect(buildBundle(bundleFiles(copy)).archive.equals(bundle.archive)).toBe(true);
  });

  test('has nothing of the time or the machine in its gzip header, and the hash that sha256sum finds', () => {
    expect(bundle.archive.subarray(0, 10).toString('hex')).toBe('1f8b0800000000000203');
    expect(bundle.sha256).toBe(createHash('sha256').update(bundle.archive).digest('hex'));
  });

  test('refuses to be built without the files an instance cannot do without, and names them', () => {
    const empty = path.join(scratch, 'empty');
    fs.mkdirSync(path.join(empty, 'userdata'), { recursive: true });
    fs.writeFileSync(path.join(empty, 'userdata/packages.txt'), 'clang\n');
    expect(() => bundleFiles(empty)).toThrow(
      'user data: the bundle lacks bpf/Makefile, bpf/loader/options.c, bpf/udp_df_modifier.bpf.c, bpf/udp_df_modifier_loader.c, ' +
        'health/Makefile, health/health_endpoint.c, lib/journal.c, netfilter/Makefile, netfilter/modify_udp_df.cpp, ' +
        'userdata/deploy_xdp.sh, userdata/lib/common.sh, userdata/settings.json; restore them from git',
    );
  });

  test('is the repository, byte by byte', () => {
    for (const { path: file, content } of files) {
      expect(content.equals(fs.readFileSync(path.join(REPOSITORY, file)))).toBe(true);
    }
  });

  test('comes back whole from its archive', () => {
    expect(unpackBundle(bundle.archive)).toEqual(files);
  });

  test('opens every text file with a licence line', () => {
    const unlicensed = files.filter(
      ({ path: file, content }) =>
        // Lists and JSON have no place for a comment.
        !/\.(?:txt|json)$/.test(file) && !content.subarray(0, 200).includes('SPDX-License-Identifier: '),
    );
    expect(unlicensed.map((file) => file.path)).toEqual([]);
  });

  testWith('shellcheck', 'holds scripts that shellcheck has nothing to say about', () => {
    const scripts = files
      .map((file) => file.path)
      .filter((file) => file.endsWith('.sh'))
      .concat(FETCH_SCRIPT);
    expect(scripts).toContain('userdata/deploy_xdp.sh');
    const { stdout, status } = spawnSync('shellcheck', scripts, { cwd: REPOSITORY, encoding: 'utf8' });
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });
});

describe('the size guard', () => {
  const withKey = (key: string): BundleLocation => ({ ...location, key });

  test('says the size, the limit, how much is over, and who is to blame', () => {
    let message = '';
    try {
      buildUserData(xdp, withKey(incompressible(20_000)));
    } catch (error) {
      message = (error as UserDataSizeError).message;
    }
    const [, size, over, blame] =
      /^user data: (\d+) bytes, (\d+) over the limit of 16384 \(before base64\); largest contributors in compressed bytes: (.*); shorten them \(make user-data-size lists all\)$/.exec(
        message,
      ) ?? [];
    expect(Number(size) - USER_DATA_LIMIT).toBe(Number(over));
    expect(blame).toMatch(/^\/etc\/mirror-gateway\/bundle\.env \d+, \/usr\/local\/sbin\/fetch_bundle\.sh \d+, /);
  });

  test('lets what fits pass, up to the limit, and nothing beyond', () => {
    const sizeWith = (count: number): number => {
      try {
        return buildUserData(xdp, withKey(incompressible(count))).length;
      } catch (error) {
        if (error instanceof UserDataSizeError) return error.size;
        throw error;
      }
    };
    // A character in costs some six bits out, so a few steps end next to the limit, on both of its sides.
    let count = 16_000;
    for (let step = 0; step < 8; step++) count += USER_DATA_LIMIT - sizeWith(count);
    const sizes = [-8, -4, 0, 4, 8].map((more) => sizeWith(count + more));
    expect(Math.min(...sizes)).toBeLessThanOrEqual(USER_DATA_LIMIT);
    expect(Math.max(...sizes)).toBeGreaterThan(USER_DATA_LIMIT);
    const accepted = (more: number) => () => buildUserData(xdp, withKey(incompressible(count + more)));
    [-8, -4, 0, 4, 8].forEach((more, index) => {
      if ((sizes[index] ?? 0) > USER_DATA_LIMIT) expect(accepted(more)).toThrow(UserDataSizeError);
      else expect(accepted(more)).not.toThrow();
    });
  });

  test('counts shares that add up to the whole', () => {
    const shares = contributors(xdp, location);
    expect(shares.reduce((sum, { share }) => sum + share, 0)).toBe(buildUserData(xdp, location).length);
    expect(shares.map(({ path: file }) => file).sort()).toEqual([
      '/etc/mirror-gateway/bundle.env',
      '/etc/mirror-gateway/gateway.env',
      '/usr/local/sbin/fetch_bundle.sh',
      'userdata/cloud-config.yaml',
    ]);
    expect([...shares].sort((a, b) => b.share - a.share)).toEqual(shares);
  });
});

describe('gateway.env', () => {
  test('is this text, in this order, with every number of settings.json', () => {
    const numbers = Object.entries<{ min: number; default?: number }>(settings);
    const defaults = numbers.flatMap(([key, { default: value }]) =>
      value === undefined ? [] : [`${key.toUpperCase()}=${value}`],
    );
    expect(defaults).toContain('TARGET_PORT=31765');
    expect(renderGatewayEnv(xdp)).toBe(
      [
        'ENABLE_XDP=true',
        'XDP_ENGINE=auto',
        'XDP_MODE=auto',
        'AWS_IPSEC_VM_IP=192.0.2.95',
        'EGRESS_CIDRS=',
        'AWS_IPSEC_VM_PORT=8081',
        ...defaults,
        'LOG_GROUP=/aws/ec2/xdp-packet-processor',
        `GATEWAY_VERSION=${version}`,
        '',
      ].join('\n'),
    );
  });

  test('names the log group of its stack', () => {
    const config = loadConfig({ ...REQUIRED, environment: 'staging' }, {});
    expect(renderGatewayEnv(config)).toContain('LOG_GROUP=/aws/ec2/xdp-packet-processor/mirror-gateway-staging\n');
  });

  test('joins prefixes with commas', () => {
    const config = loadConfig({ ...REQUIRED, egress_cidrs: ['10.1.0.0/16', '10.2.0.0/16'] }, {});
    expect(renderGatewayEnv(config)).toContain('EGRESS_CIDRS=10.1.0.0/16,10.2.0.0/16\n');
  });

  test.each(['1\nENABLE_XDP=false', '$(reboot)', '`id`', 'a b', '"', "'", '\\', '#', ';'])(
    'cannot be made to carry %j, even past the validation',
    (value) => {
      expect(() => renderGatewayEnv({ ...xdp, aws_ipsec_vm_ip: value })).toThrow(
        `gateway.env: aws_ipsec_vm_ip = ${JSON.stringify(value)} may hold only letters, digits and .,/-`,
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
    const first = describeUserData(xdp, location);
    const more: BundleFile = { path: 'userdata/more', mode: 0o644, content: Buffer.from('x') };
    const other = { ...location, sha256: buildBundle([...files, more]).sha256 };
    expect(describeUserData({ ...xdp, vni: 2 }, location)).not.toBe(first);
    expect(describeUserData(xdp, other)).not.toBe(first);
    expect(describeUserData(xdp, location)).toBe(first);
    expect(first).toContain(`bundle ${bundle.sha256.slice(0, 12)}`);
  });
});
