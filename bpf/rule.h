/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The rule that both engines keep: which datagrams are meant, which of them lose DF, and which flows are XDP's. An engine
 * brings the maps of its own settings and counters, which begin with those of the rule.
 */
#ifndef RULE_H
#define RULE_H

#include <linux/bpf.h>
#include <linux/in.h>

#include "parsing.h"
#include "udp_df_modifier.h"

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

/* Read once, and everything of the packet by the same slot. */
#define RULES_IN_FORCE(all) (&(all)->slots[*(const volatile __u32 *)&(all)->active & 1])

struct datagram {
	struct iphdr *ip;
	struct udphdr *udp;
	__u32 size; /* IP total length */
};

enum finding { FOUND_OTHER, FOUND_MALFORMED, FOUND_FRAGMENT, FOUND_DATAGRAM };

/* The cursor stands before an IPv4 header. `found` is filled as far as the finding goes. */
static __always_inline enum finding find_datagram(struct cursor *frame, struct datagram *found)
{
	found->ip = take_ipv4(frame);
	if (!found->ip)
		return FOUND_MALFORMED;
	if (found->ip->protocol != IPPROTO_UDP)
		return FOUND_OTHER;
	if (is_fragment(found->ip))
		return FOUND_FRAGMENT;
	found->udp = take_udp(frame, found->ip);
	if (!found->udp)
		return FOUND_MALFORMED;
	found->size = bpf_ntohs(found->ip->tot_len);
	return FOUND_DATAGRAM;
}

static __always_inline int is_to_target(const struct datagram *datagram, const struct gateway_config *wanted)
{
	return bpf_ntohs(datagram->udp->dest) == wanted->target_port;
}

static __always_inline __u32 rotate_left(__u32 word, int bits)
{
	return word << bits | word >> (32 - bits);
}

static __always_inline __u32 murmur3_mix(__u32 hash, __u32 word)
{
	word = rotate_left(word * 0xcc9e2d51, 15) * 0x1b873593;
	return rotate_left(hash ^ word, 13) * 5 + 0xe6546b64;
}

/* MurmurHash3_x86_32 (Austin Appleby, public domain), seed 0, of addresses and ports as they lie on the wire. */
static __always_inline __u32 flow_hash(const struct iphdr *ip, const struct udphdr *udp)
{
	__u32 hash = murmur3_mix(0, ip->saddr);

	hash = murmur3_mix(hash, ip->daddr);
	hash = murmur3_mix(hash, udp->source | (__u32)udp->dest << 16);
	hash ^= 12;
	hash = (hash ^ hash >> 16) * 0x85ebca6b;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* A flow stays with XDP as the percentage grows, and never hops between the two paths. */
static __always_inline int is_ours(const struct datagram *datagram, const struct gateway_config *wanted)
{
	return wanted->traffic_percent >= 100 || flow_hash(datagram->ip, datagram->udp) % 100 < wanted->traffic_percent;
}

enum decision { KEEP_DF, CLEAR_DF, LEAVE_TO_NETFILTER };

/* Of a datagram to the target port; counts what matches. Without DF it may be of anybody's flow: there is nothing to do. */
static __always_inline enum decision decide(
	const struct datagram *datagram, const struct gateway_config *wanted, struct gateway_stats *count)
{
	if (datagram->size <= wanted->min_packet_size || datagram->size > wanted->max_packet_size)
		return KEEP_DF;
	count->packets_matched++;
	if (!(datagram->ip->frag_off & bpf_htons(IP_DF)))
		return KEEP_DF;
	if (!is_ours(datagram, wanted)) {
		count->packets_left_to_netfilter++;
		return LEAVE_TO_NETFILTER;
	}
	return CLEAR_DF;
}

/* One's complement sums of 16-bit words are folded at the end, as RFC 1071 says. */
static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/*
 * HC' = ~(~HC + ~m + m'), equation 3 of RFC 1624, over the one word that changes. The sum of the header
 * need not be right for it: a broken checksum stays broken. The UDP checksum does not cover these flags.
 */
static __always_inline void clear_df(struct iphdr *ip)
{
	__u16 old = ip->frag_off;
	__u16 new = old & ~bpf_htons(IP_DF);

	ip->check = ~fold((__u16)~ip->check + (__u16)~old + new);
	ip->frag_off = new;
}

static __always_inline void count_modified(const struct datagram *datagram, struct gateway_stats *count)
{
	count->packets_modified++;
	count->bytes_processed += datagram->size;
}

#endif
