// SPDX-License-Identifier: Apache-2.0
// Health as jq/health.jq evaluates it: each part of the network that can be missing, each engine, each way to have less than was
// asked for. In the lab the same is asked of a gateway, once for each kind.
import { spawnSync } from 'node:child_process';
import * as path from 'node:path';
import { REPOSITORY } from '../../../lab/support/host';
import { hasJq } from './samples';

const testJq = hasJq ? test : test.skip;

/** As `ip -j` and `nft -j` print them, as far as anybody looks. */
const link = (ifname: string, rest: object = {}) => ({ ifname, flags: ['UP', 'LOWER_UP'], master: 'br0', ...rest });
const chain = (...expr: object[]) => ({
  nftables: [
    { metainfo: { version: '1.0.6' } },
    { rule: { expr: [{ counter: 'some' }, { drop: null }] } },
    { rule: { expr } },
  ],
});
const STEERS = chain({ mangle: { key: { meta: { key: 'pkttype' } }, value: 'host' } });
const TRANSLATES = chain({ mangle: { key: { payload: { protocol: 'ip', field: 'daddr' } } } }, { notrack: null });

const ports = [link('ens6'), link('vxlan1')];
const br0 = link('br0', { master: undefined });
const WHOLE = {
  ...{ links: [link('lo', { master: undefined }), br0, ...ports], route: [{ dst: '10.88.0.95', dev: 'br0' }] },
  ...{ destination: '10.88.0.95', egress: 'ens6', ip_forward: 1, punts: false },
  ...{ chains: { datagram: STEERS, translate: TRANSLATES, punt: null }, queue_is_served: false },
  ...{ xdp: { engine: 'direct', xdp_mode: 'driver' }, refused: '', skipped: '' },
  ...{ enable_xdp: 'true', xdp_engine: 'auto', xdp_mode: 'auto', traffic_percent: '100' },
};
const DETACHED = { xdp: { engine: 'none', xdp_mode: 'none' } };
const BRIDGE = { xdp: { engine: 'bridge', xdp_mode: 'generic' } };

function health(state: object): unknown {
  const args = ['-c', '-L', path.join(REPOSITORY, 'userdata/jq'), 'include "health"; health'];
  const { stdout, stderr } = spawnSync('jq', args, { input: JSON.stringify({ ...WHOLE, ...state }), encoding: 'utf8' });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

testJq('a gateway that runs what was asked for is healthy', () => {
  expect(health({})).toEqual({ state: 'healthy', engine: 'direct', xdp_mode: 'driver', reason: '' });
  expect(health({ ...DETACHED, queue_is_served: true, enable_xdp: 'false' })).toMatchObject({
    ...{ state: 'healthy', engine: 'nfqueue', xdp_mode: 'none' },
  });
  expect(health({ traffic_percent: '50', queue_is_served: true })).toMatchObject({
    state: 'healthy',
    engine: 'direct',
  });
});

const INCOMPLETE = 'br0 or the netfilter rules are missing or incomplete';
const withChain = (chains: object) => ({ chains: { ...WHOLE.chains, ...chains } });
testJq.each([
  [INCOMPLETE, { links: ports }],
  [INCOMPLETE, { links: [{ ...br0, flags: ['LOWER_UP'] }, ...ports] }],
  [INCOMPLETE, withChain({ datagram: null })],
  [INCOMPLETE, withChain({ datagram: TRANSLATES })],
  [INCOMPLETE, withChain({ translate: chain() })],
  [INCOMPLETE, { punts: true }],
  ['ens6 is no active port of br0', { links: [br0, link('ens6', { master: undefined }), link('vxlan1')] }],
  ['ens6 is no active port of br0', { links: [br0, link('ens6', { flags: ['UP'] }), link('vxlan1')] }],
  ['the second network interface is no active port of br0', { egress: '' }],
  ['vxlan1 is no active port of br0', { links: [br0, link('ens6')] }],
  ['no route to 10.88.0.95 by br0', { route: [] }],
  ['no route to 10.88.0.95 by br0', { route: [{ dev: 'ens5' }] }],
  ['net.ipv4.ip_forward is off', { ip_forward: 0 }],
])('is broken: %s', (reason, state) => {
  expect(health(state)).toMatchObject({ state: 'broken', reason, engine: 'direct' });
});

testJq.each([
  ['standby', {}],
  ['nfqueue', { queue_is_served: true }],
  ['none', { links: [] }],
])('without a program %s carries the traffic', (engine, state) => {
  expect(health({ ...DETACHED, ...state })).toMatchObject({ engine });
});

testJq.each([
  ['direct carries the traffic, nfqueue was asked for', { enable_xdp: 'false' }],
  ['standby carries the traffic, XDP was asked for', DETACHED],
  [
    'the bridge engine carries the traffic, the direct engine in driver mode is refused: no memory: 5 MB',
    { ...BRIDGE, refused: 'direct driver no memory: 5 MB\ndirect generic another' },
  ],
  [
    'the bridge engine carries the traffic; the direct engine in driver mode cannot run: a;the direct engine in generic mode cannot run: b',
    {
      ...{ ...BRIDGE, xdp_engine: 'direct' },
      skipped: 'the direct engine in driver mode cannot run: a\nthe direct engine in generic mode cannot run: b',
    },
  ],
  [
    'the direct engine in generic mode carries the traffic; it cannot',
    { xdp: { engine: 'direct', xdp_mode: 'generic' }, xdp_mode: 'driver', skipped: 'it cannot' },
  ],
  ['modify_udp_df does not run: the standby carries what XDP leaves, 75 % of the flows', { traffic_percent: '25' }],
])('is degraded: %s', (reason, state) => {
  expect(health(state)).toMatchObject({ state: 'degraded', reason });
});

testJq('an engine that `auto` passes over is nothing less than was asked for', () => {
  expect(health({ ...BRIDGE, skipped: 'the direct engine in driver mode cannot run: a' })).toMatchObject({
    state: 'healthy',
  });
});
