/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the command line behind a verb into one struct, which every verb is given. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>

#include <linux/if_link.h>
#include <linux/types.h>

#include "direct.h"

#define BRIDGE_PROGRAM "udp_df_modifier"
#define BPFFS "/sys/fs/bpf"

/* Settings by position, for tables of them. */
#define SETTINGS (sizeof(struct gateway_config) / sizeof(__u32))
union config {
	struct gateway_config fields;
	__u32 values[SETTINGS];
};

struct options {
	const char *interface;   /* gets the program; of the direct engine: the primary one */
	const char *object_file; /* NULL: the engine's, beside the loader */
	const char *pin_dir;
	__u32 mode; /* XDP_FLAGS_SKB_MODE or XDP_FLAGS_DRV_MODE */
	bool is_direct;
	union config config;
	bool given[SETTINGS]; /* which of them the command line has */
	struct direct_interfaces interfaces;
	struct direct_config direct; /* as far as the command line tells */
};

/* Returns false where help is asked for. Dies of what is not allowed. */
bool parse_options(int argc, char **argv, struct options *options);

/* Dies of rules that no datagram can meet. */
void check_config(const union config *config);

/* Prints the settings as an object of JSON, without a newline. */
void print_config(const union config *config);

void print_option_usage(void);

static inline bool is_driver_mode(const struct options *options)
{
	return options->mode == XDP_FLAGS_DRV_MODE;
}

static inline const char *program_of(bool is_direct)
{
	return is_direct ? DIRECT_PROGRAM : BRIDGE_PROGRAM;
}

#endif
