/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps link and maps by name in a folder of the BPF file system, so that they outlive this process. */
#ifndef PINS_H
#define PINS_H

#include <limits.h>

#define PRIMARY_LINK "link"
/* Of the direct engine in driver mode: the secondary interface sends what is redirected to it only while it has a program. */
#define SECONDARY_LINK "secondary_link"

struct path {
	char text[PATH_MAX];
};

struct path pin_path(const char *pin_dir, const char *name);
struct path pin_parent(const char *pin_dir);

/* Dies unless the folder lies, or can be made, in a BPF file system. */
void check_pin_dir(const char *pin_dir);
void make_pin_dir(const char *pin_dir);

/* Waits until nobody else changes pins. Returns a descriptor; the lock goes with it, or with this process. */
int lock_pins(const char *pin_dir);

/* Returns a descriptor, or -1 if nothing is pinned there. The other one is for what a killed loader has left unnamed. */
int open_pin(const char *pin_dir, const char *name);
int open_new_pin(const char *pin_dir, const char *name);

/* Pins a link or a map; a name that is taken goes to the new object in one step. */
void pin(const char *pin_dir, int fd, const char *name);

/* Names the link that a loader was killed over while it pinned it. */
void adopt_pin(const char *pin_dir, const char *name);

/* Keeps what lies under a link's name and is none: detaching somebody's program is not ours to do. */
void move_pin_aside(const char *pin_dir, const char *name);

void remove_pin(const char *pin_dir, const char *name);
void remove_all_pins(const char *pin_dir);

#endif
