// SPDX-License-Identifier: Apache-2.0
// The services' confinement, as systemd-analyze scores it: 0 is closed, 10 is open.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { REPOSITORY } from '../../lab/host';

const MOST = 3.5;
const UNITS = path.join(REPOSITORY, 'userdata');
const services = fs.readdirSync(UNITS).filter((name) => name.endsWith('.service'));
const canAnalyze = spawnSync('systemd-analyze', ['security', '--offline=yes', '--help']).status === 0;
const testAnalyzed = canAnalyze ? test : test.skip;

let root: string;
beforeAll(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'units-'));
  const folder = path.join(root, 'etc/systemd/system');
  for (const service of services) {
    fs.mkdirSync(path.join(folder, `${service}.d`), { recursive: true });
    fs.copyFileSync(path.join(UNITS, service), path.join(folder, service));
    fs.copyFileSync(path.join(UNITS, 'hardening.conf'), path.join(folder, `${service}.d/hardening.conf`));
  }
});
afterAll(() => fs.rmSync(root, { recursive: true }));

testAnalyzed.each(services)(`%s scores at most ${MOST} (SKIPPED without systemd-analyze)`, (service) => {
  const unit = service.replace('@.', '@1.');
  const flags = ['security', '--offline=yes', `--root=${root}`, '--no-pager', `--threshold=${MOST * 10}`, unit];
  const { status, stdout } = spawnSync('systemd-analyze', flags, { encoding: 'utf8' });
  expect({ status, overall: stdout.trim().split('\n').at(-1) }).toMatchObject({ status: 0 });
});

// Only with it the kernel lets its run-time statistics be switched on (bpf_enable_stats).
const MEASURES = 'xdp-latency.service';

test('every service states the capabilities it needs, none needs them all, and one the widest, for a second', () => {
  for (const service of services) {
    const text = fs.readFileSync(path.join(UNITS, service), 'utf8');
    const [, capabilities] = /^CapabilityBoundingSet=(.+)$/m.exec(text) ?? [];
    expect({ service, capabilities: capabilities?.split(' ').length ?? 0 }).not.toEqual({ service, capabilities: 0 });
    expect(capabilities).not.toMatch(service === MEASURES ? /~/ : /CAP_SYS_ADMIN|~/);
    if (service === MEASURES) expect(text).toMatch(/^Type=oneshot$[^]*^TimeoutStartSec=30$[^]*^PrivateNetwork=yes$/m);
  }
});
