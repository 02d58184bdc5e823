// SPDX-License-Identifier: Apache-2.0
/*
 * How long a cache line takes from one processor to another and back, in nanoseconds: about 50 where both share a last-level
 * cache, several times that where they do not. The host of a virtual machine moves its processors between the two.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BATCHES 20
#define ROUND_TRIPS 200
/* Waits so often before it looks at the clock, which may take as long as what is measured. */
#define SPINS 1000
/* Of all: a processor that is held up for so long is far away. */
#define LONGEST_NS 200000000ull

/* Odd: it is the other's turn. */
static _Alignas(128) atomic_uint turn;
static _Alignas(128) atomic_bool is_over;

struct other {
	unsigned cpu;
	bool is_refused;
};

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000ull + (uint64_t)time.tv_nsec;
}

static bool run_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return pthread_setaffinity_np(pthread_self(), sizeof(set), &set) == 0;
}

static void *answer(void *context)
{
	struct other *other = context;

	other->is_refused = !run_on(other->cpu);
	while (!other->is_refused && !atomic_load(&is_over)) {
		unsigned seen = atomic_load(&turn);

		if (seen & 1)
			atomic_store(&turn, seen + 1);
	}
	return NULL;
}

static bool round_trip(uint64_t end)
{
	atomic_fetch_add(&turn, 1);
	for (unsigned spins = 1; atomic_load(&turn) & 1; spins++)
		if (spins % SPINS == 0 && now() > end)
			return false;
	return true;
}

/* Of the fastest batch: others are held up by whatever else runs. */
static uint64_t measure(void)
{
	uint64_t least = LONGEST_NS, end = now() + LONGEST_NS;

	for (int batch = 0; batch < BATCHES; batch++) {
		uint64_t start = now(), took;

		for (int trip = 0; trip < ROUND_TRIPS; trip++)
			if (!round_trip(end))
				return least;
		took = (now() - start) / ROUND_TRIPS;
		if (took < least)
			least = took;
	}
	return least;
}

static unsigned cpu_of(const char *text)
{
	char *end;
	unsigned long cpu;

	errno = 0;
	cpu = strtoul(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || cpu >= CPU_SETSIZE) {
		fprintf(stderr, "core_latency: processor '%s': give a number from 0 to %d\n", text, CPU_SETSIZE - 1);
		exit(2);
	}
	return (unsigned)cpu;
}

static int refuse(unsigned cpu)
{
	fprintf(stderr, "core_latency: processor %u: give one of this machine's (/proc/cpuinfo)\n", cpu);
	return 1;
}

int main(int argc, char **argv)
{
	struct other other = {};
	uint64_t nanoseconds;
	pthread_t thread;
	unsigned cpu;
	bool is_here;

	if (argc != 3) {
		fputs("usage: core_latency CPU CPU\n", stderr);
		return 2;
	}
	cpu = cpu_of(argv[1]);
	other.cpu = cpu_of(argv[2]);
	if (cpu == other.cpu) {
		fprintf(stderr, "core_latency: processor %u twice: give two\n", cpu);
		return 2;
	}
	if (pthread_create(&thread, NULL, answer, &other)) {
		fputs("core_latency: no second thread: free some memory\n", stderr);
		return 1;
	}
	is_here = run_on(cpu);
	nanoseconds = is_here ? measure() : 0;
	atomic_store(&is_over, true);
	pthread_join(thread, NULL);
	if (!is_here || other.is_refused)
		return refuse(is_here ? other.cpu : cpu);
	printf("%llu\n", (unsigned long long)nanoseconds);
	return 0;
}
