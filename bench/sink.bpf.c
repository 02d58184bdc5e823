// SPDX-License-Identifier: GPL-2.0-only
/*
 * The IPsec VM of the benchmark: counts, in the driver, the datagrams of which every byte came, and drops them. One queue,
 * so runs never overlap. Takes frames with and without the mirror's headers around them, for references that keep them.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
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

#define IP_DF 0x4000

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

/* Of a frame whose headers lie between `data` and `end`. */
static __always_inline void count(const void *data, const void *end)
{
	const struct iphdr *ip = find_ip(data, end);
	__u32 only = 0, number, slot;
	struct arrived *all = bpf_map_lookup_elem(&arrived, &only);
	struct pieces *datagram;

	if (!all)
		return;
	all->frames++;
	if (!ip || (bpf_ntohl(ip->saddr) & SOURCE_MASK) != FIRST_SOURCE) {
		all->foreign++;
		return;
	}
	if (ip->frag_off & bpf_htons(IP_DF))
		all->with_df++;
	number = (__u32)bpf_ntohs(ip->id) << (all->flow_bits & 31) | (bpf_ntohl(ip->saddr) & ~SOURCE_MASK);
	slot = number % PIECES;
	datagram = bpf_map_lookup_elem(&pieces, &slot);
	if (!datagram)
		return;
	if (datagram->number != number)
		*datagram = (struct pieces){ .number = number };
	datagram->carried += bpf_ntohs(ip->tot_len) - ip->ihl * 4;
	if (datagram->carried == all->carried)
		all->datagrams++;
	else if (datagram->carried > all->carried)
		all->surplus++;
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
