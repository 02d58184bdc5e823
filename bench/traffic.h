/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the benchmark's BPF programs and trial.c agree on: what a mirrored datagram looks like, and how the sink knows
 * which one a fragment belongs to. Only the IP header is in every fragment, so the number of a datagram stands in it:
 * number = identification << flow bits | source address - FIRST_SOURCE.
 */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>

#define FIRST_SOURCE 0x64400000u /* 100.64.0.0/10 is nobody's (RFC 6598), and has an address for each of many flows */
#define SOURCE_MASK 0xffc00000u
#define MOST_FLOW_BITS 20
#define VXLAN_PORT 4789

/* All that the generator writes anew on each pass; zeroes follow. */
struct mirrored {
	struct ethhdr outer_ethernet;
	struct iphdr outer_ip;
	struct udphdr outer_udp;
	__be32 vxlan[2];
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
	__u64 sent_at; /* nanoseconds of the monotonic clock; in the first fragment of each datagram */
} __attribute__((packed));

#define OUTER_HEADERS (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr) + 8)

/* The generator's one value, of map `pacer`. Times in nanoseconds of the monotonic clock. */
struct pacer {
	__u64 interval; /* between two datagrams, in 1/1024 ns; 0: as fast as possible */
	__u64 due;      /* when the next one is, in 1/1024 ns */
	__u64 first, last;
	__u64 sent;
	__u32 number; /* of the next datagram, over all trials */
	__u32 flow_bits;
	__u32 checksum_without; /* sum over the inner IP header less what changes */
	__u32 unused;
	struct mirrored headers;
	__u32 padding;
};

/* A delay of up to so much is made up for, in a burst that even the shortest queue of the path holds. */
#define LONGEST_BURST_NS 20000

/* What makes a datagram this one: all else is the same in each. */
static inline __attribute__((always_inline)) void make_datagram(
	struct mirrored *frame, const struct pacer *pacer, __u32 number)
{
	__u32 flow = number & ((1u << (pacer->flow_bits & 31)) - 1), sum;
	__be32 source = bpf_htonl(FIRST_SOURCE | flow);

	/* As mirror sessions do: a hash of the flow in the outer source port. */
	frame->outer_udp.source = bpf_htons(49152 | (flow * 2654435761u >> 18));
	frame->ip.saddr = source;
	frame->ip.id = bpf_htons(number >> (pacer->flow_bits & 31));
	frame->sent_at = pacer->last;
	sum = pacer->checksum_without + (source & 0xffff) + (source >> 16) + frame->ip.id;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	frame->ip.check = ~sum;
}

/* The sink's one value, of map `arrived`. */
struct arrived {
	__u32 flow_bits;
	__u32 carried;   /* wanted: bytes behind the IP header of a whole datagram */
	__u64 timed;     /* wanted: latencies, which cost the sink a look at the clock for each datagram */
	__u64 datagrams; /* that came whole */
	__u64 frames;
	__u64 with_df;
	__u64 surplus;   /* fragments of datagrams that were whole already */
	__u64 unmatched; /* frames that are none of the generator's */
};

/* Map `pieces`: the datagrams last seen; a datagram is forgotten when another with the same remainder comes. */
#define PIECES 65536
struct pieces {
	__u32 number;
	__u32 carried;
	__u64 sent_at;
};

/*
 * Map `latencies`: how many datagrams took so long from the generator to their last fragment. Each power of two of nanoseconds
 * has 32 buckets of the same width, so a bucket's borders differ by 3 % at most.
 */
#define BUCKET_BITS 5
#define BUCKETS 1024

#endif
