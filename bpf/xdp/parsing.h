/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Walks a frame from header to header with a cursor. Each parse_*() checks that its header is there and
 * sound before it reads a byte of it, steps over it, and answers with what comes next.
 */
#ifndef XDP_PARSING_H
#define XDP_PARSING_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef NULL
#define NULL ((void *)0)
#endif

#define MAX_VLAN_TAGS 2

/* The flags and the fragment offset share 16 bits; the kernel exports no names for them. */
#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff

struct cursor {
	void *at;
	void *end;
};

struct vlan_tag {
	__be16 control;
	__be16 type;
};

/* Returns NULL, and stays where it is, unless so many bytes are left. */
static __always_inline void *parse_bytes(struct cursor *frame, __u32 size)
{
	void *bytes = frame->at;

	if (bytes + size > frame->end)
		return NULL;
	frame->at = bytes + size;
	return bytes;
}

/* Returns the EtherType behind the VLAN tags in host byte order, or 0, which is none, if the frame ends first. */
static __always_inline __u16 parse_ethernet(struct cursor *frame)
{
	const struct ethhdr *eth = parse_bytes(frame, sizeof(*eth));
	__u16 type;

	if (!eth)
		return 0;
	type = bpf_ntohs(eth->h_proto);
#pragma unroll
	for (int tags = 0; tags < MAX_VLAN_TAGS; tags++) {
		const struct vlan_tag *tag;

		if (type != ETH_P_8021Q && type != ETH_P_8021AD)
			break;
		tag = parse_bytes(frame, sizeof(*tag));
		if (!tag)
			return 0;
		type = bpf_ntohs(tag->type);
	}
	return type;
}

/* Returns NULL unless a whole IPv4 packet is there. Padding may follow it; its checksum is not verified. */
static __always_inline struct iphdr *parse_ipv4(struct cursor *frame)
{
	struct iphdr *ip = frame->at;
	__u32 header, total;

	if ((void *)(ip + 1) > frame->end)
		return NULL;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || total < header)
		return NULL;
	/* Compares lengths: Linux 6.12 loses the bounds of a swapped number, and then refuses to add it to a pointer. */
	if (total > frame->end - (void *)ip)
		return NULL;
	return parse_bytes(frame, header);
}

/* Counts a first fragment, too: what follows its UDP header is not the whole datagram. */
static __always_inline int is_fragment(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(IP_MF | IP_OFFSET);
}

/* Returns NULL unless the whole datagram lies inside its IP packet. */
static __always_inline struct udphdr *parse_udp(struct cursor *frame, const struct iphdr *ip)
{
	__u32 payload = bpf_ntohs(ip->tot_len) - ip->ihl * 4;
	struct udphdr *udp = parse_bytes(frame, sizeof(*udp));
	__u32 length;

	if (!udp || payload < sizeof(*udp))
		return NULL;
	length = bpf_ntohs(udp->len);
	return length >= sizeof(*udp) && length <= payload ? udp : NULL;
}

#endif
