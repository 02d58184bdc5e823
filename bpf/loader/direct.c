// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <linux/membarrier.h>

#include "../../lib/settings.h"
#include "direct.h"

/* An interface takes its MTU, an Ethernet header and a tag: net/core/dev.h. */
#define FRAME_BEYOND_MTU (ETH_HLEN + 4)

const char *const direct_counters[] = {
	"passed_not_mirrored",
	"passed_other_vni",
	"passed_not_udp",
	"passed_malformed",
	"passed_fragment",
	"passed_other_port",
	"passed_address",
	"passed_expired",
	"passed_options",
	"passed_outer_checksum",
	"passed_share",
	"passed_no_neighbour",
	"passed_no_route",
	"passed_no_egress",
	"passed_keeps_df",
	"passed_too_long",
	"sent_whole",
	"sent_cut",
	"handed_over",
	"fragments_sent",
	"copies_lost",
	"forged",
	"failed",
	"redirects_refused",
	"redirects_unsent",
	"fragments_due",
};
_Static_assert(sizeof(direct_counters) / sizeof(*direct_counters) == DIRECT_COUNTERS, "every counter has a name");

/* Returns the line, which lasts until the next one. Leaves errno as it is. */
__attribute__((format(printf, 1, 2))) static const char *error_line(const char *format, ...)
{
	static char line[256];
	int error = errno;
	va_list values;

	va_start(values, format);
	vsnprintf(line, sizeof(line), format, values);
	va_end(values);
	errno = error;
	return line;
}

/* For what no retry heals, and no errno tells. */
#define final_error_line(...) (errno = EINVAL, error_line(__VA_ARGS__))

/* Asks the kernel about one interface. Returns false if there is no answer. */
static bool ask(const char *interface, unsigned long question, struct ifreq *answer)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool answered;

	memset(answer, 0, sizeof(*answer));
	strncpy(answer->ifr_name, interface, IFNAMSIZ - 1);
	answered = !ioctl(fd, question, answer);
	if (fd >= 0)
		close(fd);
	return answered;
}

static const char *address_of(const char *interface, __be32 *address)
{
	struct ifreq answer;

	if (!ask(interface, SIOCGIFADDR, &answer))
		return error_line("interface '%s' has no IPv4 address: %s", interface, strerror(errno));
	*address = ((struct sockaddr_in *)&answer.ifr_addr)->sin_addr.s_addr;
	return NULL;
}

/* Needs no fragmenting where the primary interface takes nothing that br0 does not: in driver mode no datagram is longer. */
static const char *describe_fragmenting(
	const struct direct_interfaces *interfaces, bool is_driver_mode, struct direct_config *config)
{
	struct ifreq primary, bridge;

	config->fragmenting = is_driver_mode ? FRAGMENT_COPIES : FRAGMENT_IN_BUFFER;
	if (!is_driver_mode)
		return NULL;
	if (!ask(interfaces->primary, SIOCGIFMTU, &primary) || !ask(interfaces->bridge, SIOCGIFMTU, &bridge))
		return error_line("interfaces '%s' and '%s' do not tell their MTUs: %s", interfaces->primary,
			interfaces->bridge, strerror(errno));
	if (primary.ifr_mtu - MIRROR_HEADERS <= bridge.ifr_mtu)
		config->fragmenting = FRAGMENT_NEVER;
	return NULL;
}

const char *direct_describe(
	const struct direct_interfaces *interfaces, bool is_driver_mode, struct direct_config *config)
{
	struct ifreq answer;
	const char *error = address_of(interfaces->primary, &config->primary_ip);

	if (!error)
		error = address_of(interfaces->bridge, &config->secondary_ip);
	if (error)
		return error;
	config->primary_ifindex = if_nametoindex(interfaces->primary);
	config->bridge_ifindex = if_nametoindex(interfaces->bridge);
	config->egress_ifindex = if_nametoindex(interfaces->secondary);
	if (!ask(interfaces->secondary, SIOCGIFMTU, &answer))
		return error_line("interface '%s' does not tell its MTU: %s", interfaces->secondary, strerror(errno));
	config->longest_frame = answer.ifr_mtu + FRAME_BEYOND_MTU;
	if (!ask(interfaces->primary, SIOCGIFHWADDR, &answer))
		return error_line("interface '%s' does not tell its address: %s", interfaces->primary, strerror(errno));
	if (answer.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return final_error_line("interface '%s' has no Ethernet address", interfaces->primary);
	memcpy(config->primary_mac, answer.ifr_hwaddr.sa_data, sizeof(config->primary_mac));
	return describe_fragmenting(interfaces, is_driver_mode, config);
}

bool direct_parse_mac(const char *text, struct direct_config *config)
{
	__u8 *mac = (__u8 *)config->handover_mac;

	for (int i = 0; i < ETH_ALEN; i++) {
		if (strspn(text + 3 * i, "0123456789abcdefABCDEF") != 2 ||
			text[3 * i + 2] != (i < ETH_ALEN - 1 ? ':' : 0))
			return false;
		mac[i] = strtoul(text + 3 * i, NULL, 16);
	}
	return !(mac[0] & 1);
}

static struct direct_config_slots *map_slots(int map)
{
	void *all = mmap(NULL, sizeof(struct direct_config_slots), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);

	return all == MAP_FAILED ? NULL : all;
}

void wait_rcu_grace_period(void)
{
	/* Kernels with nohz_full have no membarrier(2): there a time that no packet takes. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		usleep(100000);
}

const char *direct_write(int map, const struct direct_config *config)
{
	struct direct_config_slots *all = map_slots(map);

	if (!all)
		return error_line("cannot map the settings: %s", strerror(errno));
	__u32 idle = !(all->active & 1);

	/* The idle slot may have readers yet, if whoever wrote last was killed before it had waited for them. */
	wait_rcu_grace_period();
	all->slots[idle] = *config;
	__atomic_store_n(&all->active, idle, __ATOMIC_RELEASE);
	wait_rcu_grace_period();
	munmap(all, sizeof(*all));
	return NULL;
}

const char *direct_read(int map, struct direct_config *config)
{
	struct direct_config_slots *all = map_slots(map);

	if (!all)
		return error_line("cannot map the settings: %s", strerror(errno));
	*config = all->slots[all->active & 1];
	munmap(all, sizeof(*all));
	return NULL;
}

bool direct_can_copy(void)
{
	/* An unknown flag is refused by the helper, not by the verifier: only running it tells. */
	const struct bpf_insn code[] = {
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = BPF_F_BROADCAST },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct bpf_insn program[sizeof(code) / sizeof(*code)];
	char frame[ETH_HLEN + 46] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = sizeof(frame), .repeat = 1);
	int map = bpf_map_create(BPF_MAP_TYPE_DEVMAP, "probe", sizeof(__u32), sizeof(struct bpf_devmap_val), 1, NULL);
	int fd, error;
	bool can;

	memcpy(program, code, sizeof(code));
	program[0].imm = map;
	fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "probe", "GPL", program, sizeof(program) / sizeof(*program), NULL);
	can = map >= 0 && fd >= 0 && !bpf_prog_test_run_opts(fd, &run);
	error = can ? EOPNOTSUPP : errno;
	close(fd);
	close(map);
	errno = error;
	return can && run.retval == XDP_REDIRECT;
}

static const char *load_if(struct bpf_object *object, const char *name, bool is_wanted)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, name);

	if (!program)
		return final_error_line("the BPF object lacks its program '%s'", name);
	bpf_program__set_autoload(program, is_wanted);
	return NULL;
}

bool direct_can_watch(void)
{
	return libbpf_find_vmlinux_btf_id("xdp_devmap_xmit", BPF_TRACE_RAW_TP) > 0 &&
	       libbpf_find_vmlinux_btf_id("xdp_redirect_err", BPF_TRACE_RAW_TP) > 0;
}

/* Needs Linux 5.18. Before 5.15 generic mode runs no program on copies, and refuses maps that have room for one. */
static bool can_fragment_in_buffer(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_XDP, BPF_FUNC_xdp_store_bytes, NULL) > 0;
}

/* Tells the program, in its one constant. */
static const char *set_fragments_in_buffer(struct bpf_object *object, __u32 value)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata");

	if (!map || bpf_map__set_initial_value(map, &value, sizeof(value)))
		return final_error_line("the BPF object lacks its section .rodata");
	return NULL;
}

const char *direct_prepare(struct bpf_object *object, bool is_driver_mode, bool watches)
{
	bool in_buffer = !is_driver_mode && can_fragment_in_buffer();

	const struct {
		const char *name;
		bool is_wanted;
	} programs[] = {
		{ CUT_PROGRAM, is_driver_mode || in_buffer },
		{ PASS_PROGRAM, is_driver_mode },
		{ UNSENT_PROGRAM, watches },
		{ REFUSED_PROGRAM, watches },
	};
	struct bpf_map *map;

	for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++) {
		const char *error = load_if(object, programs[i].name, programs[i].is_wanted);

		if (error)
			return error;
	}
	if (is_driver_mode || in_buffer)
		return set_fragments_in_buffer(object, in_buffer);
	/* Before Linux 5.15 generic mode takes no program whose device maps have room for another one. */
	bpf_object__for_each_map(map, object)
	{
		if (bpf_map__type(map) == BPF_MAP_TYPE_DEVMAP)
			bpf_map__set_value_size(map, sizeof(__u32));
	}
	return NULL;
}

const char *direct_watch(struct bpf_object *object)
{
	static const char *const programs[] = { UNSENT_PROGRAM, REFUSED_PROGRAM };

	for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++) {
		struct bpf_program *program = bpf_object__find_program_by_name(object, programs[i]);

		/* The program stays attached while this descriptor is open. */
		if (bpf_raw_tracepoint_open(NULL, bpf_program__fd(program)) < 0)
			return error_line("cannot hook '%s': %s", programs[i], strerror(errno));
	}
	return NULL;
}

const char *direct_seed_ids(int map)
{
	static __u32 starts[ID_COUNTERS];

	/* At most 256 bytes come without interruption (getrandom(2)). */
	for (size_t done = 0; done < sizeof(starts);) {
		ssize_t got = getrandom((char *)starts + done, sizeof(starts) - done, 0);

		if (got < 0 && errno != EINTR)
			return error_line("no random numbers to begin identifications at: %s", strerror(errno));
		done += got > 0 ? got : 0;
	}
	for (__u32 i = 0; i < ID_COUNTERS; i++) {
		const struct id_counter counter = { .blocks = starts[i] };

		if (bpf_map_update_elem(map, &i, &counter, BPF_ANY))
			return error_line("cannot let identifications begin at random: %s", strerror(errno));
	}
	return NULL;
}

static const char *fill(struct bpf_object *object, const char *name, const struct bpf_devmap_val *value)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, name);

	if (!map)
		return final_error_line("the BPF object lacks its map '%s'", name);
	for (__u32 entry = 0; entry < bpf_map__max_entries(map); entry++)
		if (bpf_map_update_elem(bpf_map__fd(map), &entry, value, BPF_ANY))
			return error_line("the kernel refuses interface %u in map '%s': %s", value->ifindex, name,
				strerror(errno));
	return NULL;
}

const char *direct_fill(struct bpf_object *object, const struct direct_config *config)
{
	struct bpf_program *fragments = bpf_object__find_program_by_name(object, CUT_PROGRAM);
	struct bpf_devmap_val value = { .ifindex = config->egress_ifindex };
	char name[] = TX_BROADCAST_MAP "n";
	const char *error;

	if (config->fragmenting == FRAGMENT_COPIES)
		value.bpf_prog.fd = bpf_program__fd(fragments);
	error = fill(object, TX_SINGLE_MAP, &value);
	/* In generic mode that program is loaded only where the kernel lets it fragment in the buffer. */
	if (config->fragmenting == FRAGMENT_IN_BUFFER && bpf_program__autoload(fragments))
		value.bpf_prog.fd = bpf_program__fd(fragments);
	for (char digit = '2'; value.bpf_prog.fd && !error && digit <= '0' + MOST_FRAGMENTS; digit++) {
		name[sizeof(name) - 2] = digit;
		error = fill(object, name, &value);
	}
	return error;
}
