/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Says what both ways of fragmenting share: how many fragments, what their headers say, and the metadata by which the program
 * that runs on each copy of a frame knows which fragment it is to be.
 */
#ifndef XDP_FRAGMENTS_H
#define XDP_FRAGMENTS_H

#include <linux/ip.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "../udp_df_direct.h"
#include "checksum.h"
#include "frame.h"
#include "scratch.h"

/* No Ethernet address that a frame is sent to begins with an odd byte, unless it is a group's: that tells metadata. */
#define FRAG_META 0x01
#define FRAG_META_WITH_OPTIONS 0x03
#define FRAG_META_BUILT 0x05

/*
 * In front of a frame that is redirected as copies. Behind it, if the header has options, those of the later fragments. Both
 * together take less than the outer headers did.
 */
struct frag_meta {
	__u8 mark;
	__u8 fragments;
	__u16 payload;  /* bytes that fit a fragment */
	__u16 sequence; /* the same in all copies */
	union {
		__u16 options_diff; /* what the later fragments' options add to the sum over the header */
		__u16 header;       /* where fragments are built already: bytes of each one's Ethernet and IP headers */
	};
};

/* Counts the fragments for an MTU. All but the last carry a multiple of 8 bytes. */
static __always_inline __u32 count_fragments(const struct frame *frame, __u32 mtu)
{
	__u32 each = (mtu - sizeof(struct iphdr) - frame->options_size) & ~7;

	return 1 + (frame->datagram.size - mtu + each - 1) / each;
}

/* Makes a fragment's of a header that belonged to the whole datagram. The kernel keeps no other flag, either. */
static __always_inline void make_fragment(struct iphdr *ip, __u16 length, __u16 offset_and_flags, __u32 diff)
{
	diff += checksum_diff(ip->tot_len, length) + checksum_diff(ip->frag_off, offset_and_flags);
	ip->check = checksum_update(ip->check, diff);
	ip->tot_len = length;
	ip->frag_off = offset_and_flags;
}

/* Returns which copy of its datagram this is, from 0. */
static __always_inline __u32 copy_number(
	const struct frag_meta *meta, struct scratch *scratch, struct direct_stats *count)
{
	struct copy_group *group = &scratch->groups[meta->sequence % COPY_GROUPS];

	if (group->sequence != meta->sequence) {
		count->copies_lost += group->fragments - group->seen;
		*group = (struct copy_group){ .sequence = meta->sequence, .fragments = meta->fragments };
	}
	return group->seen < group->fragments ? group->seen++ : MOST_FRAGMENTS;
}

#endif
