// SPDX-License-Identifier: Apache-2.0
// What figures mean: what limits each engine, and which one to choose. Every sentence depends on them.
import { LARGEST_IN_DRIVER_MODE } from '../../constructs/config/limits';
import { claimsOf, type Verdict } from './claims';
import { bullets, paragraphs } from './markdown';
import {
  AGREEMENT,
  byStandbyOf,
  costOf,
  latencyOf,
  percent,
  rateOf,
  type Ratio,
  ratioOf,
  rounded,
  show,
  stepOf,
} from './report';
import type { Engine, Results } from '../results';

function bridgeLimit(results: Results, bytes: number): string {
  const [step, whole] = [stepOf(results, 'steps', 'bridge', bytes), costOf(results, 'bridge', bytes)];
  if (!step || !whole) return '';
  const share = step.median / whole.median;
  return (
    `\`bridge\`: its program takes ${show(step)} of the ${show(whole)} ns that a datagram costs (${percent(share)}). ` +
    (share < 0.2
      ? "The rest is the kernel's way from VXLAN over the bridge and DNAT to fragments: that is its limit, and a faster program would change nothing."
      : 'The program is a good part of that.')
  );
}

/** Beyond what scheduling alone makes of it. */
const LONG_WAIT_NS = 20_000_000;

function leftToStandby(results: Results, bytes: number): string {
  const [overload, cost] = (['overload', 'cost'] as const).map((at) => byStandbyOf(results, at, bytes));
  if (!overload || !cost) return '';
  const late = Math.max(
    ...[0.5, 0.9].map((share) => latencyOf(results, 'nfqueue', bytes, share, 'p99')?.median ?? NaN),
  );
  return (
    ` Of the datagrams of \`nfqueue\`, its queue left ${percent(overload.median)} to \`standby\` at overload, ` +
    `${percent(cost.median)} where its cost was measured.` +
    (late > LONG_WAIT_NS
      ? ` The kernel's part of the work goes before the program's: what is in its queue waits up to ${rounded(late / 1e6)} ms (p99).`
      : '')
  );
}

function nfqueueLimit(results: Results, bytes: number): string {
  const [rule, daemon] = [costOf(results, 'standby', bytes), costOf(results, 'nfqueue', bytes)];
  if (!rule || !daemon) return '';
  const more = daemon.median - rule.median;
  const share = more / daemon.median;
  return (
    `\`standby\` and \`nfqueue\`: the same way; the trip to userspace costs ${rounded(more)} ns more, ${percent(share)} of the ` +
    `${show(daemon)} ns of \`nfqueue\`, so ${share > 0.5 ? 'userspace' : "the kernel's way, not userspace,"} is the larger part.` +
    leftToStandby(results, bytes)
  );
}

function genericLimit(results: Results, bytes: number): string {
  const [step, whole] = [stepOf(results, 'steps', 'direct', bytes), costOf(results, 'generic', bytes)];
  if (!step || !whole) return '';
  return (
    `\`generic\`: ${show(whole)} ns a datagram, of which the program's first part takes ${show(step)}; the rest is to build the ` +
    "kernel's packet, and to send it and its fragments."
  );
}

function driverLimit(results: Results, bytes: number): string {
  const [rate, ratio] = [
    rateOf(results, 'overload', 'driver', bytes),
    ratioOf(results, 'overload', 'driver', 'baseline', bytes),
  ];
  if (!rate || !ratio) return '';
  return (
    `\`driver\`: ${show(ratio)} of what \`baseline\` delivers, which does nothing but to take off the outer headers. ` +
    (rate.isLowerBound
      ? 'Its rate is a lower bound: the generator works on the same core, and with a core to itself `driver` may do more.'
      : 'It shares its core with the generator and the sink, and what is left of that core is its limit.')
  );
}

export function limits(results: Results, bytes: number): string {
  const all = [bridgeLimit, nfqueueLimit, genericLimit, driverLimit].map((limit) => limit(results, bytes));
  return paragraphs(
    '## What limits each engine',
    all.some(Boolean) ? `At ${bytes} bytes:` : 'Not measured.',
    bullets(...all),
  );
}

const isAlike = ({ median }: Ratio): boolean => Math.abs(median - 1) <= AGREEMENT;

/** A rate is not all: what a datagram costs decides how many others the processor has time for. */
function costBeside(results: Results, bytes: number, engine: Engine, against: Engine): string {
  const [one, other] = [engine, against].map((each) => costOf(results, each, bytes)?.median ?? NaN);
  const ratio = (one ?? NaN) / (other ?? NaN);
  return Number.isFinite(ratio) ? ` A datagram costs ${rounded(ratio)} times the processor.` : '';
}

function ruleOrBridge(results: Results, bytes: number): string {
  const ratio = ratioOf(results, 'overload', 'standby', 'bridge', bytes);
  if (!ratio) return '';
  const delivers =
    `One nftables rule (\`standby\`) delivers ${show(ratio)} times what XDP on the bridge does.` +
    costBeside(results, bytes, 'standby', 'bridge');
  if (isAlike(ratio)) return `${delivers} They are alike: speed is no reason to choose \`bridge\`.`;
  return ratio.median > 1
    ? `${delivers} So XDP on the bridge makes a gateway slower than the rule that is always there.`
    : `${delivers} So \`bridge\` is worth choosing where \`direct\` cannot run.`;
}

function nfqueueOrBridge(results: Results, bytes: number): string {
  const ratio = ratioOf(results, 'overload', 'bridge', 'nfqueue', bytes);
  if (!ratio) return '';
  return (
    `The report's design, XDP on br0, delivers ${show(ratio)} times what the NFQUEUE daemon does` +
    (isAlike(ratio) ? ': going from one to the other makes no gateway faster.' : '.') +
    costBeside(results, bytes, 'bridge', 'nfqueue')
  );
}

function whyDirect(results: Results, bytes: number): string {
  const rule = ratioOf(results, 'overload', 'standby', 'bridge', bytes);
  return rule && isAlike(rule) ? ' The gain is in leaving out the bridge, not in XDP by itself.' : '';
}

function direct(results: Results, bytes: number): string {
  const modes = (['generic', 'driver'] as const).flatMap(
    (mode) => ratioOf(results, 'overload', mode, 'nfqueue', bytes) ?? [],
  );
  if (modes.length === 0) return '';
  const times = modes.map((ratio) => `in ${ratio.subject} mode ${show(ratio)} times`).join(', ');
  const isWorth = modes.some(({ median }) => median > 1 + AGREEMENT);
  return (
    `\`direct\` delivers ${times} what the NFQUEUE daemon does.` +
    (isWorth ? whyDirect(results, bytes) : ' That is no gain.')
  );
}

function driverOrGeneric(results: Results, bytes: number): string {
  const ratio = ratioOf(results, 'overload', 'driver', 'generic', bytes);
  if (!ratio) return '';
  const is = `${show(ratio)} times as fast as generic mode`;
  return ratio.median > 1 + AGREEMENT || ratio.isLowerBound
    ? `Driver mode is ${is}, at [its price](engines.md#driver-mode): datagrams of ${LARGEST_IN_DRIVER_MODE} bytes at most, a ` +
        'smaller MTU, links that flap on ENA. Choose it where they fit and generic mode is not enough.'
    : `Driver mode is ${is}: here [its price](engines.md#driver-mode) buys nothing.`;
}

const CHOICES = [direct, nfqueueOrBridge, ruleOrBridge, driverOrGeneric];

export function choice(results: Results, bytes: number): string {
  const all = CHOICES.map((sentence) => sentence(results, bytes));
  return paragraphs(
    '## What this means for the choice',
    all.some(Boolean) ? `At overload, ${bytes} bytes:` : 'Not measured.',
    bullets(...all),
    '`xdp_engine=auto` takes `direct` where it can run, in driver mode where sizes and interfaces fit.',
  );
}

const VERDICTS: readonly Verdict[] = ['true', 'partly', 'not reached', 'not true', 'cannot be measured here'];

export function inShort(results: Results, bytes: number): string {
  const verdicts = claimsOf(results).map(({ verdict }) => verdict);
  const counts = VERDICTS.map((verdict) => ({ verdict, count: verdicts.filter((each) => each === verdict).length }));
  const said = counts.filter(({ count }) => count > 0).map(({ verdict, count }) => `${count} ${verdict}`);
  return bullets(
    direct(results, bytes),
    nfqueueOrBridge(results, bytes),
    `Of ${verdicts.length} [claims of the migration report](#what-the-migration-report-claimed): ${said.join(', ')}.`,
  );
}
