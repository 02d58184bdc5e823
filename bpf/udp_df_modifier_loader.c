// SPDX-License-Identifier: Apache-2.0
/*
 * Hooks an engine's program to an interface through a pinned bpf_link, so that the program outlives this
 * process: a restart or an upgrade swaps it atomically, and only `detach` unhooks it. The pinned maps carry
 * settings and counters from one to the next; where a new version lays them out differently, the counters move.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <systemd/sd-daemon.h>

#include "direct.h"
#include "../lib/journal.h"
#include "preflight.h"
#include "udp_df_modifier.h"

#define PROGRAM "udp_df_modifier"
#define PROGRAM_OF_ENGINE (is_direct ? DIRECT_PROGRAM : PROGRAM)
#define BPFFS "/sys/fs/bpf"
#define LARGEST_MIRRORED 8486 /* constructs/config/limits.ts says why */
#define LOOK_SECONDS 5        /* between two looks at the hook; the status is logged once a minute */
#define LEAST_LOST 100        /* frames in that time that say something about the engine */
#define MEASURED_SECONDS 1    /* not longer: while the kernel measures, each packet costs some nanoseconds more */
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

#define say(...) journal(LOG_INFO, NULL, 0, __VA_ARGS__)
/* Leaves nothing half done: a link that is not pinned yet goes with the process. */
#define die(...) (journal(LOG_ERR, NULL, 0, __VA_ARGS__), exit(EXIT_FAILURE))
/* What no retry heals, so that systemd does not try again (RestartPreventExitStatus): sysexits.h's EX_CONFIG. */
#define EXIT_REFUSED 78
/* Of `run`: it worked, but loses what it redirects. */
#define EXIT_GIVEN_UP 79
#define die_refused(...) (journal(LOG_ERR, NULL, 0, __VA_ARGS__), exit(EXIT_REFUSED))

/* No letters: they are what getopt says of an unknown short option. One value each, or an abbreviation of several fits. */
enum option_value {
	SETTING = 256,
	INTERFACE = SETTING + 100,
	MODE,
	OBJECT,
	PIN_DIR,
	HELP,
	ENGINE,
	SECONDARY,
	BRIDGE,
	VNI,
	EGRESS_MTU,
	IPSEC_VM_IP,
	IPSEC_VM_PORT,
	HANDOVER_MAC
};

/* The settings come first, in the order of struct gateway_config. */
static const struct option options[] = {
	{ "target-port", required_argument, NULL, SETTING },
	{ "min-packet-size", required_argument, NULL, SETTING + 1 },
	{ "max-packet-size", required_argument, NULL, SETTING + 2 },
	{ "traffic-percent", required_argument, NULL, SETTING + 3 },
	{ "interface", required_argument, NULL, INTERFACE },
	{ "mode", required_argument, NULL, MODE },
	{ "object", required_argument, NULL, OBJECT },
	{ "pin-dir", required_argument, NULL, PIN_DIR },
	{ "engine", required_argument, NULL, ENGINE },
	{ "secondary", required_argument, NULL, SECONDARY },
	{ "bridge", required_argument, NULL, BRIDGE },
	{ "vni", required_argument, NULL, VNI },
	{ "egress-mtu", required_argument, NULL, EGRESS_MTU },
	{ "ipsec-vm-ip", required_argument, NULL, IPSEC_VM_IP },
	{ "ipsec-vm-port", required_argument, NULL, IPSEC_VM_PORT },
	{ "handover-mac", required_argument, NULL, HANDOVER_MAC },
	{ "help", no_argument, NULL, HELP },
	{ 0 },
};

/* The bounds are those of the stack (constructs/config/config.ts). */
static const struct {
	const char *key;
	__u32 min, max, initial;
} settings[] = {
	{ "target_port", 1, 65535, 31765 },
	{ "min_packet_size", 28, 9001, 1400 },
	{ "max_packet_size", 28, 9001, 9000 },
	{ "traffic_percent", 0, 100, 100 },
};

/* In the order of struct gateway_stats. */
static const char *const counters[] = {
	"packets_seen",
	"packets_matched",
	"packets_modified",
	"bytes_processed",
	"packets_left_to_netfilter",
	"packets_malformed",
	"fragments_seen",
};

/* Both structs as the tables above name them. */
union config {
	struct gateway_config fields;
	__u32 values[COUNT(settings)];
};
union stats {
	struct gateway_stats fields;
	__u64 values[COUNT(counters)];
};
union direct_stats_values {
	struct direct_stats fields;
	__u64 values[sizeof(struct direct_stats) / sizeof(__u64)];
};
_Static_assert(sizeof(union config) == sizeof(struct gateway_config), "every setting has a name");
_Static_assert(sizeof(union stats) == sizeof(struct gateway_stats), "every counter has a name");

static const char *interface, *object_file, *pin_dir = BPFFS "/mirror_gateway";
static __u32 mode = XDP_FLAGS_SKB_MODE;
static union config wanted;
static bool given[COUNT(settings)];
static bool is_direct;
static bool watches; /* what becomes of redirected frames, while this process runs */
static struct direct_interfaces interfaces = { .bridge = "br0" };
static struct direct_config direct_wanted = { .vni = 1, .egress_mtu = 9001 };

static const char *reason(void)
{
	return errno == EPERM || errno == EACCES ? "not permitted; run as root" : strerror(errno);
}

static const char *mode_name(__u32 flags)
{
	return flags == XDP_FLAGS_SKB_MODE ? "generic" : flags == XDP_FLAGS_DRV_MODE ? "driver" : "none";
}

static const char *pin_path(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", pin_dir, name);
	return path;
}

static const char *pin_parent(void)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", pin_dir);
	return dirname(path);
}

static int pin_lock = -1;

/* One at a time may change what is pinned. The kernel lets go when this process ends, however it does. */
static void lock_pins(void)
{
	pin_lock = open(pin_parent(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (pin_lock < 0 || flock(pin_lock, LOCK_EX))
		die("cannot lock '%s', where --pin-dir lies: %s", pin_parent(), reason());
}

static void unlock_pins(void)
{
	close(pin_lock);
}

/* Returns -1 if nothing is pinned there. */
static int open_pin(const char *name)
{
	int fd = bpf_obj_get(pin_path(name));

	if (fd < 0 && errno != ENOENT)
		die("cannot open '%s': %s", pin_path(name), reason());
	return fd;
}

/* Of the direct engine in driver mode: the secondary interface sends what is redirected to it only while it has a program. */
#define SECONDARY_LINK "secondary_link"

/* Each also with _new, while it is put in the place of the one before. */
static const char *const pins[] = { "link", SECONDARY_LINK, CONFIG_MAP, STATS_MAP, IDS_MAP };

static const char *name_beside(const char *name)
{
	static char beside[NAME_MAX];

	snprintf(beside, sizeof(beside), "%s_new", name);
	return beside;
}

static void remove_pin(const char *name)
{
	if (unlink(pin_path(name)) && errno != ENOENT)
		die("cannot remove '%s': %s", pin_path(name), reason());
}

/* What the kernel says about an interface. */
struct xdp {
	__u32 program; /* 0: none */
	__u32 mode;
};

static struct xdp query_xdp(int ifindex)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, now);

	if (bpf_xdp_query(ifindex, 0, &now))
		die("cannot ask the kernel for the XDP program of interface %d: %s", ifindex, reason());
	if (now.skb_prog_id)
		return (struct xdp){ now.skb_prog_id, XDP_FLAGS_SKB_MODE };
	return (struct xdp){ now.drv_prog_id, now.drv_prog_id ? XDP_FLAGS_DRV_MODE : 0 };
}

/* What the pinned link says. */
struct hook {
	int link; /* -1: nothing is pinned */
	__u32 program;
	int ifindex;     /* 0: the interface is gone, and the link hooks nothing */
	__u32 mode;      /* 0: the interface is in another network namespace */
	bool is_foreign; /* what is pinned is no XDP link */
	char interface[IF_NAMESIZE];
};

static struct hook pinned_hook_of(const char *name)
{
	struct hook hook = { .link = open_pin(name) };
	struct bpf_link_info info = { 0 };
	__u32 size = sizeof(info);

	if (hook.link < 0)
		hook.link = open_pin(name_beside(name)); /* of a loader that was killed before it had its name */
	if (hook.link < 0)
		return hook;
	if (bpf_obj_get_info_by_fd(hook.link, &info, &size) || info.type != BPF_LINK_TYPE_XDP) {
		close(hook.link);
		return (struct hook){ .link = -1, .is_foreign = true };
	}
	hook.program = info.prog_id;
	hook.ifindex = info.xdp.ifindex;
	if (!hook.ifindex || !if_indextoname(hook.ifindex, hook.interface))
		return hook;
	/* In this namespace the index may be another interface's: our program on it is the proof. */
	struct xdp xdp = query_xdp(hook.ifindex);

	if (xdp.program == hook.program)
		hook.mode = xdp.mode;
	else
		hook.interface[0] = '\0';
	return hook;
}

static struct hook pinned_hook(void)
{
	return pinned_hook_of("link");
}

static void die_if_foreign(int ifindex, __u32 ours)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info), id = query_xdp(ifindex).program;

	if (!id || id == ours)
		return;
	bpf_obj_get_info_by_fd(bpf_prog_get_fd_by_id(id), &info, &size);
	die_refused("interface '%s' carries another XDP program, '%s' (id %u), not pinned in '%s': it is left alone; "
		    "detach it with its own tool, or 'ip link set dev %s xdp off'",
		interface, info.name, id, pin_dir, interface);
}

/* What the kernel says no to, and not what it has no memory or no time for. */
static bool is_final(int error)
{
	return error == EACCES || error == EINVAL || error == E2BIG || error == EOPNOTSUPP || error == EPERM ||
	       error == ERANGE || error == EEXIST;
}

static void die_refused_by_driver(void)
{
	if (!is_final(errno))
		die("interface '%s' takes no XDP program now: %s", interface, reason());
	if (errno == EEXIST)
		die_refused(
			"interface '%s' refuses XDP: it, or the bridge that it belongs to, carries another program; "
			"see: bpftool net",
			interface);
	if (mode == XDP_FLAGS_SKB_MODE)
		die_refused("interface '%s' refuses XDP: %s; an XDP link needs Linux 5.9", interface, reason());
	die_refused("interface '%s' refuses --mode driver: %s; a bridge or VXLAN device has no such mode, ENA wants an "
		    "MTU of at most 3498 and at most half its channels; or use --mode generic",
		interface, reason());
}

/* A name that is taken goes to the new object in one step. bpffs allows no dots in names. */
static void pin(int fd, const char *name)
{
	char path[PATH_MAX], beside[PATH_MAX];

	snprintf(path, sizeof(path), "%s", pin_path(name));
	snprintf(beside, sizeof(beside), "%s", pin_path(name_beside(name)));
	unlink(beside);
	if (bpf_obj_pin(fd, beside) || rename(beside, path))
		die("cannot pin '%s': %s", path, reason());
}

static bool is_secondary_new; /* nobody needs its hook if the primary interface gets none */

static void unhook_old(const struct hook *old)
{
	if (old->link < 0)
		return;
	say("the hook on interface '%s' is replaced", old->ifindex ? old->interface : "(gone)");
	bpf_link_detach(old->link);
}

/*
 * No port of a bridge takes a program while the bridge has one (dev_xdp_attach, net/core/dev.c): ours goes first then. Until
 * the new one is hooked, packets take the way without XDP.
 */
static int create_link(int program, int ifindex)
{
	LIBBPF_OPTS(bpf_link_create_opts, how, .flags = mode);
	int link = bpf_link_create(program, ifindex, BPF_XDP, &how);

	if (link >= 0 || errno != EEXIST)
		return link;
	struct hook hooked = pinned_hook();

	if (hooked.ifindex && hooked.ifindex == (int)direct_wanted.bridge_ifindex)
		bpf_link_detach(hooked.link);
	close(hooked.link);
	return bpf_link_create(program, ifindex, BPF_XDP, &how);
}

static void hook_up(int program, int ifindex, const struct hook *old, const char *name)
{
	int link;

	if (old->mode == mode && old->ifindex == ifindex) {
		if (bpf_link_update(old->link, program, NULL))
			die("cannot update the program on interface '%s': %s", interface, reason());
		return;
	}
	/* An interface runs one mode at a time: there the old hook must go first. */
	if (old->ifindex == ifindex)
		unhook_old(old);
	link = create_link(program, ifindex);
	if (link < 0) {
		int error = errno;

		if (is_secondary_new)
			remove_pin(SECONDARY_LINK);
		errno = error;
		die_refused_by_driver();
	}
	pin(link, name);
	close(link);
	if (old->ifindex != ifindex)
		unhook_old(old);
}

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list values)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, values) : 0;
}

static struct bpf_object *open_object(void)
{
	static char beside[PATH_MAX];
	struct bpf_object *object;

	if (!object_file && readlink("/proc/self/exe", beside, sizeof(beside) - sizeof("/" PROGRAM ".bpf.o")) > 0)
		object_file = strcat(strcat(strcat(dirname(beside), "/"), PROGRAM_OF_ENGINE), ".bpf.o");
	libbpf_set_print(NULL);
	object = bpf_object__open_file(object_file, NULL);
	if (!object)
		die("cannot read the BPF object '%s': %s; build it with make -C bpf, or name another with --object",
			object_file, errno < 4000 ? reason() : "no BPF object");
	libbpf_set_print(print_libbpf);
	return object;
}

/*
 * The pinned map goes on under the new program, unless another version laid it out differently or it may not: then the new
 * map is a fresh one. Returns the pinned map, or -1.
 */
static int keep_map(struct bpf_map *map, const char *name, size_t size, bool may)
{
	struct bpf_map_info info = { 0 };
	__u32 info_size = sizeof(info);
	int pinned = open_pin(name);

	if (!map || bpf_map__value_size(map) != size)
		die_refused(
			"the BPF object '%s' is of another version than this loader: build both anew: deploy_xdp.sh install",
			object_file);
	if (pinned < 0)
		return -1;
	if (!may)
		return pinned;
	if (bpf_obj_get_info_by_fd(pinned, &info, &info_size) || info.type != bpf_map__type(map) ||
		info.key_size != bpf_map__key_size(map) || info.value_size != size ||
		info.max_entries != bpf_map__max_entries(map) || info.map_flags != bpf_map__map_flags(map))
		say("'%s' is of another version: replaced", pin_path(name));
	else if (bpf_map__reuse_fd(map, pinned))
		die("cannot use '%s': %s", pin_path(name), reason());
	return pinned;
}

static bool is_same_map(int one, int other)
{
	struct bpf_map_info infos[2] = { 0 };
	__u32 size = sizeof(*infos);

	return !bpf_obj_get_info_by_fd(one, &infos[0], &size) && !bpf_obj_get_info_by_fd(other, &infos[1], &size) &&
	       infos[0].id == infos[1].id;
}

static void print_config(const union config *config)
{
	for (size_t i = 0; i < COUNT(settings); i++)
		printf("%s\"%s\":%u", i ? "," : "{", settings[i].key, config->values[i]);
	putchar('}');
}

static void check_config(const union config *config)
{
	if (config->fields.min_packet_size >= LARGEST_MIRRORED)
		die("--min-packet-size %u must be less than %u, the longest datagram that is mirrored whole",
			config->fields.min_packet_size, LARGEST_MIRRORED);
	if (config->fields.min_packet_size >= config->fields.max_packet_size)
		die("--min-packet-size %u must be less than --max-packet-size %u, or nothing matches",
			config->fields.min_packet_size, config->fields.max_packet_size);
}

/* What a function of the direct engine complains of; errno says whether a retry may heal it. */
static void die_of(const char *complaint)
{
	if (complaint && is_final(errno))
		die_refused("%s", complaint);
	if (complaint)
		die("%s", complaint);
}

static size_t size_of_value(int map)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);

	return bpf_obj_get_info_by_fd(map, &info, &size) ? 0 : info.value_size;
}

/* Whose settings these are: it tells which engine is hooked, and needs no privilege that a service lacks. */
static bool is_of_direct(int map)
{
	return map >= 0 && size_of_value(map) != sizeof(struct gateway_config_slots);
}

static struct gateway_config_slots *map_config(int map)
{
	void *all = mmap(NULL, sizeof(struct gateway_config_slots), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);

	if (all == MAP_FAILED)
		die("cannot map the settings: %s; attach again, in case another version made the map", reason());
	return all;
}

/* All settings at once. The idle slot may have readers yet, if whoever wrote last was killed before it had waited for them. */
static void write_config(int map, const union config *config)
{
	if (size_of_value(map) == sizeof(struct direct_config_slots)) {
		if (!is_direct)
			die_of(direct_read(map, &direct_wanted));
		direct_wanted.rule = config->fields;
		die_of(direct_write(map, &direct_wanted));
		return;
	}
	struct gateway_config_slots *all = map_config(map);
	__u32 idle = !(all->active & 1);

	await_packets_on_the_way();
	all->slots[idle] = config->fields;
	__atomic_store_n(&all->active, idle, __ATOMIC_RELEASE);
	await_packets_on_the_way();
	munmap(all, sizeof(*all));
}

/* Adds up over entries and CPUs what a map counts, or as much of it as is asked for: another version may count less. */
static void sum_stats(int map, __u64 *sums, size_t size)
{
	struct bpf_map_info info = { 0 };
	__u32 info_size = sizeof(info);
	int cpus = libbpf_num_possible_cpus();

	if (map < 0 || bpf_obj_get_info_by_fd(map, &info, &info_size) || info.type != BPF_MAP_TYPE_PERCPU_ARRAY)
		return;
	/* The kernel gives each CPU's value a multiple of 8 bytes. */
	size_t known = info.value_size / sizeof(__u64), stride = (info.value_size + 7) / 8;
	__u64 *each = calloc(cpus, stride * sizeof(__u64));

	for (__u32 entry = 0; each && entry < info.max_entries; entry++) {
		if (bpf_map_lookup_elem(map, &entry, each))
			continue;
		for (int cpu = 0; cpu < cpus; cpu++)
			for (size_t i = 0; i < size / sizeof(__u64) && i < known; i++)
				sums[i] += each[cpu * stride + i];
	}
	free(each);
}

/* All zero if no map is pinned. */
static union stats read_stats(void)
{
	union stats sums = { 0 };
	int map = open_pin(STATS_MAP);

	sum_stats(map, sums.values, sizeof(sums));
	close(map);
	return sums;
}

/* What the old map has counted goes to an entry of the new one that no program writes to. Both begin with the rule's counters. */
static void carry_stats(int from, int to)
{
	size_t size = size_of_value(to);
	/* The first CPU's value begins the array. */
	__u64 *each = calloc(libbpf_num_possible_cpus(), (size + 7) / 8 * 8);

	if (!each)
		die("cannot carry the counters over: %s", reason());
	await_packets_on_the_way();
	sum_stats(from, each, size);
	if (bpf_map_update_elem(to, &(__u32){ STATS_CARRIED }, each, BPF_ANY))
		die("cannot carry the counters over: %s", reason());
	free(each);
}

/* Facts as the journal's fields: engine, mode and interface, and with `sums` every counter. */
static void report(int priority, __u32 xdp_mode, const union stats *sums, const char *message)
{
	struct journal_field fields[3 + COUNT(counters)] = { { "ENGINE", "" } };
	char names[COUNT(counters)][32];
	int count = 3;

	_Static_assert(COUNT(fields) <= JOURNAL_FIELDS, "every fact has a field");
	snprintf(fields[0].value, sizeof(fields[0].value), "%s", is_direct ? "direct" : "bridge");
	fields[1].name = "XDP_MODE";
	snprintf(fields[1].value, sizeof(fields[1].value), "%s", mode_name(xdp_mode));
	fields[2].name = "INTERFACE";
	snprintf(fields[2].value, sizeof(fields[2].value), "%s", interface);
	for (size_t i = 0; sums && i < COUNT(counters); i++) {
		for (size_t c = 0; c <= strlen(counters[i]); c++)
			names[i][c] = toupper(counters[i][c]);
		fields[count].name = names[i];
		snprintf(fields[count++].value, sizeof(fields->value), "%llu", sums->values[i]);
	}
	journal(priority, fields, count, "%s", message);
}

static void summarize(__u32 xdp_mode)
{
	union stats sums = read_stats();
	char message[160];

	snprintf(message, sizeof(message), "%s: %llu seen, %llu modified, %llu left to netfilter, %llu malformed",
		interface, sums.fields.packets_seen, sums.fields.packets_modified,
		sums.fields.packets_left_to_netfilter, sums.fields.packets_malformed);
	report(LOG_INFO, xdp_mode, &sums, message);
}

static void report_hooked(bool is_update)
{
	__u32 xdp_mode = query_xdp(if_nametoindex(interface)).mode;
	char message[128];

	snprintf(message, sizeof(message), "%s %s %s in %s mode", PROGRAM_OF_ENGINE,
		is_update ? "updated on" : "hooked to", interface, mode_name(xdp_mode));
	report(LOG_NOTICE, xdp_mode, NULL, message);
}

/* What lies under the link's name and is none is kept: unhooking somebody's program is not ours to do. */
static void move_aside(const char *name)
{
	char path[PATH_MAX], aside[PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s", pin_path(name));
	snprintf(aside, sizeof(aside), "%s_foreign", path);
	if (rename(path, aside))
		die("'%s' is no XDP link, and cannot be moved aside: %s; remove it, or choose another --pin-dir", path,
			reason());
	say("'%s' is no XDP link: moved to '%s'", path, aside);
}

/* A loader that was killed while it pinned its link has left the live one beside its name. */
static void adopt_link(const char *name)
{
	char path[PATH_MAX], beside[PATH_MAX];

	snprintf(path, sizeof(path), "%s", pin_path(name));
	snprintf(beside, sizeof(beside), "%s", pin_path(name_beside(name)));
	if (!rename(beside, path))
		say("'%s' is taken over from a loader that was killed", path);
}

static void check_pin_dir(void)
{
	struct statfs file_system;

	if (statfs(pin_parent(), &file_system) || file_system.f_type != BPF_FS_MAGIC)
		die_refused("--pin-dir '%s' must lie in a BPF file system, such as " BPFFS
			    "; mount one: mount -t bpf bpf " BPFFS,
			pin_dir);
}

static void make_pin_dir(void)
{
	if (mkdir(pin_dir, 0700) && errno != EEXIST)
		die("cannot make --pin-dir '%s': %s", pin_dir, reason());
}

/* Pinned at once: which counters a program that is never attached would have taken them from does not matter. */
static void prepare_ids(int map, int old)
{
	if (is_same_map(old, map))
		return;
	die_of(direct_seed_ids(map));
	pin(map, IDS_MAP);
}

/* The way out comes before whatever sends something there. */
static void prepare_direct(struct bpf_object *object)
{
	struct bpf_program *pass = bpf_object__find_program_by_name(object, PASS_PROGRAM);
	struct hook old = pinned_hook_of(SECONDARY_LINK);

	interfaces.primary = interface;
	if (mode == XDP_FLAGS_DRV_MODE && !direct_can_copy()) {
		if (!is_final(errno))
			die("cannot try whether this kernel redirects to several interfaces: %s", reason());
		die_refused(
			"the direct engine needs Linux 5.13 in driver mode: this kernel redirects to one interface only; "
			"use --mode generic");
	}
	die_of(direct_describe(&interfaces, mode == XDP_FLAGS_DRV_MODE, &direct_wanted));
	die_of(direct_fill(object, &direct_wanted));
	if (mode == XDP_FLAGS_DRV_MODE) {
		interface = interfaces.secondary;
		die_if_foreign(direct_wanted.egress_ifindex, old.program);
		if (old.is_foreign)
			move_aside(SECONDARY_LINK);
		hook_up(bpf_program__fd(pass), direct_wanted.egress_ifindex, &old, SECONDARY_LINK);
		interface = interfaces.primary;
		is_secondary_new = old.link < 0;
	}
	close(old.link);
}

/*
 * What was redirected before has left when no packet is in the program any more that redirects. The kernel lets go of a link
 * without a pin in its own time (kernel/bpf/inode.c, bpf_free_inode), but ENA takes a larger MTU only without a program.
 */
static void let_go_of_way_out(void)
{
	struct hook way_out = pinned_hook_of(SECONDARY_LINK);

	if (way_out.link < 0)
		return;
	await_packets_on_the_way();
	bpf_link_detach(way_out.link);
	close(way_out.link);
	remove_pin(SECONDARY_LINK);
}

static void attach(void)
{
	int ifindex = interface ? if_nametoindex(interface) : 0;

	if (!interface)
		die("--interface is missing: name the interface to hook, as in --interface br0");
	if (!ifindex)
		die("interface '%s' is not in this network namespace: create it, or name another", interface);
	if (is_direct && (!interfaces.secondary || !direct_wanted.ipsec_vm_ip || !direct_wanted.ipsec_vm_port))
		die("--secondary, --ipsec-vm-ip or --ipsec-vm-port is missing: the direct engine sends there");
	check_config(&wanted);
	check_pin_dir();
	lock_pins();
	adopt_link("link");
	adopt_link(SECONDARY_LINK);
	struct hook old = pinned_hook();

	die_if_foreign(ifindex, old.program);
	struct bpf_object *object = open_object();
	struct bpf_map *config = bpf_object__find_map_by_name(object, CONFIG_MAP);
	struct bpf_map *stats = bpf_object__find_map_by_name(object, STATS_MAP);
	struct bpf_map *ids = bpf_object__find_map_by_name(object, IDS_MAP);
	bool is_update = old.mode == mode && old.ifindex == ifindex;
	/* What the direct engine may do depends on the mode: its program must not see the settings of the other one. */
	int old_config = keep_map(config, CONFIG_MAP,
		is_direct ? sizeof(struct direct_config_slots) : sizeof(struct gateway_config_slots),
		!is_direct || is_update);
	int old_stats = keep_map(stats, STATS_MAP, is_direct ? sizeof(struct direct_stats) : sizeof(union stats), true);

	int old_ids = is_direct ? keep_map(ids, IDS_MAP, sizeof(struct id_counter), true) : -1;

	if (is_direct)
		die_of(direct_prepare(object, mode == XDP_FLAGS_DRV_MODE, watches));
	if (bpf_object__load(object)) {
		if (is_final(errno))
			die_refused("the kernel refused the BPF program: the lines above say why");
		die("the BPF program cannot be loaded now: %s", reason());
	}
	make_pin_dir();
	if (old.is_foreign)
		move_aside("link");
	if (is_direct) {
		prepare_ids(bpf_map__fd(ids), old_ids);
		prepare_direct(object);
	}
	bool keeps_config = is_same_map(old_config, bpf_map__fd(config));

	/* A new map, all zero, matches nothing: its rules come before its program. One that is kept has rules in force. */
	if (!keeps_config)
		write_config(bpf_map__fd(config), &wanted);
	hook_up(bpf_program__fd(bpf_object__next_program(object, NULL)), ifindex, &old, "link");
	if (!is_direct || mode != XDP_FLAGS_DRV_MODE)
		let_go_of_way_out();
	/* Not before: a refused attach must change nothing. */
	if (keeps_config)
		write_config(old_config, &wanted);
	else
		pin(bpf_map__fd(config), CONFIG_MAP);
	if (!is_same_map(old_stats, bpf_map__fd(stats))) {
		carry_stats(old_stats, bpf_map__fd(stats));
		pin(bpf_map__fd(stats), STATS_MAP);
	}
	if (is_direct && watches)
		die_of(direct_watch(object));
	bpf_object__close(object);
	close(old_config);
	close(old_stats);
	close(old_ids);
	close(old.link);
	report_hooked(is_update);
}

/* The pinned settings, or where nothing is pinned those of the command line. Returns the map, or -1. */
static int read_config(union config *config)
{
	int map = open_pin(CONFIG_MAP);
	struct gateway_config_slots *all;

	*config = wanted;
	if (map >= 0 && size_of_value(map) == sizeof(struct direct_config_slots)) {
		struct direct_config direct;

		die_of(direct_read(map, &direct));
		config->fields = direct.rule;
	} else if (map >= 0) {
		all = map_config(map);
		config->fields = all->slots[all->active & 1];
		munmap(all, sizeof(*all));
	}
	return map;
}

/* All zero where another engine is, or was, attached. */
static union direct_stats_values read_direct_stats(void)
{
	union direct_stats_values sums = { 0 };
	int map = open_pin(STATS_MAP);

	if (size_of_value(map) == sizeof(sums))
		sum_stats(map, sums.values, sizeof(sums));
	close(map);
	return sums;
}

static void print_direct_counters(void)
{
	union direct_stats_values sums = read_direct_stats();

	for (size_t i = 0; i < DIRECT_COUNTERS; i++)
		printf(",\"%s\":%llu", direct_counters[i], sums.values[ROOM_FOR_RULE + i]);
}

/* Since the boot, for whoever compares two readings. */
static double uptime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Changes with the map, and so when counters begin anew; 0 where there is none. */
static __u32 id_of_stats(void)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);
	int map = open_pin(STATS_MAP);

	if (map >= 0)
		bpf_obj_get_info_by_fd(map, &info, &size);
	close(map);
	return info.id;
}

static void status(void)
{
	struct hook hook = pinned_hook();
	union stats sums = read_stats();
	double read_at = uptime();
	union config config;

	int map = read_config(&config);

	printf("{\"attached\":%s,\"engine\":\"%s\",\"interface\":\"%s\",\"xdp_mode\":\"%s\"",
		hook.ifindex ? "true" : "false",
		!hook.ifindex       ? "none"
		: is_of_direct(map) ? "direct"
				    : "bridge",
		hook.interface, mode_name(hook.mode));
	for (size_t i = 0; i < COUNT(counters); i++)
		printf(",\"%s\":%llu", counters[i], sums.values[i]);
	if (is_of_direct(map))
		print_direct_counters();
	printf(",\"stats_map\":%u,\"uptime\":%.3f,\"config\":", id_of_stats(), read_at);
	close(map);
	close(hook.link);
	print_config(&config);
	puts("}");
	fflush(stdout);
}

static struct bpf_prog_info statistics_of(int program)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(program, &info, &size))
		die("cannot read the program's run-time statistics: %s", reason());
	return info;
}

/*
 * What a packet costs in the program on the interface. The kernel measures while somebody holds the descriptor, and lets
 * only CAP_SYS_ADMIN have it, as it does the sysctl kernel.bpf_stats_enabled; the descriptor goes with this process, however
 * that ends. Not part of `run`, which needs no such capability for all its life.
 */
static void measure(void)
{
	struct hook hook = pinned_hook();
	struct timespec second = { MEASURED_SECONDS, 0 };
	__u64 packets = 0, nanoseconds = 0;

	if (hook.ifindex) {
		int program = bpf_prog_get_fd_by_id(hook.program), on = bpf_enable_stats(BPF_STATS_RUN_TIME);

		if (program < 0 || on < 0)
			die("cannot measure the program on interface '%s': %s", hook.interface, reason());
		struct bpf_prog_info before = statistics_of(program);

		nanosleep(&second, NULL);
		struct bpf_prog_info after = statistics_of(program);

		packets = after.run_cnt - before.run_cnt;
		nanoseconds = after.run_time_ns - before.run_time_ns;
		close(on);
		close(program);
	}
	close(hook.link);
	printf("{\"measured_at\":%.3f,\"packets\":%llu", uptime(), packets);
	if (packets)
		printf(",\"nanoseconds\":%.1f", (double)nanoseconds / packets);
	puts("}");
}

static void detach(void)
{
	lock_pins();
	adopt_link("link");
	adopt_link(SECONDARY_LINK);
	struct hook hook = pinned_hook();
	char message[128];

	if (hook.is_foreign)
		move_aside("link");
	if (pinned_hook_of(SECONDARY_LINK).is_foreign)
		move_aside(SECONDARY_LINK);

	int config = open_pin(CONFIG_MAP);

	is_direct = is_of_direct(config);
	close(config);
	interface = *hook.interface ? hook.interface : "elsewhere";
	if (hook.ifindex && bpf_link_detach(hook.link))
		die("cannot detach '%s': %s", pin_path("link"), reason());
	let_go_of_way_out();
	for (size_t i = 0; i < COUNT(pins); i++) {
		remove_pin(pins[i]);
		remove_pin(name_beside(pins[i]));
	}
	rmdir(pin_dir);
	if (hook.ifindex) {
		snprintf(message, sizeof(message), "%s detached from interface %s", PROGRAM_OF_ENGINE, interface);
		report(LOG_NOTICE, hook.mode, NULL, message);
	} else
		say("nothing was attached by way of '%s'", pin_dir);
}

/* Returns what makes this process useless, or NULL. */
static const char *look_at_hooks(void)
{
	static char gone[128];
	struct hook hook = pinned_hook(), way_out = pinned_hook_of(SECONDARY_LINK);
	const char *name = !hook.ifindex ? interface : NULL;

	if (way_out.link >= 0 && !way_out.ifindex)
		name = interfaces.secondary;
	close(hook.link);
	close(way_out.link);
	if (!name)
		return NULL;
	snprintf(gone, sizeof(gone), "interface '%s' is gone or was unhooked by another process", name);
	return gone;
}

/* Interfaces come back with other indices, addresses and MTUs, which the direct engine has from its settings. */
static const char *look_at_interfaces(void)
{
	struct direct_config now = direct_wanted;
	const char *wrong = direct_describe(&interfaces, mode == XDP_FLAGS_DRV_MODE, &now);

	if (wrong)
		return wrong;
	return memcmp(&now, &direct_wanted, sizeof(now)) ? "an interface has changed" : NULL;
}

/* Of copies for an interface that takes none, the kernel does not even say that it made none. */
static __u64 lost_by(const struct direct_stats *stats)
{
	return stats->redirects_refused + stats->fragments_due - stats->fragments_sent;
}

/* More than one in a hundred is lost for a reason that does not pass: another engine does better. */
static void give_up_if_lost(struct direct_stats *before)
{
	struct direct_stats now = read_direct_stats().fields;
	__s64 lost = lost_by(&now) - lost_by(before);
	__s64 sent = now.sent_whole + now.fragments_due - before->sent_whole - before->fragments_due;

	*before = now;
	if (lost < LEAST_LOST || lost * 100 <= sent)
		return;
	detach();
	journal(LOG_ERR, NULL, 0, "%lld of %lld redirected frames were lost in %d s: the engine is given up", lost,
		sent, LOOK_SECONDS);
	exit(EXIT_GIVEN_UP);
}

static void run(void)
{
	struct direct_stats before;
	const char *wrong = NULL;
	sigset_t stop;

	/* Blocked first, so that no signal falls between attaching and waiting. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	watches = is_direct && direct_can_watch();
	attach();
	unlock_pins();
	if (is_direct && !watches)
		say("this kernel has no type information (CONFIG_DEBUG_INFO_BTF): refused redirects are not noticed");
	before = read_direct_stats().fields;
	sd_notify(0, "READY=1");
	for (int looks = 1; sigtimedwait(&stop, NULL, &(struct timespec){ LOOK_SECONDS, 0 }) < 0; looks++) {
		wrong = look_at_hooks();
		if (!wrong && is_direct)
			wrong = look_at_interfaces();
		if (wrong)
			die("%s: start again to hook it", wrong);
		if (is_direct)
			give_up_if_lost(&before);
		if (looks % (60 / LOOK_SECONDS) == 0)
			summarize(mode);
	}
	summarize(query_xdp(if_nametoindex(interface)).mode);
	say("%s stays hooked until 'detach'", interface);
}

static void configure(void)
{
	lock_pins();
	union config config;
	int map = read_config(&config);

	for (size_t i = 0; i < COUNT(settings); i++)
		if (given[i])
			config.values[i] = wanted.values[i];
	check_config(&config);
	if (map >= 0)
		write_config(map, &config);
	print_config(&config);
	putchar('\n');
}

static struct place place_of(const char *name, const char *pin_name)
{
	struct hook hook = pinned_hook_of(pin_name);
	int ifindex = name ? if_nametoindex(name) : 0;
	struct place place = { .interface = name, .own_program = hook.program };

	close(hook.link);
	if (ifindex)
		place.found_program = query_xdp(ifindex).program;
	return place;
}

static void try_out(void)
{
	bool is_driver_mode = mode == XDP_FLAGS_DRV_MODE;
	struct wish wish = {
		.places = { place_of(interface, "link") },
		.pin_parent = pin_parent(),
		.is_driver_mode = is_driver_mode,
		.is_direct = is_direct,
		.max_packet_size = wanted.fields.max_packet_size,
	};

	if (is_direct && is_driver_mode)
		wish.places[1] = place_of(interfaces.secondary, SECONDARY_LINK);
	if (!preflight(&wish))
		exit(EXIT_REFUSED);
}

static const struct {
	const char *name;
	void (*act)(void);
	const char *purpose;
} verbs[] = {
	{ "preflight", try_out, "probe what an attach needs, a line each; changes nothing" },
	{ "attach", attach, "hook the program to --interface, or update it there atomically" },
	{ "run", run, "attach, then log a summary each minute; the program stays hooked after the end" },
	{ "detach", detach, "unhook the program and remove its pins" },
	{ "status", status, "print state, counters and settings as a line of JSON" },
	{ "measure", measure, "print the nanoseconds that a packet costs, over a second, as a line of JSON" },
	{ "config", configure, "check the settings given, apply them if attached, and print all" },
};

static void help(void)
{
	puts("usage: udp_df_modifier_loader VERB [OPTION]...");
	for (size_t i = 0; i < COUNT(verbs); i++)
		printf("  %-9s %s\n", verbs[i].name, verbs[i].purpose);
	puts("options:\n"
	     "  --interface NAME\n"
	     "  --mode generic|driver (generic)\n"
	     "  --engine bridge|direct (bridge)\n"
	     "  --object FILE (" PROGRAM ".bpf.o, or udp_df_direct.bpf.o, beside the loader)\n"
	     "  --pin-dir DIR (" BPFFS "/mirror_gateway)");
	puts("of the direct engine, whose --interface is the primary one:\n"
	     "  --secondary NAME, --bridge NAME (br0)\n"
	     "  --ipsec-vm-ip ADDRESS, --ipsec-vm-port PORT\n"
	     "  --vni NUMBER (1), --egress-mtu BYTES (9001; before Linux 5.12)\n"
	     "  --handover-mac ADDRESS (generic mode: a random one, which netfilter knows)\n"
	     "settings:");
	for (size_t i = 0; i < COUNT(settings); i++)
		printf("  --%s %u..%u (%u)\n", options[i].name, settings[i].min, settings[i].max, settings[i].initial);
	exit(EXIT_SUCCESS);
}

static __u32 take_number(const char *option, const char *text, __u32 min, __u32 max)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long value = strtoul(text, NULL, 10); /* ULONG_MAX where it is larger */

	if (!digits || text[digits] || value < min || value > max)
		die("--%s '%s' is not allowed: give a whole number from %u to %u", option, text, min, max);
	return value;
}

static void take_setting(size_t i, const char *text)
{
	wanted.values[i] = take_number(options[i].name, text, settings[i].min, settings[i].max);
	given[i] = true;
}

static void take_engine(const char *text)
{
	is_direct = !strcmp(text, "direct");
	if (!is_direct && strcmp(text, "bridge"))
		die("--engine '%s' is not allowed: give bridge or direct", text);
}

static void take_mode(const char *text)
{
	if (!strcmp(text, "driver"))
		mode = XDP_FLAGS_DRV_MODE;
	else if (!strcmp(text, "generic"))
		mode = XDP_FLAGS_SKB_MODE;
	else
		die("--mode '%s' is not allowed: give generic or driver", text);
}

/* Those of the direct engine; the bounds are those of the stack. */
static void take_direct(int option, const char *text)
{
	if (option == SECONDARY)
		interfaces.secondary = text;
	else if (option == BRIDGE)
		interfaces.bridge = text;
	else if (option == VNI)
		direct_wanted.vni = take_number("vni", text, 0, 0xffffff);
	else if (option == EGRESS_MTU)
		direct_wanted.egress_mtu = take_number("egress-mtu", text, 576, 9001);
	else if (option == IPSEC_VM_PORT)
		direct_wanted.ipsec_vm_port = htons(take_number("ipsec-vm-port", text, 1, 65535));
	else if (option == IPSEC_VM_IP && inet_pton(AF_INET, text, &direct_wanted.ipsec_vm_ip) != 1)
		die("--ipsec-vm-ip '%s' is not allowed: give an IPv4 address", text);
	else if (option == HANDOVER_MAC && !direct_take_mac(text, &direct_wanted))
		die("--handover-mac '%s' is not allowed: give the address of one host, as in 02:00:00:00:00:01", text);
}

static void die_of_option(int answer, const char *argument)
{
	if (answer == ':')
		die("'%s' needs a value; see --help", argument);
	if (optopt && optopt < SETTING)
		die("'-%c' is no option; see --help", optopt);
	die("'%s' is no option; see --help", argument);
}

static void take_options(int argc, char **argv)
{
	int option;

	for (size_t i = 0; i < COUNT(settings); i++)
		wanted.values[i] = settings[i].initial;
	opterr = 0;
	optind = 2;
	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (option == ':' || option == '?')
			die_of_option(option, argv[optind - 1]);
		if (option == HELP)
			help();
		else if (option == INTERFACE)
			interface = optarg;
		else if (option == OBJECT)
			object_file = optarg;
		else if (option == PIN_DIR)
			pin_dir = optarg;
		else if (option == MODE)
			take_mode(optarg);
		else if (option == ENGINE)
			take_engine(optarg);
		else if (option > HELP)
			take_direct(option, optarg);
		else
			take_setting(option - SETTING, optarg);
	}
	if (optind < argc)
		die("'%s' is one argument too many; see --help", argv[optind]);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	if (!strcmp(name, "--help"))
		help();
	for (size_t i = 0; i < COUNT(verbs); i++) {
		if (strcmp(name, verbs[i].name))
			continue;
		take_options(argc, argv);
		verbs[i].act();
		return EXIT_SUCCESS;
	}
	die("'%s' is no verb: give preflight, attach, run, detach, status, measure or config; see --help", name);
}
