/* SPDX-License-Identifier: Apache-2.0 */
/* Attaches programs to interfaces by pinned links. */
#ifndef LINKS_H
#define LINKS_H

#include <net/if.h>
#include <stdbool.h>

#include <linux/types.h>

/* What the kernel says about an interface. */
struct xdp_state {
	__u32 program; /* its id; 0: none */
	__u32 mode;
};

/* What a pinned link says. */
struct pinned_link {
	int fd; /* -1: nothing is pinned */
	__u32 program;
	int ifindex;     /* 0: the interface is gone, and the link attaches nothing */
	__u32 mode;      /* 0: the interface is in another network namespace */
	bool is_foreign; /* what is pinned is no XDP link */
	char interface[IF_NAMESIZE];
};

/* Where a program goes. */
struct attach_point {
	const char *pin_dir, *pin_name, *interface;
	int ifindex;
	__u32 mode;
	int bridge_ifindex;       /* of the bridge whose program may be in the way, or 0 */
	bool owns_secondary_link; /* nobody needs that one if this interface gets no program */
};

/* Returns "generic", "driver" or "none". */
const char *mode_name(__u32 mode);

struct xdp_state query_xdp(int ifindex);

struct pinned_link open_pinned_link(const char *pin_dir, const char *name);

/* Dies where the interface carries a program that is not `ours`. */
void refuse_foreign_program(const struct attach_point *point, __u32 ours);

/* Attaches a program in the place of what `old` has, without a gap where interface and mode stay. */
void attach_link(const struct attach_point *point, int program, const struct pinned_link *old);

/* Detaches the secondary interface's program, if there is one, after the last redirected packet. */
void detach_secondary(const char *pin_dir);

#endif
