/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Holds what the BPF programs and their loader agree on: two maps and the layout of their values, in host byte order. */
#ifndef UDP_DF_MODIFIER_H
#define UDP_DF_MODIFIER_H

#include <linux/types.h>

/* Map names; each is also the name of the map's pin. */
#define CONFIG_MAP "config"
#define STATS_MAP "stats"

/* One set of rules. All zero, as a new map is, matches nothing. */
struct gateway_config {
	__u32 target_port;     /* UDP destination port */
	__u32 min_packet_size; /* IP total length must be greater than this ... */
	__u32 max_packet_size; /* ... and at most this */
	__u32 traffic_percent; /* traffic split: how many of 100 flows XDP takes */
};

/*
 * The one value of the config map, which the loader maps into its memory. It fills the idle slot, then turns `active`, a
 * single aligned word: a packet sees the old rules or the new ones, never a mixture.
 */
struct gateway_config_slots {
	__u32 active; /* 0 or 1 */
	struct gateway_config slots[2];
};

/* Entries of the stats map: what this program counts, and what its predecessors of another layout had counted. */
enum gateway_stats_entry { STATS_LIVE, STATS_CARRIED, STATS_ENTRIES };

/* A value, per CPU, of the stats map; cumulative. New counters go to the end: an upgrade takes over the common part. */
struct gateway_stats {
	__u64 packets_seen;
	__u64 packets_matched;
	__u64 packets_modified;
	__u64 bytes_processed; /* IP total length of the modified packets */
	__u64 packets_left_to_netfilter;
	__u64 packets_malformed;
	__u64 fragments_seen;
};

#endif
