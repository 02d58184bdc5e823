// SPDX-License-Identifier: Apache-2.0
/*
 * Features are probed by using them, not guessed from the kernel's version: distributions carry features back, and switch
 * them off. What cannot be tried without touching an interface is tried on the loopback of a namespace of its own.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <linux/sockios.h>

#include "../../lib/settings.h"
#include "direct.h"
#include "preflight.h"

#define LOOPBACK 1 /* its index in every namespace */
#define LARGEST_IN_DRIVER_MODE (DRIVER_MODE_MTU - MIRROR_HEADERS)

/* Each is worth whether an attach can be expected to succeed as far as this goes. */
#define ok(thing, ...) (line("ok  ", thing, __VA_ARGS__), true)
#define bad(thing, ...) (line("FAIL", thing, __VA_ARGS__), false)
#define skipped(thing, ...) (line("skip", thing, __VA_ARGS__), true)

__attribute__((format(printf, 3, 4))) static void line(const char *outcome, const char *thing, const char *format, ...)
{
	va_list values;

	printf("%s %-12s ", outcome, thing);
	va_start(values, format);
	vprintf(format, values);
	va_end(values);
	putchar('\n');
}

static bool check_kernel(void)
{
	struct utsname kernel;
	int major = 0, minor = 0;

	uname(&kernel);
	sscanf(kernel.release, "%d.%d", &major, &minor);
	if (major * 1000 + minor < 4018)
		return bad("kernel",
			"%s: XDP needs 4.18 at the least; use a newer image, netfilter carries the traffic meanwhile",
			kernel.release);
	return ok("kernel", "%s, libbpf %s", kernel.release, libbpf_version_string());
}

/* Loads an XDP program that reads no packet, which proves the privileges and the program type. */
static int load_pass(void)
{
	const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_XDP, "preflight", "GPL", pass, sizeof(pass) / sizeof(*pass), NULL);
}

static bool check_program_type(int program)
{
	if (program >= 0)
		return ok("privileges", "this user may load XDP programs");
	if (errno == EPERM || errno == EACCES)
		return bad("privileges",
			"this user may not load XDP programs: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed "
			"(CAP_SYS_ADMIN before Linux 5.8); run as root");
	return bad("privileges", "the kernel refuses an XDP program: %s; it needs CONFIG_BPF_SYSCALL", strerror(errno));
}

static bool check_map(const char *name, enum bpf_map_type type, __u32 size, __u32 flags, const char *since)
{
	LIBBPF_OPTS(bpf_map_create_opts, how, .map_flags = flags);
	int map = bpf_map_create(type, "preflight", sizeof(__u32), size, 1, &how);

	if (map < 0)
		return bad(name, "refused: %s; Linux %s has it; use a newer image", strerror(errno), since);
	close(map);
	return ok(name, "available");
}

/* Tries it in a child: nobody comes back from another network namespace. Returns an errno. */
static int try_link(int program)
{
	LIBBPF_OPTS(bpf_link_create_opts, how, .flags = XDP_FLAGS_SKB_MODE);
	int status;
	pid_t child = fork();

	if (!child) {
		if (unshare(CLONE_NEWNET))
			_exit(EAGAIN);
		_exit(bpf_link_create(program, LOOPBACK, BPF_XDP, &how) < 0 ? errno : 0);
	}
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : EAGAIN;
}

static bool check_link(int program)
{
	int error = try_link(program);

	if (!error)
		return ok("XDP links", "available: a program outlives its loader, and is replaced atomically");
	if (error == EAGAIN)
		return skipped("XDP links", "not probed: this user may make no network namespace");
	return bad("XDP links", "refused: %s; Linux 5.9 has them; use a newer image", strerror(error));
}

static bool check_bpffs(const char *folder)
{
	struct statfs file_system;

	if (statfs(folder, &file_system))
		return bad("pins", "'%s': %s; mount it: mount -t bpf bpf /sys/fs/bpf", folder, strerror(errno));
	if (file_system.f_type != BPF_FS_MAGIC)
		return bad("pins", "'%s' is no BPF file system; mount one: mount -t bpf bpf /sys/fs/bpf", folder);
	return ok("pins", "'%s' is a BPF file system", folder);
}

static bool ask_ethtool(const char *interface, void *question)
{
	struct ifreq request = { .ifr_data = question };
	int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool answered;

	strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	answered = !ioctl(socket_fd, SIOCETHTOOL, &request);
	close(socket_fd);
	return answered;
}

static int mtu_of(const char *interface)
{
	struct ifreq request = { 0 };
	int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	if (ioctl(socket_fd, SIOCGIFMTU, &request))
		request.ifr_mtu = -1;
	close(socket_fd);
	return request.ifr_mtu;
}

/* Applies ENA's rule for driver mode; other drivers are asked by attaching. */
static bool check_queues(const char *interface, const struct ethtool_channels *channels)
{
	if (channels->max_combined < 2)
		return bad("queues",
			"%s: %u, ENA in driver mode needs twice what is used; use a larger instance type, or generic mode",
			interface, channels->max_combined);
	if (channels->combined_count <= channels->max_combined / 2)
		return true;
	return ok("queues", "%s: %u of %u, ENA in driver mode allows half: %u while it is attached", interface,
		channels->combined_count, channels->max_combined, channels->max_combined / 2);
}

static bool check_free(const struct interface_state *state)
{
	if (!state->found_program)
		return ok("no other XDP", "%s is free", state->interface);
	if (state->found_program == state->own_program)
		return ok("no other XDP", "the program on %s is ours", state->interface);
	return bad("no other XDP",
		"%s carries program %u of somebody else: it is left alone; detach it with its own tool, or "
		"ip link set dev %s xdp off",
		state->interface, state->found_program, state->interface);
}

static bool check_interface(const struct interface_state *state, bool is_driver_mode)
{
	struct ethtool_drvinfo driver = { .cmd = ETHTOOL_GDRVINFO };
	struct ethtool_channels channels = { .cmd = ETHTOOL_GCHANNELS };
	bool passes;

	if (!state->interface)
		return true;
	if (!if_nametoindex(state->interface))
		return bad("interface", "'%s' is not in this network namespace; create it, or name another",
			state->interface);
	if (!ask_ethtool(state->interface, &driver))
		strcpy(driver.driver, "unknown");
	ask_ethtool(state->interface, &channels);
	passes = ok("interface", "%s: driver %s, MTU %d, %u queues; %s", state->interface, driver.driver,
		mtu_of(state->interface), channels.combined_count,
		is_driver_mode ? "driver mode" : "generic mode sets no limit to them");
	if (is_driver_mode && !strcmp(driver.driver, "ena"))
		passes &= check_queues(state->interface, &channels);
	return passes & check_free(state);
}

static bool check_copies(void)
{
	if (direct_can_copy())
		return ok("copies", "a redirect to several interfaces at once is available");
	return bad("copies", "no redirect to several interfaces at once: %s; Linux 5.13 has it; use generic mode",
		strerror(errno));
}

/* A frame lies in one page. Longer ones never arrive: the MTU is lowered. */
static bool check_sizes(__u32 max_packet_size)
{
	if (max_packet_size > LARGEST_IN_DRIVER_MODE)
		return bad("sizes",
			"max_packet_size %u: driver mode takes datagrams of at most %d bytes; set it to that, or use "
			"generic mode",
			max_packet_size, LARGEST_IN_DRIVER_MODE);
	return ok("sizes", "datagrams of at most %u bytes fit the MTU of %d that driver mode sets", max_packet_size,
		DRIVER_MODE_MTU);
}

static bool check_bpf(void)
{
	int program = load_pass();
	bool passes = check_program_type(program);

	if (program < 0)
		return passes;
	passes &= check_map(
		"shared maps", BPF_MAP_TYPE_ARRAY, sizeof(struct gateway_config_slots), BPF_F_MMAPABLE, "5.5");
	passes &= check_map("per-CPU maps", BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(struct gateway_stats), 0, "4.6");
	passes &= check_link(program);
	close(program);
	return passes;
}

bool check_requirements(const struct requirements *needed)
{
	bool passes;

	libbpf_set_print(NULL);
	passes = check_kernel();
	passes &= check_bpf();
	passes &= check_bpffs(needed->pin_parent);
	if (needed->is_direct && needed->is_driver_mode) {
		passes &= check_copies();
		passes &= check_sizes(needed->max_packet_size);
	}
	for (size_t i = 0; i < sizeof(needed->interfaces) / sizeof(*needed->interfaces); i++)
		passes &= check_interface(&needed->interfaces[i], needed->is_driver_mode);
	return passes;
}
