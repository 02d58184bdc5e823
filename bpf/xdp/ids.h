/* SPDX-License-Identifier: GPL-2.0-only */
/* Hands out IP identifications: udp_df_direct.h says what they promise. */
#ifndef XDP_IDS_H
#define XDP_IDS_H

#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../udp_df_direct.h"
#include "checksum.h"
#include "frame.h"
#include "scratch.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ID_COUNTERS);
	__type(key, __u32);
	__type(value, struct id_counter);
} ids SEC(".maps");

/* Spreads sources that differ in any byte: the golden ratio's bits, of which the product's highest depend on all. */
static __always_inline __u32 id_counter_of(__be32 source)
{
	return source * 0x9e3779b1 / (0xffffffff / ID_COUNTERS + 1);
}

/* Locks for a block's worth of datagrams only once. Others may take blocks meanwhile: an old count only lets this one live on. */
static __always_inline __u16 next_id(struct id_block *block, struct id_counter *counter)
{
	__u32 taken = *(const volatile __u32 *)&counter->blocks;

	if (!block->left || taken - block->number > ID_BLOCK_LIFETIME) {
		bpf_spin_lock(&counter->lock);
		block->number = counter->blocks++;
		bpf_spin_unlock(&counter->lock);
		block->left = ID_BLOCK;
	}
	block->left--;
	return (block->number % ID_BLOCKS + 1) * ID_BLOCK - 1 - block->left;
}

/* Gives the datagram an identification of its own. The checksum follows with dnat(). */
static __always_inline int assign_id(struct frame *frame, struct scratch *scratch)
{
	struct iphdr *ip = frame->datagram.ip;
	__u32 which = id_counter_of(ip->saddr);
	struct id_counter *counter = bpf_map_lookup_elem(&ids, &which);
	__be16 id;

	if (!counter)
		return 0;
	/* The verifiers of Linux 6.12 and before forget the bound of a number that was shown to a helper. */
	id = bpf_htons(next_id(&scratch->ids[which & (ID_COUNTERS - 1)], counter));
	frame->id_diff = checksum_diff(ip->id, id);
	ip->id = id;
	return 1;
}

#endif
