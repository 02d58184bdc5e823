/* SPDX-License-Identifier: Apache-2.0 */
/* Tells which engine runs and what it has counted: to scripts in JSON, to the journal in fields. */
#ifndef STATUS_H
#define STATUS_H

#include "options.h"

/* What a report names beside its message. */
struct engine_facts {
	const char *interface;
	bool is_direct;
	__u32 mode;
};

/* Logs a message with the facts as the journal's fields. */
void report(const struct engine_facts *facts, const char *message);

/* Logs the sums of the counters, with each as a field. */
void report_counters(const struct options *options, __u32 mode);

/* Returns all zero where another engine is, or was, attached. */
struct direct_stats read_direct_stats(const char *pin_dir);

void print_status(const struct options *options);

/*
 * Prints what a packet costs in the program on the interface. The kernel measures while somebody holds the descriptor, and
 * lets only CAP_SYS_ADMIN have it, as it does the sysctl kernel.bpf_stats_enabled; the descriptor goes with this process,
 * however that ends. Not part of `run`, which needs no such capability for all its life.
 */
void print_cost(const struct options *options);

#endif
