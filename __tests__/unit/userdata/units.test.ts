// SPDX-License-Identifier: Apache-2.0
// The services' confinement, as systemd-analyze scores it: 0 is closed, 10 is open.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { REPOSITORY } from '../../../lab/support/host';

const MOST = 3.5;
const UNITS = path.join(REPOSITORY, 'userdata/units');
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
  const flags = ['security', '--offline=yes', `--root=${root}`, '--no-pager', `--threshold=${MOST * 10}`, service];
  const { status, stdout } = spawnSync('systemd-analyze', flags, { encoding: 'utf8' });
  expect({ status, overall: stdout.trim().split('\n').at(-1) }).toMatchObject({ status: 0 });
});

// Whoever reaches the machine's network reaches it.
const ENDPOINT = 'mirror-gateway-health';
// Only with it the kernel lets its run-time statistics be switched on (bpf_enable_stats).
const MEASURES = 'xdp-latency.service';

test('every service states the capabilities it needs, none needs them all, one the widest, for a second, and the one that strangers reach none', () => {
  for (const service of services) {
    const text = fs.readFileSync(path.join(UNITS, service), 'utf8');
    const [, capabilities] = /^CapabilityBoundingSet=(.*)$/m.exec(text) ?? [];
    expect({ service, needsNone: capabilities === '' }).toEqual({
      service,
      needsNone: service === `${ENDPOINT}.service`,
    });
    expect(capabilities).not.toMatch(service === MEASURES ? /~/ : /CAP_SYS_ADMIN|~/);
    if (service === MEASURES) expect(text).toMatch(/^Type=oneshot$[^]*^TimeoutStartSec=30$[^]*^PrivateNetwork=yes$/m);
  }
});

test('no flood makes systemd give up the health endpoint: one service for all connections, no limit on its starts', () => {
  const read = (name: string) => fs.readFileSync(path.join(UNITS, name), 'utf8');
  expect(read(`${ENDPOINT}.socket`)).toMatch(/^Accept=no$[^]*^TriggerLimitIntervalSec=0$/m);
  expect(read(`${ENDPOINT}.service`)).toMatch(/^StartLimitIntervalSec=0$[^]*^Restart=always$[^]*^MemoryMax=/m);
});

testAnalyzed('systemd finds no fault in the units (SKIPPED without systemd-analyze)', () => {
  const folder = path.join(root, 'etc/systemd/system');
  const others = fs.readdirSync(UNITS).filter((name) => /\.(socket|timer)$/.test(name));
  others.forEach((name) => fs.copyFileSync(path.join(UNITS, name), path.join(folder, name)));
  fs.mkdirSync(path.join(folder, `${ENDPOINT}.socket.d`));
  fs.writeFileSync(path.join(folder, `${ENDPOINT}.socket.d/port.conf`), '[Socket]\nListenStream=0.0.0.0:8079\n');
  const files = [...services, ...others].map((name) => path.join(folder, name));
  const { stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], { encoding: 'utf8' });
  const ours = stderr.split('\n').filter((line) => files.some((file) => line.includes(path.basename(file))));
  // Their programs are on gateways only.
  expect(ours.filter((line) => !line.includes('is not executable'))).toEqual([]);
});
