/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PREFLIGHT_H
#define PREFLIGHT_H

#include <linux/types.h>
#include <stdbool.h>

struct interface_state {
	const char *interface; /* NULL: not asked for */
	__u32 own_program;     /* id of the program that is ours already, or 0 */
	__u32 found_program;   /* id of the program on the interface, or 0 */
};

/* What an attach would ask of the machine. */
struct requirements {
	struct interface_state interfaces[2]; /* that get a program */
	const char *pin_parent;               /* the folder that holds the pin folder */
	bool is_driver_mode;
	bool is_direct;
	__u32 max_packet_size; /* bytes; what the direct engine in driver mode has to carry */
};

/*
 * Prints a line for each thing an XDP attach needs: "ok" or "FAIL", the thing, what was found and, where it fails, what
 * is allowed and the remedy. Changes nothing on this machine. Returns whether an attach can be expected to succeed.
 */
bool check_requirements(const struct requirements *needed);

#endif
