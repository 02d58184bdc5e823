/* SPDX-License-Identifier: Apache-2.0 */
/* An engine's BPF object, and its maps, which carry settings and counters from one program to the next. */
#ifndef MAPS_H
#define MAPS_H

#include <stdbool.h>
#include <stddef.h>

#include <bpf/libbpf.h>

#include "options.h"

struct engine_object {
	struct bpf_object *object;
	struct bpf_map *config, *stats, *ids;        /* ids: only of the direct engine */
	int pinned_config, pinned_stats, pinned_ids; /* from before, or -1 */
};

/*
 * Opens the object of the engine that is asked for, with the pinned maps under it. A map that another version laid out
 * differently is replaced; so are the settings unless `keeps_config`.
 */
struct engine_object open_engine(const struct options *options, bool keeps_config);
void load_engine(const struct engine_object *engine);
void close_engine(struct engine_object *engine);

bool is_same_map(int one, int other);

/* Tells from a map of settings which engine is attached, which needs no privilege that a service lacks. */
bool is_config_of_direct(int map);

/* Reads the pinned settings, or those of the command line where nothing is pinned. Returns the map, or -1. */
int read_config(const struct options *options, union config *config);

/* Puts all settings in force at once. `direct`: what else the direct engine is told; NULL: as it is. */
void write_config(int map, const union config *config, const struct direct_config *direct);

/* Adds up over entries and CPUs what a map counts, or as much of it as is asked for: another version may count less. */
void sum_stats(int map, __u64 *sums, size_t size);

/* The same of the pinned map; whatever it counts, or only if it is of exactly this size. */
void sum_pinned_stats(const char *pin_dir, __u64 *sums, size_t size, bool is_exact);

/* Gives the new map what the old one has counted, in an entry that no program writes to. */
void carry_stats(int from, int to);

/* Returns 0 where no counters are pinned. A new map has another id, so this changes when counters begin anew. */
__u32 id_of_stats(const char *pin_dir);

#endif
