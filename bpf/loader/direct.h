/* SPDX-License-Identifier: Apache-2.0 */
/* Does what only the direct engine asks of its loader. */
#ifndef DIRECT_H
#define DIRECT_H

#include <stdbool.h>
#include <stddef.h>

#include <bpf/libbpf.h>

#include "udp_df_direct.h"

/* The interfaces of a gateway, in this network namespace. */
struct direct_interfaces {
	const char *primary, *secondary, *bridge;
};

/*
 * Each function that returns a string returns NULL, or an error in one line; it then has changed nothing but, where it says
 * so, maps that no packet sees yet, and errno says whether a retry may heal it.
 */

/* Completes settings by what the interfaces say. Rules, VNI, MTU and destination are the caller's. */
const char *direct_describe(
	const struct direct_interfaces *interfaces, bool is_driver_mode, struct direct_config *config);

/*
 * Before loading: leaves out what this mode does not need, and an older kernel would refuse. `watches`: what the kernel
 * loses of redirected frames will be counted.
 */
const char *direct_prepare(struct bpf_object *object, bool is_driver_mode, bool watches);

/* After loading with `watches`: counts until this process ends. */
const char *direct_watch(struct bpf_object *object);

/* Returns whether this kernel has the type information that watching needs. */
bool direct_can_watch(void);

/* After loading and before attaching: fills every entry of the device maps. */
const char *direct_fill(struct bpf_object *object, const struct direct_config *config);

/* After loading and before attaching, where the map of identifications is new: lets every counter begin at random. */
const char *direct_seed_ids(int map);

/* Write all settings at once, between two packets; and read those in force. */
const char *direct_write(int map, const struct direct_config *config);
const char *direct_read(int map, struct direct_config *config);

/* Parses the source address of what is punted to the stack, by which netfilter knows it. Returns whether it is one host's. */
bool direct_parse_mac(const char *text, struct direct_config *config);

/* Returns whether this kernel redirects to all entries of a device map: Linux 5.13 and later. If not, errno says why. */
bool direct_can_copy(void);

/* Waits for an RCU grace period, by membarrier(2): no packet that began before is in the program any more. */
void wait_rcu_grace_period(void);

/* In the order of enum pass_reason and of the rest of struct direct_stats. */
extern const char *const direct_counters[];
#define DIRECT_COUNTERS (sizeof(struct direct_stats) / sizeof(__u64) - ROOM_FOR_RULE)

#endif
