// SPDX-License-Identifier: Apache-2.0
/*
 * Drives the real BPF object, frame by frame, through BPF_PROG_TEST_RUN. A test writes requests to stdin, as many as
 * it likes, and reads the answers in their order from stdout; all numbers are 32 bits, little endian.
 *
 *   request: kind, length, bytes        answer
 *   FRAME:   a frame                    verdict (or minus errno, if the kernel refuses to run it), length, bytes
 *   CONFIG:  struct gateway_config      none
 *   STATS:   nothing                    struct gateway_stats: what was counted since the last time
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "udp_df_modifier.h"

enum kind { FRAME = 1, CONFIG, STATS };

#define MAX_FRAME 65536
#define COUNTERS (sizeof(struct gateway_stats) / sizeof(__u64))

static int program, config_map, stats_map;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	fputs("prog_run: ", stderr);
	vfprintf(stderr, format, values);
	va_end(values);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

static void load(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);

	if (!object)
		die("cannot open '%s': %s", path, strerror(errno));
	if (bpf_object__load(object))
		die("cannot load '%s': %s", path, strerror(errno));
	program = bpf_program__fd(bpf_object__next_program(object, NULL));
	config_map = bpf_object__find_map_fd_by_name(object, CONFIG_MAP);
	stats_map = bpf_object__find_map_fd_by_name(object, STATS_MAP);
	if (program < 0 || config_map < 0 || stats_map < 0)
		die("'%s' lacks its program, or the map " CONFIG_MAP " or " STATS_MAP, path);
}

static void put(const void *bytes, size_t size)
{
	if (fwrite_unlocked(bytes, 1, size, stdout) != size)
		die("cannot write an answer: %s", strerror(errno));
}

static void run_frame(void *frame, __u32 size)
{
	static char out[MAX_FRAME];
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = size, .data_out = out,
		.data_size_out = sizeof(out), .repeat = 1);
	__u32 answer[2];

	if (bpf_prog_test_run_opts(program, &run)) {
		answer[0] = -errno;
		answer[1] = 0;
	} else {
		answer[0] = run.retval;
		answer[1] = run.data_size_out;
	}
	put(answer, sizeof(answer));
	put(out, answer[1]);
}

static void set_config(const void *config, __u32 size)
{
	struct gateway_config_slots all = { 0 };
	__u32 only = 0;

	if (size != sizeof(struct gateway_config))
		die("a config of %u bytes: %zu are expected", size, sizeof(struct gateway_config));
	memcpy(&all.slots[all.active], config, size);
	if (bpf_map_update_elem(config_map, &only, &all, BPF_ANY))
		die("cannot write the config: %s", strerror(errno));
}

static void report_stats(void)
{
	static __u64 before[COUNTERS];
	int cpus = libbpf_num_possible_cpus();
	__u64(*values)[COUNTERS] = calloc(cpus > 0 ? cpus : 0, sizeof(*values));
	__u32 live = STATS_LIVE;

	if (cpus <= 0 || !values || bpf_map_lookup_elem(stats_map, &live, values))
		die("cannot read the statistics: %s", strerror(errno));
	for (size_t i = 0; i < COUNTERS; i++) {
		__u64 sum = 0, delta;

		for (int cpu = 0; cpu < cpus; cpu++)
			sum += values[cpu][i];
		delta = sum - before[i];
		before[i] = sum;
		put(&delta, sizeof(delta));
	}
	free(values);
}

/* Answers leave at the latest with the statistics, which thus end a batch. */
static int next(void *bytes, size_t size)
{
	size_t got = fread_unlocked(bytes, 1, size, stdin);

	if (got != size && got)
		die("the last request ends too early");
	return got == size;
}

int main(int argc, char **argv)
{
	static char bytes[MAX_FRAME], input[1 << 20], output[1 << 20];
	__u32 request[2];

	if (argc != 2)
		die("usage: prog_run OBJECT <requests >answers");
	setvbuf(stdin, input, _IOFBF, sizeof(input));
	setvbuf(stdout, output, _IOFBF, sizeof(output));
	load(argv[1]);
	while (next(request, sizeof(request))) {
		if (request[1] > MAX_FRAME)
			die("a request of %u bytes: at most %d are allowed", request[1], MAX_FRAME);
		if (request[1] && !next(bytes, request[1]))
			die("the last request ends too early");
		if (request[0] == FRAME)
			run_frame(bytes, request[1]);
		else if (request[0] == CONFIG)
			set_config(bytes, request[1]);
		else if (request[0] == STATS)
			report_stats();
		else
			die("request kind %u: FRAME 1, CONFIG 2 and STATS 3 exist", request[0]);
		if (request[0] == STATS)
			fflush(stdout);
	}
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
