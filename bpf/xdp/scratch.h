/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keeps, per CPU, what outlives a packet and what is too large for the stack, or not to be followed by the verifier value by
 * value.
 */
#ifndef XDP_SCRATCH_H
#define XDP_SCRATCH_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "../udp_df_direct.h"

#define MAX_OPTIONS 40         /* bytes of an IP header */
#define MAX_BUILT_DATA 8192    /* of a datagram whose fragments are built in its buffer */
#define MAX_BUILT_PAYLOAD 2048 /* of one of them */

/* An answer of the kernel's routes and neighbours, and what it was an answer to. */
struct next_hop {
	__u64 tick;
	__be32 destination;
	__u32 bridge_ifindex;
	__u32 egress_ifindex;
	__u32 mtu;
	__u16 dest_mac[3], source_mac[3];
	__u8 tos;
};

/* While the options of the datagram in hand are read. */
struct option_reader {
	__u32 left;
	__u32 is_length;
	__u32 has_ended;
	__u32 is_copied;
	__u32 sum;
	__u32 later_sum;
	__u8 later[MAX_OPTIONS]; /* as the later fragments have them */
};

/* While the outer checksum is verified. */
struct checksum_progress {
	__u32 at; /* from the UDP header */
	__u32 left;
	__u32 sum;
};

/*
 * Counts the copies of one datagram. A copy that was never made leaves its group short, and the next group is another's.
 * There is more than one because a kernel with PREEMPT_RT may put the copies of two queues in line alternately.
 */
struct copy_group {
	__u16 sequence;
	__u8 seen;
	__u8 fragments;
};

#define COPY_GROUPS 8

/* A CPU's rest of the block of identifications that it took last from a counter. */
struct id_block {
	__u32 number;
	__u32 left;
};

/* What a fragment begins with. The halfword in front lets the IP header lie on a word's boundary while it is off the frame. */
struct headers {
	__u16 padding;
	__u16 ethernet[sizeof(struct ethhdr) / 2];
	struct iphdr ip;
	__u32 options[MAX_OPTIONS / 4];
};
#define PADDING sizeof(__u16)
#define PLAIN_HEADERS (sizeof(struct ethhdr) + sizeof(struct iphdr))

/* While fragments are built in the buffer. */
struct fragment_plan {
	struct headers headers; /* of the first */
	__u16 options_diff;
	__u32 fragments;
	__u32 header;  /* bytes of a fragment's Ethernet and IP headers */
	__u32 payload; /* bytes in all fragments but the last */
	__u32 size;    /* of the datagram's data, in bytes */
	__u8 data[MAX_BUILT_DATA + MAX_BUILT_PAYLOAD];
};

struct scratch {
	struct next_hop next_hop;
	struct fragment_plan plan;
	__u16 sequence; /* of the last datagram that was redirected as copies */
	struct copy_group groups[COPY_GROUPS];
	struct option_reader options;
	struct checksum_progress checksum;
	struct id_block ids[ID_COUNTERS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} cpu_scratch SEC(".maps");

#endif
