/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Matches datagrams by the rule that both XDP engines keep: which are meant, which of them lose DF, and which flows the
 * traffic split gives to XDP. An engine brings the maps of its own settings and counters, which begin with those of the rule.
 */
#ifndef XDP_MATCH_H
#define XDP_MATCH_H

#include <linux/bpf.h>
#include <linux/in.h>

#include "../udp_df_modifier.h"
#include "checksum.h"
#include "parsing.h"

struct datagram {
	struct iphdr *ip;
	struct udphdr *udp;
	__u32 size; /* IP total length */
};

enum finding { FOUND_OTHER, FOUND_MALFORMED, FOUND_FRAGMENT, FOUND_DATAGRAM };

/* Expects the cursor before an IPv4 header; fills `found` as far as the finding goes. */
static __always_inline enum finding parse_datagram(struct cursor *frame, struct datagram *found)
{
	found->ip = parse_ipv4(frame);
	if (!found->ip)
		return FOUND_MALFORMED;
	if (found->ip->protocol != IPPROTO_UDP)
		return FOUND_OTHER;
	if (is_fragment(found->ip))
		return FOUND_FRAGMENT;
	found->udp = parse_udp(frame, found->ip);
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

/* Hashes addresses and ports as they lie on the wire: MurmurHash3_x86_32 (Austin Appleby, public domain), seed 0. */
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

/* Splits by flow: one stays with XDP as the percentage grows, and never hops between the two paths. */
static __always_inline int is_in_traffic_split(const struct datagram *datagram, const struct gateway_config *wanted)
{
	return wanted->traffic_percent >= 100 || flow_hash(datagram->ip, datagram->udp) % 100 < wanted->traffic_percent;
}

enum decision { KEEP_DF, CLEAR_DF, LEAVE_TO_NETFILTER };

/* Decides on a datagram to the target port, and counts what matches. Without DF there is nothing to do, whosever the flow. */
static __always_inline enum decision decide(
	const struct datagram *datagram, const struct gateway_config *wanted, struct gateway_stats *count)
{
	if (datagram->size <= wanted->min_packet_size || datagram->size > wanted->max_packet_size)
		return KEEP_DF;
	count->packets_matched++;
	if (!(datagram->ip->frag_off & bpf_htons(IP_DF)))
		return KEEP_DF;
	if (!is_in_traffic_split(datagram, wanted)) {
		count->packets_left_to_netfilter++;
		return LEAVE_TO_NETFILTER;
	}
	return CLEAR_DF;
}

/* Clears DF in place, and updates the IP checksum by it as checksum.h does. The UDP checksum does not cover it. */
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
