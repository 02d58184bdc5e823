// SPDX-License-Identifier: Apache-2.0
// Samples as xdp-monitoring.sh takes them, and what the shipped xdp-monitoring.jq makes of them.
import { spawnSync } from 'node:child_process';
import * as path from 'node:path';
import type { Emf } from '../../../lab/aws/emf';
import { REPOSITORY } from '../../../lab/support/host';
import list from '../../../userdata/metrics.json';

export const hasJq = spawnSync('jq', ['--version']).status === 0;
export type Numbers = Readonly<Record<string, number>>;

export interface Sample {
  readonly at: number;
  readonly uptime: number;
  readonly processors: number;
  readonly status: Readonly<Record<string, unknown>> | null;
  readonly latency: object | null;
  readonly machine: Numbers;
  readonly memory: Numbers;
  readonly disk: Numbers;
}

/** Who the gateway is, as the script finds out. */
const ABOUT = { group: 'some-group', instance: 'i-1', region: 'eu-central-1', log_group: '/some/group' };
export const COUNTERS = {
  ...{ packets_seen: 0, packets_matched: 0, packets_modified: 0, bytes_processed: 0, packets_left_to_netfilter: 0 },
  ...{ packets_malformed: 0, fragments_seen: 0, frames_unmatched: 0, standby_packets: 0, packets_misrouted: 0 },
  ...{ packets_expired: 0, nfqueue_packets: 0, nfqueue_dropped: 0, redirects_refused: 0, redirects_unsent: 0 },
  ...{ fragments_due: 0, fragments_sent: 0, copies_lost: 0, forged: 0, failed: 0, kernel_fragments: 0 },
};

/** As the script takes it, ten seconds after the one before. */
export function sample(number: number, status: object | null, rest: Partial<Sample> = {}): Sample {
  const uptime = 1000 + 10 * number;
  const running = {
    engine: 'direct',
    xdp_mode: 'driver',
    interface: 'ens5',
    attached: true,
    state: 'healthy',
    reason: '',
    fragment_bypass: 'absent',
  };
  return {
    at: 1_700_000_000_000 + 10_000 * number,
    uptime,
    processors: 2,
    status: status && { ...running, ...COUNTERS, stats_map: 7, nfqueue_socket: 0, uptime, config: {}, ...status },
    latency: null,
    machine: { softnet_dropped: 0, forwarding_dropped: 0, 'interface_dropped ens5': 0, 'queue_dropped ens5': 0 },
    memory: { total: 1000, available: 250 },
    disk: { used: 10, available: 30 },
    ...rest,
  };
}

export function documentsOf(...lines: (Sample | string)[]): Emf[] {
  return documentsOfGateway(ABOUT, lines);
}

export function documentsOfGateway(about: typeof ABOUT, lines: readonly (Sample | string)[]): Emf[] {
  const input = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n');
  const values = ['--argjson', 'list', JSON.stringify(list), '--argjson', 'about', JSON.stringify(about)];
  const folder = path.join(REPOSITORY, 'userdata/jq');
  const program = ['-L', folder, '-f', path.join(folder, 'xdp-monitoring.jq')];
  const { stdout, stderr } = spawnSync('jq', ['-nRc', ...values, ...program], { input, encoding: 'utf8' });
  expect(stderr).toBe('');
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Emf);
}
