// SPDX-License-Identifier: Apache-2.0
/*
 * A stream of mirrored datagrams and its receiver. `send` plays the mirror session: each datagram carries a sequence
 * number, and what it says it sent has left. `receive` is the IPsec VM: it tells which numbers came, came twice or
 * came damaged, and counts at the wire what still carries Don't-Fragment. What the receiver itself lost, it says as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define die(...) (fprintf(stderr, "stream: " __VA_ARGS__), fputc('\n', stderr), exit(EXIT_FAILURE))

#define SECOND 1000000000ull
#define TICK (SECOND / 2000) /* the sender wakes so often: 5 datagrams each time at 10 000/s */
#define BATCH 64
#define LONGEST 9001 /* bytes of IP, what AWS gives an ENI */
#define MOST_FLOWS 65536u
#define MOST_SIZES 16
#define MOST_NUMBERS (1ull << 32) /* one bit each; pages nobody touches cost nothing */
#define MOST_SECONDS 86400
#define RANGES 20 /* of missing numbers in a report */
#define MARK 0x4d475354u

/* At the head of the payload. The number stands once more at its end: no two datagrams can be glued together. */
struct stamp {
	uint32_t mark, flow;
	uint32_t number[2];
} __attribute__((packed));

/* What goes before the payload, from the VXLAN header on. */
struct head {
	uint8_t vxlan[8];
	uint8_t ethernet[14];
	struct {
		uint8_t version, tos;
		uint16_t length, id, fragment;
		uint8_t ttl, protocol;
		uint16_t checksum;
		uint32_t from, to;
	} __attribute__((packed)) ip;
	struct {
		uint16_t from, to, length, checksum;
	} __attribute__((packed)) udp;
	struct stamp stamp;
} __attribute__((packed));

#define HEADERS (20 + 8)
#define SHORTEST (HEADERS + sizeof(struct stamp) + 8)
#define FIRST_ADDRESS 0xc6120001u /* 198.18.0.1, RFC 2544's range: one address a flow, so each has its own IP ids */

static struct sockaddr_in to = { .sin_family = AF_INET }, at = { .sin_family = AF_INET };
static uint64_t pps = 10000, count = UINT64_MAX, first, seconds = MOST_SECONDS, flows = 1000, vni = 1, port = 31765,
		same_id = UINT64_MAX, progress, buffer = 256 << 20;
static unsigned sizes[MOST_SIZES] = { 1428 }, size_count = 1;
static const char *interface = "k0";
static uint8_t pattern[LONGEST];
static volatile sig_atomic_t stopping, asked;

static uint64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

static void sleep_until(uint64_t when)
{
	struct timespec time = { when / SECOND, when % SECOND };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void on_signal(int which)
{
	if (which == SIGUSR1)
		asked = 1;
	else
		stopping = 1;
}

/* Signals wait until the program does: blocked, except where `unblocked` is the mask. */
static sigset_t take_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t ours, unblocked;

	sigemptyset(&ours);
	for (size_t i = 0; i < 3; i++) {
		int which = (int[]){ SIGTERM, SIGINT, SIGUSR1 }[i];

		sigaction(which, &action, NULL);
		sigaddset(&ours, which);
	}
	sigprocmask(SIG_BLOCK, &ours, &unblocked);
	return unblocked;
}

static void make_pattern(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = i * 167 + (i >> 8) + 1;
}

/* --- send --------------------------------------------------------------------------------------------------------- */

/* Sum of 16-bit words as they lie on the wire, for RFC 1071; an odd last byte is the high one. */
static uint32_t sum_of(const void *bytes, size_t length)
{
	const uint8_t *byte = bytes;
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i++)
		sum += i & 1 ? byte[i] : byte[i] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* What all datagrams of a size share: headers whose varying fields are zero, and the sums over them. */
struct template
{
	struct head head;
	size_t filling; /* bytes between the stamp and the last number */
	uint32_t ip_sum, udp_sum;
};

static struct template make_template(unsigned size)
{
	struct template made = { .filling = size - SHORTEST };
	struct head *head = &made.head;
	uint16_t length = size - 20;

	head->vxlan[0] = 8; /* the VNI is valid */
	memcpy(head->vxlan + 4, &(uint32_t){ htonl(vni << 8) }, 4);
	/* Foreign to the gateway, as on AWS. */
	memcpy(head->ethernet, "\x0e\xbb\0\0\0\2\x0e\xaa\0\0\0\1\x08\0", 14);
	head->ip.version = 0x45;
	head->ip.length = htons(size);
	head->ip.fragment = htons(0x4000); /* DF */
	head->ip.ttl = 64;
	head->ip.protocol = IPPROTO_UDP;
	head->ip.to = htonl(0xcb007109); /* 203.0.113.9 */
	head->udp.to = htons(port);
	head->udp.length = htons(length);
	head->stamp.mark = htonl(MARK);
	made.ip_sum = sum_of(&head->ip, sizeof(head->ip));
	made.udp_sum = sum_of(&head->ip.from, 8) + IPPROTO_UDP + length + sum_of(&head->udp, sizeof(head->udp)) +
		       sum_of(&head->stamp, sizeof(head->stamp)) + sum_of(pattern, made.filling);
	return made;
}

static void put_number(void *where, uint64_t number)
{
	uint32_t words[2] = { htonl(number >> 32), htonl(number) };

	memcpy(where, words, sizeof(words));
}

static void fill(struct head *head, uint8_t *last, const struct template *template, uint64_t number)
{
	uint32_t flow = number % flows, sum;
	uint16_t id = same_id <= UINT16_MAX ? same_id : number / flows, varying;

	*head = template->head;
	head->ip.from = htonl(FIRST_ADDRESS + flow);
	head->ip.id = htons(id);
	head->udp.from = htons(1024 + flow % 60000);
	head->stamp.flow = htonl(flow);
	put_number(head->stamp.number, number);
	put_number(last, number);
	varying = fold(sum_of(&head->ip.from, 4));
	head->ip.checksum = htons(~fold(template->ip_sum + varying + id));
	/* Behind an odd number of bytes every word of the last number lies askew: so does its sum. */
	sum = fold(sum_of(last, 8));
	if (template->filling & 1)
		sum = (sum & 0xff) << 8 | sum >> 8;
	sum += varying + ntohs(head->udp.from) + sum_of(&head->stamp.flow, 4) + sum_of(head->stamp.number, 8);
	sum = (uint16_t)~fold(fold(template->udp_sum) + sum);
	head->udp.checksum = htons(sum ? sum : 0xffff);
}

/* As a mirror session sends: TTL 255, DF clear, no checksum. */
static int open_session(void)
{
	int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1, ttl = 255, discover = IP_PMTUDISC_DONT;

	if (socket_ < 0 || connect(socket_, (struct sockaddr *)&to, sizeof(to)))
		die("cannot reach %s:%u: %s", inet_ntoa(to.sin_addr), ntohs(to.sin_port), strerror(errno));
	setsockopt(socket_, SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on));
	setsockopt(socket_, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
	setsockopt(socket_, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof(discover));
	return socket_;
}

/* All of them, however often the kernel asks for patience; returns how often. Fewer only when told to stop. */
static unsigned send_all(int socket_, struct mmsghdr *messages, unsigned wanted, unsigned *left)
{
	unsigned refusals = 0;

	for (*left = 0; *left < wanted && !stopping;) {
		int done = sendmmsg(socket_, messages + *left, wanted - *left, 0);

		if (done > 0) {
			*left += done;
			continue;
		}
		if (errno != EAGAIN && errno != ENOBUFS && errno != ECONNREFUSED && errno != EINTR)
			die("cannot send to %s:%u: %s", inet_ntoa(to.sin_addr), ntohs(to.sin_port), strerror(errno));
		refusals++;
		sleep_until(now(CLOCK_MONOTONIC) + 50000);
	}
	return refusals;
}

static void send_stream(void)
{
	static struct head heads[BATCH];
	static uint8_t lasts[BATCH][8];
	static struct iovec parts[BATCH][3];
	static struct mmsghdr messages[BATCH];
	static struct template templates[MOST_SIZES];
	uint64_t sent = 0, bytes = 0, refusals = 0, slipped = 0, said = 0, start, began;
	int socket_ = open_session();

	for (unsigned i = 0; i < size_count; i++)
		templates[i] = make_template(sizes[i]);
	for (unsigned i = 0; i < BATCH; i++) {
		parts[i][0] = (struct iovec){ &heads[i], sizeof(heads[i]) };
		parts[i][1].iov_base = pattern;
		parts[i][2] = (struct iovec){ lasts[i], sizeof(lasts[i]) };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = parts[i], .msg_iovlen = 3 };
	}
	sigprocmask(SIG_SETMASK, &(sigset_t){ 0 }, NULL);
	start = began = now(CLOCK_MONOTONIC);
	while (sent < count && !stopping) {
		uint64_t time = now(CLOCK_MONOTONIC), due;
		unsigned wanted = BATCH, left;

		if (time - began >= seconds * SECOND)
			break;
		due = (time - start) * (double)pps / SECOND + 1;
		/* Held up for more than 50 ms: what was not sent then is not sent in one burst now. */
		if (due > sent && due - sent > pps / 20 + BATCH) {
			slipped += due - sent;
			start = time - (uint64_t)(sent * (double)SECOND / pps);
			due = sent + 1;
		}
		if (progress && time - said >= progress * 1000000) {
			printf("{\"at\":%llu,\"number\":%llu}\n", (unsigned long long)(now(CLOCK_REALTIME) / 1000000),
				(unsigned long long)(first + sent));
			fflush(stdout);
			said = time;
		}
		if (due <= sent) {
			sleep_until(time + TICK);
			continue;
		}
		if (due - sent < wanted)
			wanted = due - sent;
		if (count - sent < wanted)
			wanted = count - sent;
		for (unsigned i = 0; i < wanted; i++) {
			uint64_t number = first + sent + i;
			const struct template *template = &templates[(number + number / flows) % size_count];

			fill(&heads[i], lasts[i], template, number);
			parts[i][1].iov_len = template->filling;
		}
		refusals += send_all(socket_, messages, wanted, &left);
		for (unsigned i = 0; i < left; i++)
			bytes += ntohs(heads[i].ip.length);
		sent += left;
	}
	double took = (now(CLOCK_MONOTONIC) - began) / (double)SECOND;

	printf("{\"sent\":%llu,\"bytes\":%llu,\"seconds\":%.3f,\"pps\":%.0f,\"refusals\":%llu,\"slipped\":%llu}\n",
		(unsigned long long)sent, (unsigned long long)bytes, took, took > 0 ? sent / took : 0,
		(unsigned long long)refusals, (unsigned long long)slipped);
}

/* --- receive ------------------------------------------------------------------------------------------------------ */

static struct {
	uint64_t received, duplicates, corrupt, reordered, bytes, highest; /* highest: one more than the number */
	uint64_t frames, frames_with_df;
	uint64_t first_with_df[RANGES];
	uint64_t first_at, last_at;
} seen;
static uint64_t *bitmap, next_of_flow[MOST_FLOWS];
static uint32_t *per_second;

/*
 * Counts IPv4 frames with UDP to the socket's address, or of those the ones with `flags`. Nobody needs to read it: a
 * frame that finds the buffer full is counted all the same, and that is cheap.
 */
static int count_frames(uint16_t flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 30),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(at.sin_addr.s_addr), 0, 3),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
		BPF_JUMP(flags ? BPF_JMP | BPF_JSET | BPF_K : BPF_JMP | BPF_JA, flags, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 128),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sockaddr_ll wire = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex(interface)
	};
	/* Bound to a protocol only after the filter is in place. */
	int socket_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), room = flags ? 1 << 16 : 1;
	struct sock_fprog filter = { COUNT(code), code };

	if (socket_ < 0)
		die("no packet socket: %s; run as root", strerror(errno));
	if (!wire.sll_ifindex)
		die("--interface %s: not in this network namespace", interface);
	if (setsockopt(socket_, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) ||
		setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) ||
		bind(socket_, (struct sockaddr *)&wire, sizeof(wire)))
		die("cannot watch interface %s: %s", interface, strerror(errno));
	return socket_;
}

/* The kernel counts anew after each answer. */
static uint64_t frames_since(int socket_)
{
	struct tpacket_stats stats = { 0 };
	socklen_t size = sizeof(stats);

	if (getsockopt(socket_, SOL_PACKET, PACKET_STATISTICS, &stats, &size))
		die("no frame counter: %s", strerror(errno));
	return stats.tp_packets;
}

static uint64_t get_number(const void *where)
{
	uint32_t words[2];

	memcpy(words, where, sizeof(words));
	return (uint64_t)ntohl(words[0]) << 32 | ntohl(words[1]);
}

/* Which datagrams were they? Those that fit the buffer, at least. */
static void name_frames_with_df(int socket_, uint64_t before)
{
	uint8_t frame[256];

	for (uint64_t i = before; i < RANGES; i++) {
		ssize_t size = recv(socket_, frame, sizeof(frame), MSG_DONTWAIT);

		if (size < 14 + HEADERS + (ssize_t)sizeof(struct stamp))
			return;
		seen.first_with_df[i] = get_number(frame + 14 + HEADERS + offsetof(struct stamp, number));
	}
}

static int open_receiver(void)
{
	int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), bytes = buffer;

	if (socket_ < 0 || setsockopt(socket_, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		die("no socket with a buffer of %d bytes: %s; run as root", bytes, strerror(errno));
	if (bind(socket_, (struct sockaddr *)&at, sizeof(at)))
		die("--at %s:%u: %s", inet_ntoa(at.sin_addr), ntohs(at.sin_port), strerror(errno));
	return socket_;
}

/* Lost at this socket for want of room, or because the checksum was wrong. */
static unsigned socket_drops(int socket_)
{
	uint32_t memory[SK_MEMINFO_VARS] = { 0 };
	socklen_t size = sizeof(memory);

	if (getsockopt(socket_, SOL_SOCKET, SO_MEMINFO, memory, &size))
		die("no drop counter: %s", strerror(errno));
	return memory[SK_MEMINFO_DROPS];
}

static void take_datagram(const uint8_t *bytes, size_t size)
{
	const struct stamp *stamp = (const struct stamp *)bytes;
	uint64_t number, bit, elapsed;
	uint32_t flow;

	if (size < sizeof(*stamp) + 8 || ntohl(stamp->mark) != MARK || ntohl(stamp->flow) >= MOST_FLOWS ||
		get_number(stamp->number) >= MOST_NUMBERS ||
		get_number(bytes + size - 8) != get_number(stamp->number) ||
		memcmp(bytes + sizeof(*stamp), pattern, size - sizeof(*stamp) - 8)) {
		seen.corrupt++;
		return;
	}
	number = get_number(stamp->number);
	bit = 1ull << number % 64;
	if (bitmap[number / 64] & bit) {
		seen.duplicates++;
		return;
	}
	bitmap[number / 64] |= bit;
	seen.received++;
	seen.bytes += size + HEADERS;
	if (number >= seen.highest)
		seen.highest = number + 1;
	flow = ntohl(stamp->flow);
	if (number < next_of_flow[flow])
		seen.reordered++;
	else
		next_of_flow[flow] = number + 1;
	seen.last_at = now(CLOCK_MONOTONIC);
	if (!seen.first_at)
		seen.first_at = seen.last_at;
	elapsed = (seen.last_at - seen.first_at) / SECOND;
	if (elapsed < MOST_SECONDS)
		per_second[elapsed]++;
}

static bool came(uint64_t number)
{
	return bitmap[number / 64] >> number % 64 & 1;
}

/* Gaps below the highest number: whoever sent them knows what was still to come. */
static void print_missing(void)
{
	uint64_t missing = 0, ranges = 0;

	printf(",\"missing_ranges\":[");
	for (uint64_t from = first, end; from < seen.highest; from = end + 1) {
		if (from % 64 == 0 && bitmap[from / 64] == UINT64_MAX) {
			end = from + 63;
			continue;
		}
		for (end = from; end < seen.highest && !came(end); end++)
			continue;
		if (end == from)
			continue;
		missing += end - from;
		if (ranges++ < RANGES)
			printf("%s[%llu,%llu]", ranges > 1 ? "," : "", (unsigned long long)from,
				(unsigned long long)end - 1);
	}
	printf("],\"missing\":%llu", (unsigned long long)missing);
}

static void report(int receiver, int all, int with_df)
{
	uint64_t whole = seen.first_at ? (seen.last_at - seen.first_at) / SECOND : 0;
	uint64_t before = seen.frames_with_df, named;

	seen.frames += frames_since(all);
	seen.frames_with_df += frames_since(with_df);
	name_frames_with_df(with_df, before);
	printf("{\"received\":%llu,\"highest\":%lld,\"duplicates\":%llu,\"corrupt\":%llu,\"reordered\":%llu,\"bytes\":%llu",
		(unsigned long long)seen.received, (long long)seen.highest - 1, (unsigned long long)seen.duplicates,
		(unsigned long long)seen.corrupt, (unsigned long long)seen.reordered, (unsigned long long)seen.bytes);
	printf(",\"receiver_drops\":%u,\"frames\":%llu,\"frames_with_df\":%llu,\"first_with_df\":[",
		socket_drops(receiver), (unsigned long long)seen.frames, (unsigned long long)seen.frames_with_df);
	named = seen.frames_with_df < RANGES ? seen.frames_with_df : RANGES;
	for (uint64_t i = 0; i < named; i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)seen.first_with_df[i]);
	printf("]");
	print_missing();
	printf(",\"seconds\":%.3f,\"per_second\":[", (seen.last_at - seen.first_at) / (double)SECOND);
	for (uint64_t i = 0; i < whole && i < MOST_SECONDS; i++)
		printf("%s%u", i ? "," : "", per_second[i]);
	puts("]}");
	fflush(stdout);
}

static void receive_stream(const sigset_t *unblocked)
{
	static uint8_t bytes[BATCH][LONGEST];
	static struct iovec parts[BATCH];
	static struct mmsghdr messages[BATCH];
	int receiver = open_receiver(), all = count_frames(0), with_df = count_frames(0x4000);
	struct pollfd ready = { receiver, POLLIN, 0 };
	uint64_t end = now(CLOCK_MONOTONIC) + seconds * SECOND;

	bitmap = mmap(
		NULL, MOST_NUMBERS / 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	per_second = calloc(MOST_SECONDS, sizeof(*per_second));
	if (bitmap == MAP_FAILED || !per_second)
		die("no memory for the numbers: %s", strerror(errno));
	for (size_t i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ bytes[i], sizeof(bytes[i]) };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
	}
	puts("{\"listening\":true}");
	fflush(stdout);
	while (!stopping && seen.received < count) {
		uint64_t time = now(CLOCK_MONOTONIC);
		struct timespec limit = { time < end ? (end - time) / SECOND : 0,
			time < end ? (end - time) % SECOND : 0 };

		if (time >= end)
			break;
		if (asked) {
			asked = 0;
			report(receiver, all, with_df);
		}
		if (ppoll(&ready, 1, &limit, unblocked) <= 0)
			continue;
		int got = recvmmsg(receiver, messages, BATCH, MSG_DONTWAIT, NULL);

		for (int i = 0; i < got; i++)
			take_datagram(bytes[i], messages[i].msg_len);
	}
	report(receiver, all, with_df);
}

/* --- command line ------------------------------------------------------------------------------------------------- */

static const struct number {
	const char *name;
	uint64_t *value, min, max;
	const char *text;
} numbers[] = {
	{ "pps", &pps, 1, 100000000, "send: datagrams a second" },
	{ "flows", &flows, 1, MOST_FLOWS, "send: one after the other, each with its own source address" },
	{ "count", &count, 1, MOST_NUMBERS, "end after so many datagrams" },
	{ "seconds", &seconds, 1, MOST_SECONDS, "end after this time; both also end at SIGTERM" },
	{ "first", &first, 0, MOST_NUMBERS - 1, "first sequence number" },
	{ "id", &same_id, 0, UINT16_MAX, "send: IP identification of all datagrams; without it each flow counts" },
	{ "vni", &vni, 1, 0xffffff, "send: VXLAN network id" },
	{ "target-port", &port, 1, 65535, "send: destination port of the mirrored datagrams" },
	{ "progress", &progress, 1, 60000, "send: print time and sequence number, each so many milliseconds" },
	{ "buffer", &buffer, 4096, 1 << 30, "receive: bytes of the socket's buffer" },
};

static void help(void)
{
	puts("usage: stream send|receive [OPTION]...\n"
	     "send: mirrored datagrams over VXLAN, DF set, each with a sequence number. One line of JSON at its end.\n"
	     "receive: which of them came, and how. One line of JSON at its end, and at SIGUSR1.\n"
	     "  --to ADDRESS:PORT      send: the gateway (10.77.0.2:4789)\n"
	     "  --at ADDRESS:PORT      receive: the IPsec VM (10.88.0.95:8081)\n"
	     "  --interface NAME       receive: where frames with DF are counted (k0)\n"
	     "  --bytes SIZE[,SIZE...] send: IP total lengths, in turn (1428)");
	for (size_t i = 0; i < COUNT(numbers); i++) {
		printf("  --%-20s %s, %llu..%llu", numbers[i].name, numbers[i].text, (unsigned long long)numbers[i].min,
			(unsigned long long)numbers[i].max);
		if (*numbers[i].value && *numbers[i].value <= numbers[i].max)
			printf(" (%llu)", (unsigned long long)*numbers[i].value);
		puts("");
	}
	exit(EXIT_SUCCESS);
}

static uint64_t parse_number(const char *name, const char *text, uint64_t min, uint64_t max)
{
	size_t digits = strspn(text, "0123456789");
	uint64_t value = digits < 19 ? strtoull(text, NULL, 10) : UINT64_MAX;

	if (!digits || text[digits] || value < min || value > max)
		die("--%s '%s': give a whole number from %llu to %llu", name, text, (unsigned long long)min,
			(unsigned long long)max);
	return value;
}

static void parse_endpoint(const char *name, char *text, struct sockaddr_in *endpoint)
{
	char *colon = strchr(text, ':');

	if (colon)
		*colon = '\0';
	if (!colon || !inet_aton(text, &endpoint->sin_addr))
		die("--%s '%s': give ADDRESS:PORT", name, text);
	endpoint->sin_port = htons(parse_number(name, colon + 1, 1, 65535));
}

static void parse_sizes(char *text)
{
	size_count = 0;
	for (char *rest, *size = strtok_r(text, ",", &rest); size; size = strtok_r(NULL, ",", &rest)) {
		if (size_count == MOST_SIZES)
			die("--bytes: at most %d sizes", MOST_SIZES);
		sizes[size_count++] = parse_number("bytes", size, SHORTEST, LONGEST);
	}
	if (!size_count)
		die("--bytes: name a size");
}

static void parse(int argc, char **argv)
{
	struct option options[COUNT(numbers) + 6] = {
		{ "to", required_argument, NULL, 't' },
		{ "at", required_argument, NULL, 'a' },
		{ "interface", required_argument, NULL, 'i' },
		{ "bytes", required_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
	};
	int which, index;

	for (size_t i = 0; i < COUNT(numbers); i++)
		options[5 + i] = (struct option){ numbers[i].name, required_argument, NULL, 'n' };
	opterr = 0;
	while ((which = getopt_long(argc, argv, ":", options, &index)) != -1) {
		if (which == ':' || which == '?')
			die("'%s' %s; see --help", argv[optind - 1], which == ':' ? "needs a value" : "is no option");
		if (which == 'h')
			help();
		else if (which == 't')
			parse_endpoint("to", optarg, &to);
		else if (which == 'a')
			parse_endpoint("at", optarg, &at);
		else if (which == 'i')
			interface = optarg;
		else if (which == 'b')
			parse_sizes(optarg);
		else
			*numbers[index - 5].value = parse_number(
				numbers[index - 5].name, optarg, numbers[index - 5].min, numbers[index - 5].max);
	}
}

int main(int argc, char **argv)
{
	char gateway[] = "10.77.0.2:4789", sink[] = "10.88.0.95:8081";
	sigset_t unblocked;

	parse_endpoint("to", gateway, &to);
	parse_endpoint("at", sink, &at);
	parse(argc, argv);
	make_pattern();
	if (optind != argc - 1 || (strcmp(argv[optind], "send") && strcmp(argv[optind], "receive")))
		die("say send or receive; see --help");
	unblocked = take_signals();
	if (!strcmp(argv[optind], "send"))
		send_stream();
	else
		receive_stream(&unblocked);
}
