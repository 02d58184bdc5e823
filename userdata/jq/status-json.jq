# SPDX-License-Identifier: Apache-2.0
# Which counters, state and settings does the gateway have? In: what known_state of lib/health.sh gathers, and what status_json
# of lib/status.sh adds; out: the line of `status --json`.
#
# packets_*: the XDP program's own numbers while it is attached, netfilter's otherwise. Numbers that go together were read
# `uptime` seconds after the boot. They begin anew, all but those of netfilter, when stats_map or nfqueue_socket changes.

include "health";
include "netfilter";

def of_program: {packets_seen, packets_matched, packets_modified, bytes_processed, packets_left_to_netfilter};

. + $ARGS.named
| .xdp as $xdp | (.netfilter | our_counters) as $netfilter
| def packets($name): $netfilter[$name].packets // 0;
  # What is too short for an IP header, VXLAN itself refuses.
  (.vxlan[0].stats64.rx.errors // 0) as $refused
| health as $health
| {version, engine: $health.engine, xdp_mode: $xdp.xdp_mode, interface: (if $xdp.attached then $xdp.interface else "br0" end),
    attached: $xdp.attached, state: $health.state, reason: $health.reason, uptime: ($xdp.uptime // .uptime)}
  + if $xdp.attached then $xdp | of_program
    else {packets_seen: packets("datagrams_steered"), packets_matched: packets("large_df"), packets_modified: packets("large_df"),
      bytes_processed: ($netfilter.large_df.bytes // 0), packets_left_to_netfilter: 0} end
  + {packets_malformed: ($xdp.packets_malformed + packets("packets_malformed") + $refused),
    fragments_seen: ($xdp.fragments_seen + packets("fragments_seen")), frames_unmatched: packets("frames_unmatched"),
    standby_packets: packets("standby_packets"), packets_expired: packets("packets_expired"),
    packets_misrouted: packets("packets_misrouted"), nfqueue_packets: .queue.received, nfqueue_dropped: .queue.dropped,
    kernel_fragments, fragment_bypass}
  + ($xdp | {redirects_refused, redirects_unsent, fragments_due, fragments_sent, copies_lost, forged, failed} | map_values(. // 0))
  + {stats_map: ($xdp.stats_map // 0), nfqueue_socket: .queue.socket, config: $xdp.config}
