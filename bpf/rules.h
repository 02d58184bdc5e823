/* SPDX-License-Identifier: Apache-2.0 */
/* How rules change under traffic: all of them between two packets. For whoever has mapped the config map. */
#ifndef RULES_H
#define RULES_H

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "udp_df_modifier.h"

/* A packet that began before may still be in the program; after this it is not. membarrier(2) is a grace period of RCU. */
static inline void await_packets_on_the_way(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

static inline struct gateway_config rules_in_force(const struct gateway_config_slots *all)
{
	return all->slots[all->active & 1];
}

/* The idle slot has no readers: whoever wrote last has waited for them. One writer at a time. */
static inline void change_rules(struct gateway_config_slots *all, const struct gateway_config *rules)
{
	__u32 idle = !(all->active & 1);

	all->slots[idle] = *rules;
	__atomic_store_n(&all->active, idle, __ATOMIC_RELEASE);
	await_packets_on_the_way();
}

#endif
