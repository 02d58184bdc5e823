/* SPDX-License-Identifier: GPL-2.0-only */
/* Hands out IP identifications: udp_df_direct.h says what they promise. */
#ifndef IDS_H
#define IDS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "udp_df_direct.h"

/* What a CPU has left of the block that it took last from a counter. */
struct id_block {
	__u32 number;
	__u32 left;
};

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

#endif
