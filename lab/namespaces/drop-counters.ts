// SPDX-License-Identifier: Apache-2.0
// Where a packet can be lost between the lab's source and its sink, as the kernel counts it: what a lost datagram is
// explained by, and how a loss of the lab itself (a full backlog, a full socket) is told from one of the gateway.
import { readFileSync } from 'node:fs';
import { inNamespace, must } from '../support/host';
import { LAB } from './namespaces';

type Counters = ReadonlyMap<string, number>;

/** Of the kernel's protocol counters only those that mean a loss. */
const LOSS = /Discard|Err|Fail|NoRoute|Overflow|OutNoRoutes|Drop|InAddr|NoPorts|Timeout/;

interface Link {
  readonly ifname: string;
  readonly stats64: Record<'rx' | 'tx', { readonly dropped: number; readonly errors: number }>;
}

interface NftCounter {
  readonly counter?: { readonly family: string; readonly name: string; readonly packets: number };
}

export async function dropCounters(): Promise<Counters> {
  const { source, primary, sink } = LAB;
  const each = [source, primary, sink].map(async ({ namespace }) => [
    ...(await linkDrops(namespace)),
    ...(await protocolDrops(namespace)),
  ]);
  const all = (await Promise.all(each)).flat();
  return new Map([...all, ...(await ruleCounters()), ...backlogDrops()]);
}

/** One line for each counter that grew. */
export function grown(before: Counters, after: Counters): string[] {
  const deltas = [...after].map(([name, value]): [string, number] => [name, value - (before.get(name) ?? 0)]);
  return deltas.filter(([, delta]) => delta > 0).map(([name, delta]) => `${name} +${delta}`);
}

async function linkDrops(namespace: string): Promise<[string, number][]> {
  const links = JSON.parse(await must('ip', ['-n', namespace, '-j', '-s', 'link', 'show'])) as Link[];
  return links.flatMap(({ ifname, stats64 }) =>
    (['rx', 'tx'] as const).flatMap((way): [string, number][] => [
      [`${namespace} ${ifname} ${way} dropped`, stats64[way].dropped],
      [`${namespace} ${ifname} ${way} errors`, stats64[way].errors],
    ]),
  );
}

async function protocolDrops(namespace: string): Promise<[string, number][]> {
  const said = await must(...inNamespace(namespace, 'nstat', '-j', '-a', '-s', '-z'));
  const { kernel } = JSON.parse(said) as { kernel: Record<string, number> };
  return Object.entries(kernel)
    .filter(([name]) => LOSS.test(name) && !/^Tcp/.test(name))
    .map(([name, value]) => [`${namespace} ${name}`, value]);
}

/** Of the rules, those that drop. */
async function ruleCounters(): Promise<[string, number][]> {
  const said = await must(...inNamespace(LAB.primary.namespace, 'nft', '-j', 'list', 'counters'));
  const { nftables } = JSON.parse(said) as { nftables: readonly NftCounter[] };
  return nftables.flatMap(({ counter }) =>
    counter && /unmatched|malformed|fragments|expired/.test(counter.name)
      ? [[`nftables ${counter.family} ${counter.name}`, counter.packets] as [string, number]]
      : [],
  );
}

/** What the processors' input queues dropped when they were full: the machine's doing, not the gateway's. */
function backlogDrops(): [string, number][] {
  const lines = readFileSync('/proc/net/softnet_stat', 'utf8').trim().split('\n');
  return lines.map((line, cpu) => [`processor ${cpu} backlog full`, parseInt(line.split(/\s+/)[1] ?? '0', 16)]);
}
