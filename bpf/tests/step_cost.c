// SPDX-License-Identifier: Apache-2.0
/*
 * What the program costs per packet: direct, bridge and an empty program side by side, by the time that BPF_PROG_TEST_RUN
 * reports, each run on a fresh copy of the packet because the program changes it. The clock's own time is in each figure, the
 * empty program's too. To be run in the network namespace of a gateway: the direct engine asks its routes.
 *
 *   step_cost BRIDGE_OBJECT DIRECT_OBJECT PRIMARY SECONDARY BRIDGE DESTINATION <frames
 *
 * Each frame on stdin: length (32 bits, little endian) and a mirrored datagram's bytes, outer headers first.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "loader/direct.h"

#define RUNS 200000
#define MAX_FRAME 3600
#define OUTER_HEADERS 50

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	fputs("step_cost: ", stderr);
	vfprintf(stderr, format, values);
	va_end(values);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

static struct bpf_object *open_object(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);

	if (!object)
		die("cannot open '%s': %s", path, strerror(errno));
	return object;
}

static int by_value(const void *one, const void *other)
{
	return *(const __u32 *)one > *(const __u32 *)other ? 1 : -1;
}

/* The median, and the verdict of the last run. */
static __u32 cost(int program, const void *frame, __u32 size, __u32 *verdict)
{
	static __u32 durations[RUNS];
	static char out[65536];

	for (int i = 0; i < RUNS; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = size, .data_out = out,
			.data_size_out = sizeof(out), .repeat = 1);

		if (bpf_prog_test_run_opts(program, &run))
			die("the kernel does not run the program: %s", strerror(errno));
		durations[i] = run.duration;
		*verdict = run.retval;
	}
	qsort(durations, RUNS, sizeof(*durations), by_value);
	return durations[RUNS / 2];
}

int main(int argc, char **argv)
{
	static char frame[MAX_FRAME];
	const struct gateway_config rule = {
		.target_port = 31765, .min_packet_size = 1400, .max_packet_size = 9000, .traffic_percent = 100
	};
	struct gateway_config_slots slots = { .slots = { rule } };
	struct direct_config config = { .rule = rule, .vni = 1, .egress_mtu = 1400, .ipsec_vm_port = htons(8081) };
	const char *error = NULL;
	__u32 size, only = 0;

	if (argc != 7)
		die("usage: step_cost BRIDGE_OBJECT DIRECT_OBJECT PRIMARY SECONDARY BRIDGE DESTINATION <frames");
	struct bpf_object *bridge = open_object(argv[1]), *direct = open_object(argv[2]);
	const struct direct_interfaces interfaces = { .primary = argv[3], .secondary = argv[4], .bridge = argv[5] };

	config.ipsec_vm_ip = inet_addr(argv[6]);
	if (bpf_object__load(bridge) || bpf_object__load(direct))
		die("the kernel refuses a program");
	if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(bridge, CONFIG_MAP), &only, &slots, BPF_ANY))
		die("cannot write the settings: %s", strerror(errno));
	error = direct_describe(&interfaces, true, &config);
	if (!error)
		error = direct_fill(direct, &config);
	if (!error)
		error = direct_write(bpf_object__find_map_fd_by_name(direct, CONFIG_MAP), &config);
	if (error)
		die("%s", error);

	int empty = bpf_program__fd(bpf_object__find_program_by_name(direct, PASS_PROGRAM));
	int clears = bpf_program__fd(bpf_object__next_program(bridge, NULL));
	int sends = bpf_program__fd(bpf_object__find_program_by_name(direct, DIRECT_PROGRAM));

	puts("bytes inside, empty ns, bridge ns, direct ns, direct verdict");
	while (fread(&size, sizeof(size), 1, stdin) == 1 && size <= MAX_FRAME && fread(frame, size, 1, stdin) == 1) {
		__u32 ignored, verdict;

		printf("%u, %u", size - OUTER_HEADERS - 14, cost(empty, frame, size, &ignored));
		printf(", %u", cost(clears, frame + OUTER_HEADERS, size - OUTER_HEADERS, &ignored));
		printf(", %u", cost(sends, frame, size, &verdict));
		printf(", %u\n", verdict);
	}
	return EXIT_SUCCESS;
}
