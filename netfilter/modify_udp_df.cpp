// SPDX-License-Identifier: Apache-2.0
//
// The engine `nfqueue`, the NFQUEUE daemon: clears DF of large UDP datagrams to one port in userspace, by the XDP programs'
// rule. Nothing is ever dropped: all else is accepted as it came, and the kernel fails open when the queue overflows.

#include <arpa/inet.h>
#include <getopt.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <poll.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>

#include "../lib/journal.h"
#include "../lib/settings.h"

namespace
{

constexpr unsigned kSocketBuffer = 32 << 20, kQueueLength = 8192;
constexpr unsigned kLongestMessage = 0x10000 + 4096; // a packet and what netlink says of it
constexpr time_t kSummarySeconds = 60, kDrainSeconds = 5;
constexpr int kQuietMs = 200; // no packet for so long: the queue is drained

constexpr option kOptions[] = { { "queue", 1, nullptr, 0 }, { "target-port", 1, nullptr, 1 },
	{ "min-packet-size", 1, nullptr, 2 }, { "max-packet-size", 1, nullptr, 3 }, { "help", 0, nullptr, 'h' }, {} };
constexpr struct {
	unsigned min, max;
} kBounds[] = { { 0, 65535 }, { TARGET_PORT_MIN, TARGET_PORT_MAX }, { MIN_PACKET_SIZE_MIN, MIN_PACKET_SIZE_MAX },
	{ MAX_PACKET_SIZE_MIN, MAX_PACKET_SIZE_MAX } };
unsigned values[] = { 0, TARGET_PORT_DEFAULT, MIN_PACKET_SIZE_DEFAULT, MAX_PACKET_SIZE_DEFAULT };
const unsigned &number = values[0], &port = values[1], &minimum = values[2], &maximum = values[3];

unsigned long seen, modified, malformed, errors;
volatile sig_atomic_t stopping;
nfq_q_handle *queue;

[[noreturn]] void die(const std::string &message)
{
	journal(LOG_ERR, nullptr, 0, "modify_udp_df: %s", message.c_str());
	exit(EXIT_FAILURE);
}

unsigned word(const unsigned char *at)
{
	return at[0] << 8 | at[1];
}

// RFC 1624, equation 3. The UDP checksum does not cover DF.
void clear_df(unsigned char *ip)
{
	unsigned before = word(ip + 6), after = before & ~0x4000u;
	unsigned sum = (~word(ip + 10) & 0xffff) + (~before & 0xffff) + after;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~(sum + (sum >> 16));
	ip[6] = after >> 8;
	ip[10] = sum >> 8;
	ip[11] = sum;
}

// True when it changed the packet.
bool process(unsigned char *ip, unsigned size)
{
	unsigned header = size < 20 ? 0 : (ip[0] & 15) * 4, total = header ? word(ip + 2) : 0;
	if (header < 20 || ip[0] >> 4 != 4 || total < header || total > size) {
		malformed++;
		return false;
	}
	// The payload of a fragment is no UDP header, or not a whole datagram's.
	if (ip[9] != IPPROTO_UDP || word(ip + 6) & 0x3fff)
		return false;
	const unsigned char *udp = ip + header;
	if (total < header + 8 || word(udp + 4) < 8 || word(udp + 4) > total - header) {
		malformed++;
		return false;
	}
	if (word(udp + 2) != port || total <= minimum || total > maximum || !(word(ip + 6) & 0x4000))
		return false;
	clear_df(ip);
	modified++;
	return true;
}

int answer(nfq_q_handle *, nfgenmsg *, nfq_data *data, void *)
{
	nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);
	unsigned char *ip = nullptr;
	if (!header)
		return -1;
	int size = nfq_get_payload(data, &ip);
	seen++;
	if (!process(ip, size < 0 ? 0 : size))
		size = 0; // no bytes in the verdict: the kernel keeps its own
	return nfq_set_verdict(queue, ntohl(header->packet_id), NF_ACCEPT, size, ip);
}

// The kernel answers EPERM both to the unprivileged and when another program holds the queue.
[[noreturn]] void refused()
{
	std::string name = "--queue " + std::to_string(number), error = strerror(errno), holder, rest;
	std::ifstream table("/proc/net/netfilter/nfnetlink_queue");
	for (unsigned held; table >> held >> holder && std::getline(table, rest);)
		if (held == number)
			die(name + ": held by another program (netlink port " + holder +
				"): stop it or use another queue");
	die(name + ": " + error + ": run as root on a kernel with NFQUEUE");
}

nfq_handle *open_queue()
{
	nfq_handle *handle = nfq_open();
	int on = 1;
	if (!handle || !(queue = nfq_create_queue(handle, number, answer, nullptr)))
		refused();
	nfnl_rcvbufsiz(nfq_nfnlh(handle), kSocketBuffer);
	// The library reads packets as well while it waits for the kernel's answer to a setting; its own buffer is too
	// short for the longest, which would be lost.
	nfnl_set_rcv_buffer_size(nfq_nfnlh(handle), kLongestMessage);
	setsockopt(nfq_fd(handle), SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on);
	nfq_set_queue_maxlen(queue, kQueueLength);
	if (nfq_set_queue_flags(queue, NFQA_CFG_F_FAIL_OPEN, NFQA_CFG_F_FAIL_OPEN) < 0 ||
		nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff) < 0)
		refused();
	return handle;
}

// Waits, then answers a batch; false when nothing came in time.
bool serve(nfq_handle *handle, int timeout_ms, const sigset_t &unblocked)
{
	alignas(8) static char message[kLongestMessage];
	pollfd ready{ nfq_fd(handle), POLLIN, 0 };
	timespec limit{ timeout_ms / 1000, timeout_ms % 1000 * 1000000L };
	if (ppoll(&ready, 1, &limit, &unblocked) <= 0)
		return false;
	for (int batch = 0; batch < 64; batch++) {
		ssize_t size = recv(ready.fd, message, sizeof message, MSG_DONTWAIT);
		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (size < 0 || nfq_handle_packet(handle, message, size) < 0)
			errors++; // ENOBUFS among them: the queue lives on
	}
	return true;
}

journal_field field(const char *name, const std::string &value)
{
	journal_field result{ name, "" };
	value.copy(result.value, sizeof result.value - 1);
	return result;
}

void summarize()
{
	const journal_field fields[] = { field("ENGINE", "nfqueue"), field("INTERFACE", "br0"),
		field("PACKETS_SEEN", std::to_string(seen)), field("PACKETS_MODIFIED", std::to_string(modified)),
		field("PACKETS_MALFORMED", std::to_string(malformed)), field("ERRORS", std::to_string(errors)) };
	journal(LOG_INFO, fields, std::size(fields),
		"modify_udp_df: queue %u: %lu seen, %lu modified, %lu malformed, %lu errors", number, seen, modified,
		malformed, errors);
}

time_t now()
{
	timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

void parse(int argc, char **argv)
{
	for (int which, index; (which = getopt_long(argc, argv, "", kOptions, &index)) != -1;) {
		if (which == '?')
			exit(EXIT_FAILURE);
		if (which == 'h') {
			printf("usage: modify_udp_df [--queue 0] [--target-port %u] [--min-packet-size %u] [--max-packet-size %u]\n"
			       "Clears DF of UDP datagrams to the target port, minimum < IP total length <= maximum.\n"
			       "SIGTERM, SIGINT: lets the rest pass, handles what is still queued, exits.\n",
				port, minimum, maximum);
			exit(EXIT_SUCCESS);
		}
		const char *end = optarg + strlen(optarg);
		auto [rest, error] = std::from_chars(optarg, end, values[which]);
		const auto &[min, max] = kBounds[which];
		if (error != std::errc() || rest != end || values[which] < min || values[which] > max)
			die("--" + std::string(kOptions[index].name) + " " + optarg + ": must be a whole number from " +
				std::to_string(min) + " to " + std::to_string(max));
	}
	if (optind < argc)
		die(argv[optind] + std::string(": not an option, see --help"));
	if (minimum >= maximum)
		die("--min-packet-size " + std::to_string(minimum) + ": must be less than " + std::to_string(maximum) +
			", the maximum");
}

} // namespace

int main(int argc, char **argv)
{
	parse(argc, argv);
	// Blocked except while waiting: none is lost between a check and the wait.
	sigset_t stops, unblocked;
	sigemptyset(&stops);
	for (int stop : { SIGTERM, SIGINT }) {
		signal(stop, [](int) { stopping = 1; });
		sigaddset(&stops, stop);
	}
	sigprocmask(SIG_BLOCK, &stops, &unblocked);
	nfq_handle *handle = open_queue();
	const journal_field facts[] = { field("ENGINE", "nfqueue"), field("INTERFACE", "br0") };
	journal(LOG_NOTICE, facts, std::size(facts), "modify_udp_df: queue %u is served", number);
	sd_notify(0, "READY=1");
	for (time_t due = now() + kSummarySeconds; !stopping;) {
		serve(handle, 1000, unblocked);
		if (now() < due)
			continue;
		summarize();
		due += kSummarySeconds;
	}
	// The queue is full from now on, and the kernel fails open: what still comes goes past it, to the standby rule, so
	// that the drain has an end even while the NFQUEUE rule stands.
	nfq_set_queue_maxlen(queue, 0);
	sigfillset(&unblocked); // a second signal cuts no drain short
	for (time_t end = now() + kDrainSeconds; serve(handle, kQuietMs, unblocked) && now() < end;)
		continue;
	summarize();
	nfq_close(handle);
}
