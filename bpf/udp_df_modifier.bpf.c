// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bridge engine: clears Don't-Fragment on large UDP datagrams to one port, in place, so that the
 * kernel may fragment them on their way out. Every frame passes, whatever it holds; what the program
 * leaves alone still carries DF, and netfilter clears it then.
 */
#include <linux/bpf.h>
#include <linux/in.h>

#include "parsing.h"
#include "udp_df_modifier.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct gateway_config_slots);
} config SEC(".maps");

/* Per CPU, and XDP runs do not nest on a CPU: plain additions lose nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STATS_ENTRIES);
	__type(key, __u32);
	__type(value, struct gateway_stats);
} stats SEC(".maps");

/* Read once, and everything of the packet by the same slot. */
static __always_inline const struct gateway_config *rules_in_force(const struct gateway_config_slots *all)
{
	return &all->slots[*(const volatile __u32 *)&all->active & 1];
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
static __always_inline int is_ours(const struct iphdr *ip, const struct udphdr *udp, __u32 percent)
{
	return flow_hash(ip, udp) % 100 < percent;
}

/*
 * HC' = ~(~HC + ~m + m'), equation 3 of RFC 1624, over the one word that changes. The sum of the header
 * need not be right for it: a broken checksum stays broken. The UDP checksum does not cover these flags.
 */
static __always_inline void clear_df(struct iphdr *ip)
{
	__u16 old = ip->frag_off;
	__u16 new = old & ~bpf_htons(IP_DF);
	__u32 sum = (__u16)~ip->check + (__u16)~old + new;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
	ip->frag_off = new;
}

SEC("xdp")
int udp_df_modifier(struct xdp_md *ctx)
{
	struct cursor frame = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	__u32 only = 0, live = STATS_LIVE;
	const struct gateway_config_slots *all = bpf_map_lookup_elem(&config, &only);
	struct gateway_stats *count = bpf_map_lookup_elem(&stats, &live);
	const struct gateway_config *wanted;
	const struct udphdr *udp;
	struct iphdr *ip;
	__u32 size;

	if (!all || !count)
		return XDP_PASS;

	wanted = rules_in_force(all);
	count->packets_seen++;
	if (take_ethernet(&frame) != ETH_P_IP)
		return XDP_PASS;

	ip = take_ipv4(&frame);
	if (!ip) {
		count->packets_malformed++;
		return XDP_PASS;
	}
	if (ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	if (is_fragment(ip)) {
		count->fragments_seen++;
		return XDP_PASS;
	}

	udp = take_udp(&frame, ip);
	if (!udp) {
		count->packets_malformed++;
		return XDP_PASS;
	}
	size = bpf_ntohs(ip->tot_len);
	if (bpf_ntohs(udp->dest) != wanted->target_port || size <= wanted->min_packet_size ||
		size > wanted->max_packet_size)
		return XDP_PASS;

	count->packets_matched++;
	if (!(ip->frag_off & bpf_htons(IP_DF)))
		return XDP_PASS;
	if (!is_ours(ip, udp, wanted->traffic_percent)) {
		count->packets_left_to_netfilter++;
		return XDP_PASS;
	}

	clear_df(ip);
	count->packets_modified++;
	count->bytes_processed += size;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
