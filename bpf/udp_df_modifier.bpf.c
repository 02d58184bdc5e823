// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine `bridge`, XDP on br0: clears Don't-Fragment on large UDP datagrams to one port, in place, so that they
 * may be fragmented on their way; netfilter gives them an identification of their own. Every frame passes,
 * whatever it holds; what the program leaves alone still carries DF, and netfilter clears it then.
 */
#include <linux/bpf.h>

#include "udp_df_modifier.h"
#include "xdp/maps.h"
#include "xdp/match.h"
#include "xdp/parsing.h"

GATEWAY_MAPS(struct gateway_config_slots, struct gateway_stats);

SEC("xdp")
int udp_df_modifier(struct xdp_md *ctx)
{
	struct cursor frame = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	__u32 only = 0, live = STATS_LIVE;
	const struct gateway_config_slots *all = bpf_map_lookup_elem(&config, &only);
	struct gateway_stats *count = bpf_map_lookup_elem(&stats, &live);
	const struct gateway_config *wanted;
	struct datagram datagram = { 0 };

	if (!all || !count)
		return XDP_PASS;

	wanted = ACTIVE_CONFIG(all);
	count->packets_seen++;
	if (parse_ethernet(&frame) != ETH_P_IP)
		return XDP_PASS;

	switch (parse_datagram(&frame, &datagram)) {
	case FOUND_MALFORMED:
		count->packets_malformed++;
		return XDP_PASS;
	case FOUND_FRAGMENT:
		count->fragments_seen++;
		return XDP_PASS;
	case FOUND_OTHER:
		return XDP_PASS;
	case FOUND_DATAGRAM:
		break;
	}
	if (is_to_target(&datagram, wanted) && decide(&datagram, wanted, count) == CLEAR_DF) {
		clear_df(datagram.ip);
		count_modified(&datagram, count);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
