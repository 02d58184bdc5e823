// SPDX-License-Identifier: Apache-2.0
/*
 * What two processors can do just now: how long a cache line takes from one to the other and back, in nanoseconds, and how long
 * the slower takes for a step of a loop while both run it, in picoseconds. Those of a virtual machine are moved by its host,
 * which makes the first several times as long where they no longer share a cache, and share a core with another machine's,
 * which doubles the second.
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
#define LOOP_NS 5000000ull
#define STEPS 2000
/* What is held up ends all the same. */
#define LONGEST_NS 200000000ull

static _Alignas(128) atomic_bool is_started;
static _Alignas(128) atomic_bool is_over;
/* Odd: it is the other's turn. */
static _Alignas(128) atomic_uint turn;

struct other {
	unsigned cpu;
	bool is_refused;
	uint64_t picoseconds;
};

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000ull + (uint64_t)time.tv_nsec;
}

static int run_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

/* Of a step, on average. */
static uint64_t loop_picoseconds(void)
{
	uint64_t start = now(), took, steps = 0;

	do {
		for (volatile unsigned step = 0; step < STEPS; step++)
			;
		steps += STEPS;
		took = now() - start;
	} while (took < LOOP_NS);
	return took * 1000 / steps;
}

static void *run_other(void *context)
{
	struct other *other = context;

	other->is_refused = run_on(other->cpu);
	atomic_store(&is_started, true);
	if (other->is_refused)
		return NULL;
	other->picoseconds = loop_picoseconds();
	while (!atomic_load(&is_over)) {
		unsigned seen = atomic_load(&turn);

		if (seen & 1)
			atomic_store(&turn, seen + 1);
	}
	return NULL;
}

/* Of the fastest batch: others are held up by whatever else runs. 0: none ended in time. */
static uint64_t round_trip_nanoseconds(void)
{
	uint64_t least = 0, end = now() + LONGEST_NS;

	for (int batch = 0; batch < BATCHES; batch++) {
		uint64_t start = now(), took;

		for (int trip = 0; trip < ROUND_TRIPS; trip++) {
			atomic_fetch_add(&turn, 1);
			while (atomic_load(&turn) & 1)
				if (now() > end)
					return least;
		}
		took = (now() - start) / ROUND_TRIPS;
		if (!least || took < least)
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
		fprintf(stderr, "processors: '%s': give a number from 0 to %d\n", text, CPU_SETSIZE - 1);
		exit(2);
	}
	return (unsigned)cpu;
}

static int refuse(unsigned cpu)
{
	fprintf(stderr, "processors: %u: give one of this machine's (/proc/cpuinfo)\n", cpu);
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t picoseconds, nanoseconds;
	struct other other = {};
	pthread_t thread;
	unsigned cpu;

	if (argc != 3) {
		fputs("usage: processors CPU CPU\n", stderr);
		return 2;
	}
	cpu = cpu_of(argv[1]);
	other.cpu = cpu_of(argv[2]);
	if (cpu == other.cpu) {
		fprintf(stderr, "processors: %u twice: give two\n", cpu);
		return 2;
	}
	if (run_on(cpu))
		return refuse(cpu);
	if (pthread_create(&thread, NULL, run_other, &other)) {
		fputs("processors: no second thread: free some memory\n", stderr);
		return 1;
	}
	while (!atomic_load(&is_started))
		;
	picoseconds = loop_picoseconds();
	nanoseconds = round_trip_nanoseconds();
	atomic_store(&is_over, true);
	pthread_join(thread, NULL);
	if (other.is_refused)
		return refuse(other.cpu);
	if (!nanoseconds) {
		fprintf(stderr, "processors: %u and %u are too busy for an answer\n", cpu, other.cpu);
		return 1;
	}
	if (other.picoseconds > picoseconds)
		picoseconds = other.picoseconds;
	printf("%llu %llu\n", (unsigned long long)nanoseconds, (unsigned long long)picoseconds);
	return 0;
}
