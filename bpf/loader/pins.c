// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <linux/magic.h>

#include "errors.h"
#include "options.h"
#include "pins.h"

/* Ends the name of what is about to take another's place. bpffs allows no dots in names. */
#define NEW "_new"

static struct path path_of(const char *pin_dir, const char *name, const char *ending)
{
	struct path path;

	snprintf(path.text, sizeof(path.text), "%s/%s%s", pin_dir, name, ending);
	return path;
}

struct path pin_path(const char *pin_dir, const char *name)
{
	return path_of(pin_dir, name, "");
}

struct path pin_parent(const char *pin_dir)
{
	char copy[PATH_MAX];
	struct path parent;

	snprintf(copy, sizeof(copy), "%s", pin_dir);
	snprintf(parent.text, sizeof(parent.text), "%s", dirname(copy));
	return parent;
}

void check_pin_dir(const char *pin_dir)
{
	struct statfs file_system;

	if (statfs(pin_parent(pin_dir).text, &file_system) || file_system.f_type != BPF_FS_MAGIC)
		die_refused("--pin-dir '%s' must lie in a BPF file system, such as " BPFFS
			    "; mount one: mount -t bpf bpf " BPFFS,
			pin_dir);
}

void make_pin_dir(const char *pin_dir)
{
	if (mkdir(pin_dir, 0700) && errno != EEXIST)
		die("cannot make --pin-dir '%s': %s", pin_dir, reason());
}

int lock_pins(const char *pin_dir)
{
	const struct path parent = pin_parent(pin_dir);
	int lock = open(parent.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (lock < 0 || flock(lock, LOCK_EX))
		die("cannot lock '%s', where --pin-dir lies: %s", parent.text, reason());
	return lock;
}

static int open_path(const char *path)
{
	int fd = bpf_obj_get(path);

	if (fd < 0 && errno != ENOENT)
		die("cannot open '%s': %s", path, reason());
	return fd;
}

int open_pin(const char *pin_dir, const char *name)
{
	return open_path(pin_path(pin_dir, name).text);
}

int open_new_pin(const char *pin_dir, const char *name)
{
	return open_path(path_of(pin_dir, name, NEW).text);
}

void pin(const char *pin_dir, int fd, const char *name)
{
	const struct path path = pin_path(pin_dir, name), beside = path_of(pin_dir, name, NEW);

	unlink(beside.text);
	if (bpf_obj_pin(fd, beside.text) || rename(beside.text, path.text))
		die("cannot pin '%s': %s", path.text, reason());
}

void adopt_pin(const char *pin_dir, const char *name)
{
	const struct path path = pin_path(pin_dir, name);

	if (!rename(path_of(pin_dir, name, NEW).text, path.text))
		say("'%s' is taken over from a loader that was killed", path.text);
}

void move_pin_aside(const char *pin_dir, const char *name)
{
	const struct path path = pin_path(pin_dir, name), aside = path_of(pin_dir, name, "_foreign");

	if (rename(path.text, aside.text))
		die("'%s' is no XDP link, and cannot be moved aside: %s; remove it, or choose another --pin-dir",
			path.text, reason());
	say("'%s' is no XDP link: moved to '%s'", path.text, aside.text);
}

static void remove_path(const char *path)
{
	if (unlink(path) && errno != ENOENT)
		die("cannot remove '%s': %s", path, reason());
}

void remove_pin(const char *pin_dir, const char *name)
{
	remove_path(pin_path(pin_dir, name).text);
}

void remove_all_pins(const char *pin_dir)
{
	static const char *const names[] = { PRIMARY_LINK, SECONDARY_LINK, CONFIG_MAP, STATS_MAP, IDS_MAP };

	for (size_t i = 0; i < COUNT(names); i++) {
		remove_pin(pin_dir, names[i]);
		remove_path(path_of(pin_dir, names[i], NEW).text);
	}
	rmdir(pin_dir);
}
