/* SPDX-License-Identifier: GPL-2.0-only */
/* Holds a mirrored frame while the direct engine works on it, and what many questions about it need: addresses, verdicts. */
#ifndef XDP_FRAME_H
#define XDP_FRAME_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../udp_df_direct.h"
#include "match.h"

/* The verifier follows registers, and compilers compare one of several that hold the same. */
#define IN_ONE_REGISTER(variable) asm volatile("" : "+r"(variable))

struct vxlan_header {
	__be32 flags;
	__be32 vni; /* and 8 bits that are reserved */
};

/* By how much decapsulation shortens a frame. */
#define OUTER_HEADERS                                                                                                  \
	(sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr) + sizeof(struct vxlan_header))

struct frame {
	void *data, *end;
	struct ethhdr *inner;
	struct datagram datagram;
	__u32 length;       /* of the inner frame, as the outer UDP header has it */
	__u32 options_size; /* of the inner IP header's options */
	__u16 options_diff; /* what the later fragments' options add to the sum over the header */
	__u32 id_diff;      /* what a new identification adds to it */
};

/* Returns how many bytes are behind the datagram. */
static __always_inline __u32 trailer_size(const struct frame *frame)
{
	long length = frame->end - (void *)frame->inner;

	IN_ONE_REGISTER(length); /* a difference of pointers is one of 64 bits */
	return length - sizeof(struct ethhdr) - frame->datagram.size;
}

static __always_inline int is_same_mac(const void *one, const void *other)
{
	const __u16 *a = one, *b = other;

	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

static __always_inline void copy_mac(void *to, const void *from)
{
	__u16 *a = to;
	const __u16 *b = from;

	a[0] = b[0];
	a[1] = b[1];
	a[2] = b[2];
}

static __always_inline int is_group_mac(const __u8 *mac)
{
	return mac[0] & 1;
}

/* Recognizes "this network", loopback, multicast, reserved and broadcast: no host forwards from or to them. */
static __always_inline int is_special(__be32 address)
{
	__u32 network = bpf_ntohl(address) >> 24;

	return network == 0 || network == 127 || network >= 224;
}

static __always_inline int is_no_source(__be32 address, const struct direct_config *rules)
{
	return is_special(address) || address == rules->primary_ip || address == rules->secondary_ip;
}

/* Leaves the frame to the kernel, as it came. */
static __always_inline int pass_up(struct direct_stats *count, enum pass_reason reason)
{
	count->passed[reason]++;
	return XDP_PASS;
}

/* Drops a frame that is half done, and so nobody's any more. */
static __always_inline int drop_failed(struct direct_stats *count)
{
	count->failed++;
	return XDP_DROP;
}

#endif
