/* SPDX-License-Identifier: Apache-2.0 */
/* What the direct engine asks of its loader beside what the bridge engine does. */
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
 * Each function returns NULL, or in one line what is wrong; it then has changed nothing but, where it says so, maps that
 * no packet sees yet, and errno says whether a retry may heal it.
 */

/* Completes settings by what the interfaces say. Rules, VNI, MTU and destination are the caller's. */
const char *direct_describe(
	const struct direct_interfaces *interfaces, bool is_driver_mode, struct direct_config *config);

/*
 * Before loading: nothing is loaded that this mode does not need, and that an older kernel would refuse. `watches`: what
 * becomes of redirected frames will be counted.
 */
const char *direct_prepare(struct bpf_object *object, bool is_driver_mode, bool watches);

/* After loading with `watches`: counts until this process ends. */
const char *direct_watch(struct bpf_object *object);

/* Whether this kernel has the type information that watching needs. */
bool direct_can_watch(void);

/* After loading and before attaching: every entry of the device maps. */
const char *direct_fill(struct bpf_object *object, const struct direct_config *config);

/* After loading and before attaching, where the map of identifications is new: every counter begins at random. */
const char *direct_seed_ids(int map);

/* All settings at once, between two packets; and those in force. */
const char *direct_write(int map, const struct direct_config *config);
const char *direct_read(int map, struct direct_config *config);

/* The source address of what is handed over, which netfilter knows from its rules. Returns whether it is one host's. */
bool direct_take_mac(const char *text, struct direct_config *config);

/* Whether this kernel redirects to all entries of a device map: Linux 5.13 and later. If not, errno says why. */
bool direct_can_copy(void);

/* A packet that began before may still be in the program; after this it is not. membarrier(2) is a grace period of RCU. */
void await_packets_on_the_way(void);

/* In the order of enum pass_reason and of the rest of struct direct_stats. */
extern const char *const direct_counters[];
#define DIRECT_COUNTERS (sizeof(struct direct_stats) / sizeof(__u64) - ROOM_FOR_RULE)

#endif
