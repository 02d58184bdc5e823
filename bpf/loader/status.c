// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "errors.h"
#include "links.h"
#include "maps.h"
#include "pins.h"
#include "status.h"

#define MEASURED_SECONDS 1 /* not longer: while the kernel measures, each packet costs some nanoseconds more */

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

/* The statistics by position, for tables of them. */
union stats {
	struct gateway_stats fields;
	__u64 values[COUNT(counters)];
};
union direct_stats_values {
	struct direct_stats fields;
	__u64 values[sizeof(struct direct_stats) / sizeof(__u64)];
};
_Static_assert(sizeof(union stats) == sizeof(struct gateway_stats), "every counter has a name");

/* Returns all zero if no map is pinned. */
static union stats read_stats(const char *pin_dir)
{
	union stats sums = { 0 };

	sum_pinned_stats(pin_dir, sums.values, sizeof(sums), false);
	return sums;
}

static union direct_stats_values read_direct_values(const char *pin_dir)
{
	union direct_stats_values sums = { 0 };

	sum_pinned_stats(pin_dir, sums.values, sizeof(sums), true);
	return sums;
}

struct direct_stats read_direct_stats(const char *pin_dir)
{
	return read_direct_values(pin_dir).fields;
}

static void report_with(const struct engine_facts *facts, int priority, const union stats *sums, const char *message)
{
	struct journal_field fields[3 + COUNT(counters)] = { { "ENGINE", "" }, { "XDP_MODE", "" },
		{ "INTERFACE", "" } };
	char names[COUNT(counters)][32];
	int count = 3;

	_Static_assert(COUNT(fields) <= JOURNAL_FIELDS, "every fact has a field");
	snprintf(fields[0].value, sizeof(fields[0].value), "%s", facts->is_direct ? "direct" : "bridge");
	snprintf(fields[1].value, sizeof(fields[1].value), "%s", mode_name(facts->mode));
	snprintf(fields[2].value, sizeof(fields[2].value), "%s", facts->interface);
	for (size_t i = 0; sums && i < COUNT(counters); i++) {
		for (size_t c = 0; c <= strlen(counters[i]); c++)
			names[i][c] = toupper(counters[i][c]);
		fields[count].name = names[i];
		snprintf(fields[count++].value, sizeof(fields->value), "%llu", sums->values[i]);
	}
	journal(priority, fields, count, "%s", message);
}

void report(const struct engine_facts *facts, const char *message)
{
	report_with(facts, LOG_NOTICE, NULL, message);
}

void report_counters(const struct options *options, __u32 mode)
{
	const struct engine_facts facts = { options->interface, options->is_direct, mode };
	union stats sums = read_stats(options->pin_dir);
	char message[160];

	snprintf(message, sizeof(message), "%s: %llu seen, %llu modified, %llu left to netfilter, %llu malformed",
		options->interface, sums.fields.packets_seen, sums.fields.packets_modified,
		sums.fields.packets_left_to_netfilter, sums.fields.packets_malformed);
	report_with(&facts, LOG_INFO, &sums, message);
}

static void print_direct_counters(const char *pin_dir)
{
	union direct_stats_values sums = read_direct_values(pin_dir);

	for (size_t i = 0; i < DIRECT_COUNTERS; i++)
		printf(",\"%s\":%llu", direct_counters[i], sums.values[ROOM_FOR_RULE + i]);
}

/* Returns seconds since the boot, for whoever compares two readings. */
static double uptime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

void print_status(const struct options *options)
{
	struct pinned_link link = open_pinned_link(options->pin_dir, PRIMARY_LINK);
	union stats sums = read_stats(options->pin_dir);
	double read_at = uptime();
	union config config;
	int map = read_config(options, &config);
	bool is_direct = is_config_of_direct(map);

	printf("{\"attached\":%s,\"engine\":\"%s\",\"interface\":\"%s\",\"xdp_mode\":\"%s\"",
		link.ifindex ? "true" : "false",
		!link.ifindex ? "none"
		: is_direct   ? "direct"
			      : "bridge",
		link.interface, mode_name(link.mode));
	for (size_t i = 0; i < COUNT(counters); i++)
		printf(",\"%s\":%llu", counters[i], sums.values[i]);
	if (is_direct)
		print_direct_counters(options->pin_dir);
	printf(",\"stats_map\":%u,\"uptime\":%.3f,\"config\":", id_of_stats(options->pin_dir), read_at);
	close(map);
	close(link.fd);
	print_config(&config);
	puts("}");
	fflush(stdout);
}

static struct bpf_prog_info run_time_of(int program)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(program, &info, &size))
		die("cannot read the program's run-time statistics: %s", reason());
	return info;
}

void print_cost(const struct options *options)
{
	struct pinned_link link = open_pinned_link(options->pin_dir, PRIMARY_LINK);
	struct timespec second = { MEASURED_SECONDS, 0 };
	__u64 packets = 0, nanoseconds = 0;

	if (link.ifindex) {
		int program = bpf_prog_get_fd_by_id(link.program), on = bpf_enable_stats(BPF_STATS_RUN_TIME);

		if (program < 0 || on < 0)
			die("cannot measure the program on interface '%s': %s", link.interface, reason());
		struct bpf_prog_info before = run_time_of(program);

		nanosleep(&second, NULL);
		struct bpf_prog_info after = run_time_of(program);

		packets = after.run_cnt - before.run_cnt;
		nanoseconds = after.run_time_ns - before.run_time_ns;
		close(on);
		close(program);
	}
	close(link.fd);
	printf("{\"measured_at\":%.3f,\"packets\":%llu", uptime(), packets);
	if (packets)
		printf(",\"nanoseconds\":%.1f", (double)nanoseconds / packets);
	puts("}");
}
