/* SPDX-License-Identifier: GPL-2.0-only */
/* Declares the two maps that each engine has, of its own types: settings, and counters that begin with those of match.h. */
#ifndef XDP_MAPS_H
#define XDP_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "../udp_df_modifier.h"

/* Maps `config` and `stats`; the loader finds, fills and pins them by these names. */
#define GATEWAY_MAPS(slots_type, stats_type)                                                                           \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                                      \
		__uint(max_entries, 1);                                                                                \
		__uint(map_flags, BPF_F_MMAPABLE);                                                                     \
		__type(key, __u32);                                                                                    \
		__type(value, slots_type);                                                                             \
	} config SEC(".maps");                                                                                         \
                                                                                                                       \
	/* Per CPU, and XDP runs do not nest on a CPU: plain additions lose nothing. */                                \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                                               \
		__uint(max_entries, STATS_ENTRIES);                                                                    \
		__type(key, __u32);                                                                                    \
		__type(value, stats_type);                                                                             \
	} stats SEC(".maps")

/* Reads `active` once, so that everything of a packet goes by the same slot. */
#define ACTIVE_CONFIG(all) (&(all)->slots[*(const volatile __u32 *)&(all)->active & 1])

#endif
