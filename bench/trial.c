// SPDX-License-Identifier: Apache-2.0
/*
 * One trial after the other: so many mirrored datagrams a second for so long into a gateway, and how many of them came out
 * whole. Generator and sink are one process, so that a trial's two ends are counted by one clock. Its XDP programs end with it,
 * however it ends; a sink for packets stays at its interface.
 *
 * Reads a line "BYTES PPS MILLISECONDS TIMED" for each trial (IP total length; 0 packets/s: as fast as possible; 1: with
 * latencies), answers with a line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "traffic.h"

#define SECOND 1000000000ull
/* Of the gateway: lab/namespaces/minimal-gateway.ts. */
#define FROM_MAC "02:00:0a:4d:00:01"
#define TO_MAC "02:00:0a:4d:00:02"
#define FROM_IP "10.77.0.1"
#define TO_IP "10.77.0.2"
#define INNER_IP "203.0.113.9"
#define VNI 1
#define TARGET_PORT 31765
#define SHORTEST 40       /* of an inner IP packet, in bytes: its frame holds all that is written to it */
#define LONGEST_LIVE 3000 /* what of a page is left to a live frame (net/bpf/test_run.c), less the outer headers */
#define LONGEST 8951      /* EC2's jumbo MTU of 9001, less the outer headers */
#define MOST_PPS 100000000
#define MOST_MS 600000
#define SETTLED_MS 60 /* no frame for so long: the queues are empty */
#define LONGEST_DRAIN_MS 3000

static const char *folder = ".", *source, *sink, *baseline;
static unsigned flow_bits = 10, cpu, for_packets;

static struct pacer *pacer;
static struct arrived *arrived;
static struct pieces *pieces;
static uint64_t *latencies;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	fputs("trial: ", stderr);
	vfprintf(stderr, format, values);
	va_end(values);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

static void on_alarm(int which)
{
	(void)which;
}

/* --- namespaces, objects, maps ------------------------------------------------------------------------------------ */

/* Of "NAMESPACE:INTERFACE": enters the one, and returns the index of the other. */
static unsigned enter(const char *where)
{
	const char *colon = strchr(where, ':');
	char path[128];
	unsigned ifindex;
	int fd;

	if (!colon)
		die("'%s': give NAMESPACE:INTERFACE", where);
	snprintf(path, sizeof(path), "/var/run/netns/%.*s", (int)(colon - where), where);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die("network namespace '%s': %s; see `ip netns`", path, strerror(errno));
	close(fd);
	ifindex = if_nametoindex(colon + 1);
	if (!ifindex)
		die("interface '%s': not in this network namespace", where);
	return ifindex;
}

static struct bpf_object *load(const char *name)
{
	char path[512];
	struct bpf_object *object;

	snprintf(path, sizeof(path), "%s/%s.bpf.o", folder, name);
	object = bpf_object__open_file(path, NULL);
	if (!object || bpf_object__load(object))
		die("BPF object '%s': %s; build it: make -C bench", path, strerror(errno));
	return object;
}

static int program_of(struct bpf_object *object, const char *name)
{
	return bpf_program__fd(bpf_object__find_program_by_name(object, name));
}

static void *map_memory(struct bpf_object *object, const char *name, size_t size)
{
	void *memory =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_object__find_map_fd_by_name(object, name), 0);

	if (memory == MAP_FAILED)
		die("map '%s': %s", name, strerror(errno));
	return memory;
}

static void send_by(struct bpf_object *object, unsigned ifindex)
{
	__u32 only = 0;

	if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "wire"), &only, &ifindex, BPF_ANY))
		die("the kernel refuses interface %u in a device map: %s", ifindex, strerror(errno));
}

/* The link ends with the process. Driver mode, or the figure would be another one. */
static void attach(int program, unsigned ifindex, const char *where)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = XDP_FLAGS_DRV_MODE);

	if (bpf_link_create(program, ifindex, BPF_XDP, &options) < 0)
		die("XDP in driver mode on '%s': %s", where, strerror(errno));
}

/* Stays, as links of this kind need Linux 6.6; the next one takes its place. */
static void attach_to_packets(int program, unsigned ifindex, const char *where)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = 1, .priority = 1, .prog_fd = program, .flags = BPF_TC_F_REPLACE);
	int error = bpf_tc_hook_create(&hook);

	if (!error || error == -EEXIST)
		error = bpf_tc_attach(&hook, &options);
	if (error)
		die("tc ingress of '%s': %s", where, strerror(-error));
}

/* Of "NAMESPACE:FROM:TO". */
static void attach_baseline(void)
{
	char in[128];
	const char *last = strrchr(baseline, ':');
	struct bpf_object *object;
	unsigned ifindex, to;

	snprintf(in, sizeof(in), "%.*s", (int)(last ? last - baseline : 0), baseline);
	ifindex = enter(in);
	to = if_nametoindex(last + 1);
	if (!to)
		die("--baseline %s: no interface '%s' there", baseline, last + 1);
	object = load("baseline");
	send_by(object, to);
	attach(program_of(object, "baseline"), ifindex, in);
}

/* --- traffic ------------------------------------------------------------------------------------------------------ */

static uint32_t sum(const void *bytes, size_t size)
{
	uint32_t total = 0;

	for (size_t i = 0; i + 1 < size; i += 2) {
		uint16_t word;

		memcpy(&word, (const char *)bytes + i, sizeof(word));
		total += word;
	}
	return total;
}

static uint16_t fold(uint32_t total)
{
	total = (total & 0xffff) + (total >> 16);
	return (total & 0xffff) + (total >> 16);
}

static struct iphdr ip_header(unsigned length, const char *from, const char *to)
{
	struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(length) };

	ip.saddr = inet_addr(from);
	ip.daddr = inet_addr(to);
	return ip;
}

static void set_macs(struct ethhdr *ethernet, const char *from, const char *to)
{
	ether_aton_r(from, (struct ether_addr *)ethernet->h_source);
	ether_aton_r(to, (struct ether_addr *)ethernet->h_dest);
	ethernet->h_proto = htons(ETH_P_IP);
}

/* The inner UDP checksum is some number: nobody on the way verifies it, and a gateway updates it as it would a right one. */
static struct mirrored headers_of(unsigned bytes)
{
	struct mirrored frame = {
		.outer_ip = ip_header(bytes + OUTER_HEADERS, FROM_IP, TO_IP),
		.outer_udp = { .dest = htons(VXLAN_PORT), .len = htons(bytes + OUTER_HEADERS - sizeof(struct iphdr)) },
		.vxlan = { htonl(0x08000000), htonl(VNI << 8) },
		.ip = ip_header(bytes, "0.0.0.0", INNER_IP),
		.udp = { htons(40000), htons(TARGET_PORT), htons(bytes - sizeof(struct iphdr)), htons(0x1234) },
	};

	set_macs(&frame.outer_ethernet, FROM_MAC, TO_MAC);
	set_macs(&frame.ethernet, "02:aa:00:00:00:01", "02:aa:00:00:00:02");
	frame.ip.frag_off = htons(0x4000);
	frame.outer_ip.ttl = 255;
	frame.outer_ip.check = ~fold(sum(&frame.outer_ip, sizeof(frame.outer_ip)));
	return frame;
}

static void prepare(unsigned bytes, uint64_t pps, bool timed)
{
	struct mirrored headers = headers_of(bytes);

	memset(pieces, 0xff, PIECES * sizeof(*pieces));
	memset(latencies, 0, BUCKETS * sizeof(*latencies));
	*arrived = (struct arrived){ .flow_bits = flow_bits, .carried = bytes - sizeof(struct iphdr), .timed = timed };
	pacer->interval = pps ? (SECOND << 10) / pps : 0;
	pacer->first = pacer->last = pacer->sent = 0;
	pacer->flow_bits = flow_bits;
	pacer->checksum_without = sum(&headers.ip, sizeof(headers.ip));
	pacer->headers = headers;
}

static void offer_live_frames(struct bpf_object *generator, unsigned bytes, unsigned milliseconds)
{
	static uint8_t frame[LONGEST_LIVE + OUTER_HEADERS + sizeof(struct ethhdr)];
	struct itimerval end = { .it_value = { milliseconds / 1000, milliseconds % 1000 * 1000 } }, never = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame,
		.data_size_in = bytes + OUTER_HEADERS + sizeof(struct ethhdr), .repeat = UINT32_MAX / 2,
		.flags = BPF_F_TEST_XDP_LIVE_FRAMES);
	int error;

	setitimer(ITIMER_REAL, &end, NULL);
	error = bpf_prog_test_run_opts(program_of(generator, "generate"), &run) ? errno : 0;
	setitimer(ITIMER_REAL, &never, NULL);
	if (error && error != EINTR)
		die("live frames of %u bytes: %s; they need Linux 5.18", bytes, strerror(error));
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

/* Frames too long to be live ones, at the same pace. */
static void offer_packets(int packets, unsigned bytes, unsigned milliseconds)
{
	static union {
		struct mirrored headers;
		uint8_t bytes[LONGEST + OUTER_HEADERS + sizeof(struct ethhdr)];
	} frame;
	size_t size = bytes + OUTER_HEADERS + sizeof(struct ethhdr);
	uint64_t interval = pacer->interval >> 10, due = pacer->first = pacer->last = now();
	uint64_t end = pacer->first + milliseconds * 1000000ull;

	frame.headers = pacer->headers;
	for (uint64_t at; (at = now()) < end;) {
		if (interval && due > at)
			continue;
		if (interval && due + LONGEST_BURST_NS < at)
			due = at - LONGEST_BURST_NS;
		due += interval;
		pacer->last = at;
		make_datagram(&frame.headers, pacer, pacer->number++);
		pacer->sent++;
		/* No buffer: the wire is full, and the datagram lost as one of live frames would be. */
		if (send(packets, &frame, size, 0) < 0 && errno != ENOBUFS)
			die("packet socket: %zu bytes: %s", size, strerror(errno));
	}
}

/* In the network namespace of the interface. */
static int open_packet_socket(unsigned ifindex)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = ifindex };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), yes = 1, much = 64 << 20;

	if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof(to)) ||
		setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes)) ||
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &much, sizeof(much)))
		die("packet socket: %s", strerror(errno));
	return fd;
}

/* The sink counts while this waits. */
static uint64_t read_now(const void *counter)
{
	return *(const volatile uint64_t *)counter;
}

static void drain(void)
{
	const struct timespec pause = { 0, SETTLED_MS * 1000000 };

	for (int waited = 0; waited < LONGEST_DRAIN_MS; waited += SETTLED_MS) {
		uint64_t before = read_now(&arrived->frames);

		nanosleep(&pause, NULL);
		if (read_now(&arrived->frames) == before)
			return;
	}
}

/* In the form [[bucket, datagrams], ...]. */
static void print_latencies(void)
{
	const char *before = "";

	fputs(",\"latencies\":[", stdout);
	for (unsigned bucket = 0; bucket < BUCKETS; bucket++)
		if (latencies[bucket]) {
			printf("%s[%u,%llu]", before, bucket, (unsigned long long)latencies[bucket]);
			before = ",";
		}
	fputs("]}\n", stdout);
}

static void trial(struct bpf_object *generator, int packets, unsigned bytes, unsigned milliseconds)
{
	uint64_t in_time;

	if (bytes <= LONGEST_LIVE)
		offer_live_frames(generator, bytes, milliseconds);
	else
		offer_packets(packets, bytes, milliseconds);
	in_time = read_now(&arrived->datagrams);
	drain();
	printf("{\"offered\":%llu,\"seconds\":%.6f,\"in_time\":%llu", (unsigned long long)pacer->sent,
		(pacer->last - pacer->first) / (double)SECOND, (unsigned long long)in_time);
	printf(",\"delivered\":%llu,\"with_df\":%llu,\"surplus\":%llu,\"unmatched\":%llu",
		(unsigned long long)arrived->datagrams, (unsigned long long)arrived->with_df,
		(unsigned long long)arrived->surplus, (unsigned long long)arrived->unmatched);
	print_latencies();
	fflush(stdout);
}

/* --- command line ------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	const char **text;
	unsigned *number, most;
	const char *what;
} settings[] = {
	{ "objects", &folder, NULL, 0, "folder of the BPF objects" },
	{ "source", &source, NULL, 0, "NAMESPACE:INTERFACE that sends" },
	{ "sink", &sink, NULL, 0, "NAMESPACE:INTERFACE that counts, and drops" },
	{ "baseline", &baseline, NULL, 0,
		"NAMESPACE:FROM:TO, interfaces between which a program only takes off the outer headers" },
	{ "flow-bits", NULL, &flow_bits, MOST_FLOW_BITS, "flows, as a power of two" },
	{ "sink-for-packets", NULL, &for_packets, 1,
		"1: the sink takes the kernel's packets; 0: frames in the driver" },
	{ "cpu", NULL, &cpu, CPU_SETSIZE - 1, "processor of the generator" },
};
#define SETTINGS (sizeof(settings) / sizeof(*settings))

static uint64_t number(const char *name, const char *text, uint64_t least, uint64_t most)
{
	size_t digits = strspn(text, "0123456789");
	uint64_t value = digits && digits < 19 ? strtoull(text, NULL, 10) : UINT64_MAX;

	if (text[digits] || value < least || value > most)
		die("%s '%s': give a whole number from %llu to %llu", name, text, (unsigned long long)least,
			(unsigned long long)most);
	return value;
}

static void parse(int argc, char **argv)
{
	struct option options[SETTINGS + 1] = { 0 };
	int index;

	for (size_t i = 0; i < SETTINGS; i++)
		options[i] = (struct option){ settings[i].name, required_argument, NULL, 1 };
	opterr = 0;
	for (int which; (which = getopt_long(argc, argv, ":", options, &index)) != -1;) {
		if (which != 1)
			die("'%s' %s", argv[optind - 1], which == ':' ? "needs a value" : "is no option");
		if (settings[index].text)
			*settings[index].text = optarg;
		else
			*settings[index].number = number(settings[index].name, optarg, 0, settings[index].most);
	}
	if (optind == argc && source && sink)
		return;
	puts("usage: trial --source NAMESPACE:INTERFACE --sink NAMESPACE:INTERFACE [OPTION]...");
	for (size_t i = 0; i < SETTINGS; i++)
		printf("  --%-12s %s\n", settings[i].name, settings[i].what);
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	const struct sigaction alarm = { .sa_handler = on_alarm };
	struct bpf_object *counter, *generator;
	char line[160], size[32], rate[32], time[32], timed[32];
	cpu_set_t only;
	unsigned ifindex, bytes;
	int packets;

	parse(argc, argv);
	/* Whoever started this may have been killed. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGALRM, &alarm, NULL);
	CPU_ZERO(&only);
	CPU_SET(cpu, &only);
	if (sched_setaffinity(0, sizeof(only), &only))
		die("--cpu %u: %s", cpu, strerror(errno));
	/* Others who use the machine shall not hold up the generator. */
	setpriority(PRIO_PROCESS, 0, -20);
	ifindex = enter(sink);
	counter = load("sink");
	if (for_packets)
		attach_to_packets(program_of(counter, "count_packet"), ifindex, sink);
	else
		attach(program_of(counter, "count_in_driver"), ifindex, sink);
	arrived = map_memory(counter, "arrived", sizeof(*arrived));
	pieces = map_memory(counter, "pieces", PIECES * sizeof(*pieces));
	latencies = map_memory(counter, "latencies", BUCKETS * sizeof(*latencies));
	if (baseline)
		attach_baseline();
	ifindex = enter(source);
	generator = load("generator");
	send_by(generator, ifindex);
	pacer = map_memory(generator, "pacer", sizeof(*pacer));
	packets = open_packet_socket(ifindex);
	puts("{\"ready\":true}");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%31s %31s %31s %31s", size, rate, time, timed) != 4)
			die("'%s': give BYTES PPS MILLISECONDS TIMED", strtok(line, "\n"));
		bytes = number("BYTES", size, SHORTEST, LONGEST);
		prepare(bytes, number("PPS", rate, 0, MOST_PPS), number("TIMED", timed, 0, 1));
		trial(generator, packets, bytes, number("MILLISECONDS", time, 1, MOST_MS));
	}
	return EXIT_SUCCESS;
}
