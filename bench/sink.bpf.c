// SPDX-License-Identifier: GPL-2.0-only
/*
 * The IPsec VM of the benchmark: counts, in the driver or at tc, the datagrams of which every byte came, and drops them. One queue,
 * so runs never overlap. Takes frames with and without the mirror's headers around them, for references that keep them.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "traffic.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct arrived);
} arrived SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PIECES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct pieces);
} pieces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BUCKETS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} latencies SEC(".maps");

#define IP_DF 0x4000
#define IP_OFFSET 0x1fff

static __always_inline const struct iphdr *find_ip(const void *data, const void *end)
{
	const struct mirrored *frame = data;

	if (data + sizeof(struct ethhdr) + sizeof(struct iphdr) > end ||
		frame->outer_ethernet.h_proto != bpf_htons(ETH_P_IP))
		return 0;
	if (data + sizeof(*frame) <= end && frame->outer_ip.protocol == IPPROTO_UDP &&
		frame->outer_udp.dest == bpf_htons(VXLAN_PORT) &&
		(bpf_ntohl(frame->outer_ip.saddr) & SOURCE_MASK) != FIRST_SOURCE)
		return data + __builtin_offsetof(struct mirrored, ip);
	return data + __builtin_offsetof(struct mirrored, outer_ip);
}

/* Of a first fragment; 0: not in this part of the frame. */
static __always_inline __u64 sent_at(const struct iphdr *ip, const void *end)
{
	const void *at = (const void *)ip + sizeof(struct iphdr) + sizeof(struct udphdr);
	__u64 time;

	if (at + sizeof(time) > end)
		return 0;
	__builtin_memcpy(&time, at, sizeof(time));
	return time;
}

static __always_inline void count_latency(__u64 nanoseconds)
{
	__u32 power = 0, bucket;
	__u64 *count;

	for (__u32 step = 32; step; step /= 2)
		if (nanoseconds >> (power + step))
			power += step;
	bucket = nanoseconds;
	if (power >= BUCKET_BITS)
		bucket = (power - BUCKET_BITS) * (1 << BUCKET_BITS) + (nanoseconds >> (power - BUCKET_BITS));
	count = bpf_map_lookup_elem(&latencies, &bucket);
	if (count)
		(*count)++;
}

/* Of a frame whose headers lie between `data` and `end`. */
static __always_inline void count(const void *data, const void *end)
{
	const struct iphdr *ip = find_ip(data, end);
	__u32 only = 0, number, slot;
	struct arrived *all = bpf_map_lookup_elem(&arrived, &only);
	struct pieces *datagram;
	__u64 sent = 0;

	if (!all)
		return;
	all->frames++;
	if (!ip || (bpf_ntohl(ip->saddr) & SOURCE_MASK) != FIRST_SOURCE) {
		all->unmatched++;
		return;
	}
	if (ip->frag_off & bpf_htons(IP_DF))
		all->with_df++;
	number = (__u32)bpf_ntohs(ip->id) << (all->flow_bits & 31) | (bpf_ntohl(ip->saddr) & ~SOURCE_MASK);
	slot = number % PIECES;
	datagram = bpf_map_lookup_elem(&pieces, &slot);
	if (!datagram)
		return;
	if (!(ip->frag_off & bpf_htons(IP_OFFSET)))
		sent = sent_at(ip, end);
	/* The number alone comes again when it has no more bits: after 65536 datagrams of one flow. */
	if (datagram->number != number || (sent && datagram->sent_at && sent != datagram->sent_at))
		*datagram = (struct pieces){ .number = number };
	if (sent)
		datagram->sent_at = sent;
	datagram->carried += bpf_ntohs(ip->tot_len) - ip->ihl * 4;
	if (datagram->carried > all->carried)
		all->surplus++;
	if (datagram->carried != all->carried)
		return;
	all->datagrams++;
	if (all->timed && datagram->sent_at)
		count_latency(bpf_ktime_get_ns() - datagram->sent_at);
}

SEC("xdp.frags")
int count_in_driver(struct xdp_md *ctx)
{
	count((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	return XDP_DROP;
}

/* For a kernel's own packets: an XDP program would get a copy of each, which costs more than a gateway's work on some. */
SEC("tc")
int count_packet(struct __sk_buff *packet)
{
	count((void *)(long)packet->data, (void *)(long)packet->data_end);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
