// SPDX-License-Identifier: Apache-2.0
//
// The legacy path: clears DF of large UDP datagrams to one port in userspace, over NFQUEUE, by the XDP program's rule.
// Nothing is ever dropped: all else is accepted as it came, and the kernel fails open when the queue overflows.

#include <arpa/inet.h>
#include <getopt.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <poll.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

namespace
{

using Clock = std::chrono::steady_clock;
using namespace std::literals;
using std::to_string;

constexpr unsigned kSocketBuffer = 32 << 20;
constexpr unsigned kQueueLength = 8192;
constexpr int kBatch = 64;
constexpr auto kSummaryEvery = 60s, kDrainAtMost = 5s;
constexpr auto kQuiet = 200ms; // no packet for so long: the queue is drained

constexpr char kHelp[] =
	"usage: modify_udp_df [--queue 0] [--target-port 31765] [--min-packet-size 1400] [--max-packet-size 9000]\n"
	"Clears DF of UDP datagrams to the target port, minimum < IP total length <= maximum.\n"
	"SIGTERM, SIGINT: handles what is still queued (take the NFQUEUE rule away first), exits.\n";

struct Options {
	unsigned queue = 0, port = 31765, min = 1400, max = 9000;
};

struct Counters {
	unsigned long seen = 0, modified = 0, malformed = 0, errors = 0;
};

enum Outcome { untouched, malformed, modified };

volatile sig_atomic_t stopping = 0;

[[noreturn]] void die(const std::string &message)
{
	fprintf(stderr, "modify_udp_df: %s\n", message.c_str());
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

Outcome process(unsigned char *ip, size_t size, const Options &rule)
{
	if (size < 20 || ip[0] >> 4 != 4)
		return malformed;
	size_t header = (ip[0] & 15) * 4, total = word(ip + 2);
	if (header < 20 || total < header || total > size)
		return malformed;
	if (ip[9] != IPPROTO_UDP)
		return untouched;
	unsigned fragment = word(ip + 6);
	if (fragment & 0x3fff)
		return untouched; // the payload of a later fragment is no UDP header
	if (total < header + 8)
		return malformed;
	const unsigned char *udp = ip + header;
	if (word(udp + 4) < 8 || word(udp + 4) > total - header)
		return malformed;
	if (word(udp + 2) != rule.port || total <= rule.min || total > rule.max)
		return untouched;
	if (!(fragment & 0x4000))
		return untouched;
	clear_df(ip);
	return modified;
}

class Queue
{
      public:
	explicit Queue(const Options &options) : options_(options), handle_(nfq_open())
	{
		if (!handle_)
			refused(errno);
		auto callback = [](nfq_q_handle *, nfgenmsg *, nfq_data *data, void *self) {
			return static_cast<Queue *>(self)->answer(data);
		};
		queue_ = nfq_create_queue(handle_, options.queue, callback, this);
		if (!queue_)
			refused(errno);
		int fd = nfq_fd(handle_), on = 1;
		nfnl_rcvbufsiz(nfq_nfnlh(handle_), kSocketBuffer);
		setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on);
		nfq_set_queue_maxlen(queue_, kQueueLength);
		if (nfq_set_queue_flags(queue_, NFQA_CFG_F_FAIL_OPEN, NFQA_CFG_F_FAIL_OPEN) < 0 ||
		    nfq_set_mode(queue_, NFQNL_COPY_PACKET, 0xffff) < 0)
			refused(errno);
	}

	// Waits, then answers a batch; false when nothing came in time.
	bool serve(std::chrono::nanoseconds timeout, const sigset_t &unblocked)
	{
		pollfd ready{ nfq_fd(handle_), POLLIN, 0 };
		timespec limit{ timeout.count() / 1000000000, timeout.count() % 1000000000 };
		if (ppoll(&ready, 1, &limit, &unblocked) <= 0)
			return false;
		for (int i = 0; i < kBatch; i++) {
			ssize_t size = recv(ready.fd, message_, sizeof message_, MSG_DONTWAIT);
			if (size < 0 && (errno == EAGAIN || errno == EINTR))
				break;
			if (size < 0 || nfq_handle_packet(handle_, message_, size) < 0)
				counters_.errors++;
		}
		return true;
	}

	void summarize() const
	{
		auto [seen, modified, malformed, errors] = counters_;
		fprintf(stderr,
			"modify_udp_df: queue %u: %lu seen, %lu modified, %lu malformed, %lu errors\n",
			options_.queue, seen, modified, malformed, errors);
	}

      private:
	int answer(nfq_data *data)
	{
		nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);
		if (!header)
			return -1;
		unsigned char *ip = nullptr;
		int size = std::max(nfq_get_payload(data, &ip), 0);
		Outcome outcome = process(ip, size, options_);
		counters_.seen++;
		counters_.malformed += outcome == malformed;
		counters_.modified += outcome == modified;
		if (outcome != modified)
			size = 0; // no bytes in the verdict: the kernel keeps its own
		return nfq_set_verdict(queue_, ntohl(header->packet_id), NF_ACCEPT, size, ip);
	}

	// The kernel answers EPERM both to the unprivileged and when another program holds the queue.
	[[noreturn]] void refused(int error) const
	{
		std::string name = "--queue " + to_string(options_.queue), rest;
		std::ifstream table("/proc/net/netfilter/nfnetlink_queue");
		for (unsigned queue, port; table >> queue >> port && std::getline(table, rest);)
			if (queue == options_.queue)
				die(name + ": held by another program (netlink port " + to_string(port) +
				    "): stop it or use another queue");
		die(name + ": " + strerror(error) + ": run as root on a kernel with NFQUEUE");
	}

	const Options &options_;
	nfq_handle *handle_;
	nfq_q_handle *queue_ = nullptr;
	Counters counters_;
	alignas(8) char message_[0x10000 + 4096];
};

unsigned number(const char *name, const char *text, unsigned min, unsigned max)
{
	unsigned value = 0;
	const char *end = text + strlen(text);
	auto [rest, error] = std::from_chars(text, end, value);
	if (error == std::errc() && rest == end && value >= min && value <= max)
		return value;
	die("--"s + name + " " + text + ": must be a whole number from " + to_string(min) + " to " +
	    to_string(max));
}

Options parse(int argc, char **argv)
{
	const option known[] = { { "queue", 1, nullptr, 'q' },
				 { "target-port", 1, nullptr, 'p' },
				 { "min-packet-size", 1, nullptr, 'm' },
				 { "max-packet-size", 1, nullptr, 'M' },
				 { "help", 0, nullptr, 'h' },
				 {} };
	Options options;
	int index = 0;
	for (int c; (c = getopt_long(argc, argv, "", known, &index)) != -1;) {
		if (c == '?')
			exit(EXIT_FAILURE);
		if (c == 'h')
			exit(fputs(kHelp, stdout) < 0);
		unsigned &value = c == 'q'   ? options.queue
				  : c == 'p' ? options.port
				  : c == 'm' ? options.min
					     : options.max;
		value = number(known[index].name, optarg, c == 'p', 65535);
	}
	if (optind < argc)
		die(argv[optind] + ": not an option, see --help"s);
	if (options.min < options.max)
		return options;
	die("--min-packet-size " + to_string(options.min) + ": must be less than " + to_string(options.max) +
	    ", the maximum");
}

// Blocked except while waiting: none is lost between a check and the wait.
sigset_t catch_signals()
{
	sigset_t stops, before;
	sigemptyset(&stops);
	for (int stop : { SIGTERM, SIGINT }) {
		signal(stop, [](int) { stopping = 1; });
		sigaddset(&stops, stop);
	}
	sigprocmask(SIG_BLOCK, &stops, &before);
	return before;
}

} // namespace

int main(int argc, char **argv)
{
	Options options = parse(argc, argv);
	sigset_t unblocked = catch_signals();
	Queue queue(options);
	sd_notify(0, "READY=1");
	for (auto due = Clock::now() + kSummaryEvery; !stopping;) {
		queue.serve(std::max<std::chrono::nanoseconds>(due - Clock::now(), 0s), unblocked);
		if (Clock::now() < due)
			continue;
		queue.summarize();
		due += kSummaryEvery;
	}
	sd_notify(0, "STOPPING=1");
	sigfillset(&unblocked); // a second signal cuts no drain short
	for (auto end = Clock::now() + kDrainAtMost; queue.serve(kQuiet, unblocked) && Clock::now() < end;)
		continue;
	queue.summarize();
}
