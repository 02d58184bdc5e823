// SPDX-License-Identifier: Apache-2.0
// EC2's limit on IP fragments, in front of a lab's sink: what no namespace and no virtual machine has of itself.
//
// EC2 lets 1,024 fragments a second out of a network interface and drops the rest, on any instance type without ENA's
// fragment proxy mode (EC2 user guide, "Nitro system considerations for performance tuning",
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ena-nitro-perf.html: "egress PPS limit of 1024").
import { EC2_FRAGMENTS_PER_SECOND } from '../../constructs/config/limits';
import { inNamespace, must, run } from '../support/host';

/** The interface on which a gateway's packets arrive. */
export interface Arrival {
  readonly namespace: string;
  readonly interface: string;
}

/** Since the limit was set. */
export interface LimitedFragments {
  readonly passed: number;
  readonly dropped: number;
}

const TABLE = 'ec2_fragment_limit';

/**
 * Drops at the ingress hook, which frames pass that XDP redirected as well as those that the kernel sent. tcpdump sees a frame
 * before the hook: what left the gateway.
 *
 * The guide does not say over what time EC2 measures. What it says of micro-bursts (an allowance that is spent within half a
 * second leaves nothing for the other half) is a window, and a window is what this is: `second` gets its one element with
 * the first fragment and forgets it a second later, two ticks of a kernel with 250 Hz on top, so that timers never make it
 * less. A token bucket would let more pass at first (its burst) and then, under overload, single fragments of which hardly
 * one datagram could be put together: a window is the best that can come of fragments.
 */
function rules(device: string): string {
  const isFragment = 'ip frag-off & 0x3fff != 0';
  const spent = `limit rate over 1/day burst ${EC2_FRAGMENTS_PER_SECOND} packets`;
  return `
table netdev ${TABLE}
delete table netdev ${TABLE}
table netdev ${TABLE} {
  counter passed {}
  counter dropped {}
  set second {
    typeof meta protocol
    flags dynamic, timeout
    timeout 1008ms
  }
  chain fragments {
    type filter hook ingress device "${device}" priority 0;
    ${isFragment} add @second { meta protocol ${spent} } counter name dropped drop
    ${isFragment} counter name passed
  }
}`;
}

/** Sets the limit, or sets it anew with its counters at zero. */
export async function limitFragments({ namespace, interface: device }: Arrival): Promise<void> {
  await must(...inNamespace(namespace, 'nft', '-f', '-'), { input: rules(device) });
}

interface Counter {
  readonly name: string;
  readonly packets: number;
}

/** What the limit has let pass and dropped; undefined where no limit is set. */
export async function limitedFragments({
  namespace,
}: Pick<Arrival, 'namespace'>): Promise<LimitedFragments | undefined> {
  const { code, stdout } = await run(
    ...inNamespace(namespace, 'nft', '-j', 'list', 'counters', 'table', 'netdev', TABLE),
  );
  if (code !== 0) return undefined;
  const { nftables } = JSON.parse(stdout) as { nftables: readonly { readonly counter?: Counter }[] };
  const packets = (name: string): number =>
    nftables.find(({ counter }) => counter?.name === name)?.counter?.packets ?? 0;
  return { passed: packets('passed'), dropped: packets('dropped') };
}
