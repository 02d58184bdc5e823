// SPDX-License-Identifier: GPL-2.0-only
/*
 * The direct engine: takes mirrored datagrams off the primary ENI and sends them on by the secondary one, decapsulated,
 * translated, without DF and under an identification of their own, before the kernel has built a packet of its own: whole, or in
 * fragments where they are longer than the next hop's MTU. What it does not take goes up exactly as it came: the bridge's path
 * gives the same result, only more slowly.
 *
 * An XDP program cannot send twice. But a redirect to all entries of a device map gives each entry a copy, entries may name
 * one interface many times, and a second program runs on each copy just before it is sent. So a datagram of n
 * fragments goes to a map of n entries, with a slip in front of it, and that program cuts the n-th copy to the n-th fragment.
 * Copies of one frame follow each other on one CPU.
 *
 * In generic mode copies share one buffer, and headers written for one fragment would spoil the data of the one before. There
 * the first program lays out all fragments in that buffer beforehand, one beside the other with its headers, and the second
 * writes nothing: it only lets each copy begin and end elsewhere. Where that is not possible, the kernel cuts.
 */
#include <linux/bpf.h>

#include "ids.h"
#include "parsing.h"
#include "rule.h"
#include "udp_df_direct.h"

#define AF_INET 2 /* sys/socket.h is no header for BPF */
#define VXLAN_PORT 4789
#define IP_ECN 3 /* the bits of TOS that a tunnel's end must merge with the inner header's */
#define LEAST_OPTIONS 4
#define LONGEST_OPTIONS 40
#define IP_OPTION_END 0
#define IP_OPTION_NOP 1
#define TAKEN PASSED_REASONS /* nothing hinders */
#define LEAST_MTU 68         /* RFC 791: with the longest header, it leaves room for 8 bytes */
#define LEAST_ROOM 8         /* in all fragments but the last */
#define LONGEST_DATA 8192    /* of a datagram whose fragments are laid out */
#define LONGEST_PIECE 2048   /* in one of them */
/* In front of every frame (XDP_PACKET_HEADROOM), less what the kernel keeps of it for itself (struct xdp_frame). */
#define FREE_IN_FRONT 192

/* Generic mode, and the kernel has what laying out needs; set by the loader. */
const volatile __u32 lays_out = 0;

GATEWAY_MAPS(struct direct_config_slots, struct direct_stats);

#define DEVICE_MAP(entries)                                                                                            \
	{                                                                                                              \
		__uint(type, BPF_MAP_TYPE_DEVMAP);                                                                     \
		__uint(max_entries, entries);                                                                          \
		__uint(key_size, sizeof(__u32));                                                                       \
		__uint(value_size, sizeof(struct bpf_devmap_val));                                                     \
	}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ID_COUNTERS);
	__type(key, __u32);
	__type(value, struct id_counter);
} ids SEC(".maps");

struct DEVICE_MAP(1) whole SEC(".maps");
struct DEVICE_MAP(2) copies_2 SEC(".maps");
struct DEVICE_MAP(3) copies_3 SEC(".maps");
struct DEVICE_MAP(4) copies_4 SEC(".maps");
struct DEVICE_MAP(5) copies_5 SEC(".maps");
struct DEVICE_MAP(6) copies_6 SEC(".maps");
struct DEVICE_MAP(7) copies_7 SEC(".maps");
struct DEVICE_MAP(8) copies_8 SEC(".maps");
struct DEVICE_MAP(9) copies_9 SEC(".maps");

/* ---- between the programs ---- */

/* No Ethernet address that a frame is sent to begins with an odd byte, unless it is a group's: that tells a slip. */
#define SLIP 0x01
#define SLIP_WITH_OPTIONS 0x03
#define SLIP_LAID_OUT 0x05

/* In front of a frame that is to be cut. Behind it, if the header has options, those of the later fragments. */
struct slip {
	__u8 mark;
	__u8 fragments;
	__u16 room;     /* for data in a fragment, in bytes */
	__u16 sequence; /* the same in all copies */
	union {
		__u16 options; /* what the later fragments' options add to the sum over the header */
		__u16 header;  /* where fragments are laid out: bytes of each one's Ethernet and IP headers */
	};
};

/* By how much a frame gets shorter. A slip and all options take less. */
#define OUTER_HEADERS                                                                                                  \
	(sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr) + sizeof(struct vxlan_header))

/*
 * Counts the copies of one datagram. A copy that was never made leaves its group short, and the next group is another's.
 * There is more than one because a kernel with PREEMPT_RT may put the copies of two queues in line alternately.
 */
struct group {
	__u16 sequence;
	__u8 cut;
	__u8 fragments;
};

#define GROUPS 8

/* While the options of the datagram in hand are read. Not on the stack, where the verifier would follow each value. */
struct option_reader {
	__u32 left;
	__u32 is_length;
	__u32 has_ended;
	__u32 is_copied;
	__u32 sum;
	__u32 later_sum;
	__u8 later[LONGEST_OPTIONS]; /* as the later fragments have them */
};

/* While a checksum is verified; off the stack for the same reason. */
struct summing {
	__u32 at; /* from the UDP header */
	__u32 left;
	__u32 sum;
};

/* An answer of the kernel's routes and neighbours, and what it was an answer to. */
struct way {
	__u64 tick;
	__be32 destination;
	__u32 bridge_ifindex;
	__u32 egress_ifindex;
	__u32 mtu;
	__u16 to[3], from[3];
	__u8 tos;
};

/* What a fragment begins with. The halfword in front lets the IP header lie on a word's boundary while it is off the frame. */
struct headers {
	__u16 padding;
	__u16 ethernet[sizeof(struct ethhdr) / 2];
	struct iphdr ip;
	__u32 options[LONGEST_OPTIONS / 4];
};
#define PADDING sizeof(__u16)
#define PLAIN_HEADERS (sizeof(struct ethhdr) + sizeof(struct iphdr))

/* While fragments are laid out. */
struct layout {
	struct headers headers; /* of the first */
	__u16 options_change;
	__u32 fragments;
	__u32 header; /* bytes of a fragment's Ethernet and IP headers */
	__u32 room;   /* for data in all fragments but the last, in bytes */
	__u32 size;   /* of the datagram's data, in bytes */
	__u8 data[LONGEST_DATA + LONGEST_PIECE];
};

/* What a CPU has at hand. */
struct workbench {
	struct way way;
	struct layout layout;
	__u16 sequence; /* of the last datagram that was redirected as copies */
	struct group groups[GROUPS];
	struct option_reader options;
	struct summing summing;
	struct id_block ids[ID_COUNTERS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct workbench);
} workbench SEC(".maps");

/* The verifier follows registers, and compilers compare one of several that hold the same. */
#define IN_ONE_REGISTER(variable) asm volatile("" : "+r"(variable))

/* ---- addresses and checksums ---- */

struct vxlan_header {
	__be32 flags;
	__be32 network; /* and 8 bits that are reserved */
};

static __always_inline int is_same_mac(const void *one, const void *other)
{
	const __u16 *a = one, *b = other;

	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

static __always_inline void copy_mac(void *to, const void *from)
{
	__u16 *a = to;
	const __u16 *b = from;

	a[0] = b[0];
	a[1] = b[1];
	a[2] = b[2];
}

static __always_inline int is_group_mac(const __u8 *mac)
{
	return mac[0] & 1;
}

/* "This network", loopback, multicast, reserved and broadcast: no host forwards from or to them. */
static __always_inline int is_special(__be32 address)
{
	__u32 network = bpf_ntohl(address) >> 24;

	return network == 0 || network == 127 || network >= 224;
}

static __always_inline int is_no_source(__be32 address, const struct direct_config *rules)
{
	return is_special(address) || address == rules->primary_ip || address == rules->secondary_ip;
}

/* Over a header without options. A header with its checksum sums up to 0xffff. */
static __always_inline __u32 sum_of_header(const struct iphdr *ip)
{
	const __u32 *words = (const __u32 *)ip;
	__u64 sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	return fold(sum) + (sum >> 32);
}

/* What replacing a word adds to a sum: equation 3 of RFC 1624. */
static __always_inline __u32 change(__u16 from, __u16 to)
{
	return (__u16)~from + to;
}

static __always_inline __u32 change_of_address(__be32 from, __be32 to)
{
	return change(from, to) + change(from >> 16, to >> 16);
}

static __always_inline __u16 changed(__u16 checksum, __u32 changes)
{
	return ~fold((__u16)~checksum + changes);
}

/* ---- what is taken ---- */

struct frame {
	void *data, *end;
	struct ethhdr *inner;
	struct datagram datagram;
	__u32 length;         /* of the inner frame, as the outer UDP header has it */
	__u32 options_size;   /* of the IP header's options */
	__u16 options_change; /* what the later fragments' options add to the sum over the header */
	__u32 id_change;      /* what a new identification adds to it */
};

/*
 * What the kernel's IP, UDP and VXLAN would take for us without a second thought. The UDP checksum is looked at last: mirror
 * sessions send none.
 */
static __always_inline int is_mirrored(struct frame *frame, const struct direct_config *rules)
{
	const struct ethhdr *eth = frame->data;
	const struct iphdr *ip = (const void *)(eth + 1);
	const struct udphdr *udp = (const void *)(ip + 1);
	const void *inner = (const void *)(udp + 1) + sizeof(struct vxlan_header);
	__u32 packet, length;

	if (inner + sizeof(struct ethhdr) > frame->end)
		return 0;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || !is_same_mac(eth->h_dest, rules->primary_mac))
		return 0;
	if (*(const __u8 *)ip != 0x45 || ip->protocol != IPPROTO_UDP || ip->daddr != rules->primary_ip)
		return 0;
	if (udp->dest != bpf_htons(VXLAN_PORT) || is_fragment(ip) || ip->tos & IP_ECN)
		return 0;
	if (is_no_source(ip->saddr, rules) || sum_of_header(ip) != 0xffff)
		return 0;
	packet = bpf_ntohs(ip->tot_len);
	length = bpf_ntohs(udp->len);
	if (packet > frame->end - (const void *)ip || length + sizeof(*ip) > packet)
		return 0;
	if (length < sizeof(*udp) + sizeof(struct vxlan_header) + sizeof(struct ethhdr))
		return 0;
	frame->inner = (struct ethhdr *)inner;
	frame->length = length - sizeof(*udp) - sizeof(struct vxlan_header);
	return 1;
}

/* The kernel's VXLAN refuses whatever it does not know, and so do we: only the I flag, and nothing beside the VNI. */
static __always_inline int is_our_network(const struct frame *frame, const struct direct_config *rules)
{
	const struct vxlan_header *vxlan = (const void *)frame->inner - sizeof(*vxlan);

	return vxlan->flags == bpf_htonl(0x08000000) && vxlan->network == bpf_htonl(rules->vni << 8);
}

/* From the address that tells netfilter that a frame is ours. */
static __always_inline int is_forged(const struct frame *frame, const struct direct_config *rules)
{
	const struct ethhdr *eth = frame->data;
	const __u16 *secret = rules->handover_mac;

	if ((const void *)(eth + 1) > frame->end || !(secret[0] | secret[1] | secret[2]))
		return 0;
	return is_same_mac(eth->h_source, secret);
}

/* An Ethernet frame without a tag, from one host to another. */
static __always_inline int is_plain_ipv4(const struct ethhdr *eth)
{
	const __u16 *source = (const __u16 *)eth->h_source;

	if (eth->h_proto != bpf_htons(ETH_P_IP) || is_group_mac(eth->h_dest) || is_group_mac(eth->h_source))
		return 0;
	return source[0] | source[1] | source[2];
}

/* Those that a router changes, obeys or refuses (include/uapi/linux/ip.h); all others travel with the packet. */
static __always_inline int is_for_routers(__u8 type)
{
	return type == 7 /* record route */ || type == 68 /* timestamp */ || type == 131 /* loose source route */ ||
	       type == 137 /* strict source route */ || type == 148 /* router alert */ || type == 134 /* CIPSO */;
}

/* The next byte as the later fragments have it, or -1 if the kernel must see the options. */
static __always_inline int read_option_byte(volatile struct option_reader *reader, __u8 byte, __u32 size_from_here)
{
	/* The kernel would clear what is behind the end. */
	if (reader->has_ended)
		return byte ? -1 : 0;
	if (reader->is_length) {
		if (byte < 2 || byte > size_from_here + 1)
			return -1;
		reader->is_length = 0;
		reader->left = byte - 2;
	} else if (reader->left) {
		reader->left--;
	} else if (byte == IP_OPTION_END) {
		reader->has_ended = 1;
		return byte;
	} else if (byte == IP_OPTION_NOP) {
		return byte;
	} else {
		if (is_for_routers(byte))
			return -1;
		reader->is_length = 1;
		reader->is_copied = byte & 0x80;
	}
	return reader->is_copied ? byte : IP_OPTION_NOP;
}

/* Of a mirrored datagram's own headers in the frame: what is before them has one length. */
#define INNER_OPTIONS (OUTER_HEADERS + sizeof(struct ethhdr) + sizeof(struct iphdr))

/*
 * Checks the options and lays them out for the later fragments: those without the "copied" bit become no-operations, as
 * in the kernel's ip_options_fragment(). Returns 0 if the kernel must see them. A function of its own, because it needs
 * registers and few packets need it; not static, so the verifier looks at it once, and not for every way that leads here.
 */
__noinline int read_options(struct xdp_md *ctx, __u32 size)
{
	const __u8 *options = (void *)(long)ctx->data + INNER_OPTIONS;
	const void *end = (void *)(long)ctx->data_end;
	__u32 only = 0;
	struct workbench *here = bpf_map_lookup_elem(&workbench, &only);
	volatile struct option_reader *reader;

	if (!here)
		return 0;
	reader = &here->options;
	reader->left = reader->is_length = reader->has_ended = reader->sum = reader->later_sum = 0;
#pragma nounroll
	for (__u32 at = 0; at < LONGEST_OPTIONS; at++) {
		__u32 shift = at % 2 ? 0 : 8;
		int later;

		if (at >= size)
			break;
		if ((const void *)(options + at + 1) > end)
			return 0;
		later = read_option_byte(reader, options[at], size - at);
		if (later < 0)
			return 0;
		reader->later[at] = later;
		reader->sum += options[at] << shift;
		reader->later_sum += later << shift;
	}
	return !reader->is_length && !reader->left;
}

/* What bpf_csum_diff() takes at once before Linux 6.13. */
#define CHUNK 512
#define LONGEST_MTU 9216

/* Adds that many bytes, a constant for the verifier, if as many are left. */
static __always_inline void add_chunk(
	volatile struct summing *summing, const void *datagram, const void *end, const __u32 size)
{
	const void *chunk = datagram + (summing->at & 0x3fff);

	if (summing->left < size || chunk + size > end)
		return;
	summing->sum = bpf_csum_diff(NULL, 0, (__be32 *)chunk, size, summing->sum);
	summing->at += size;
	summing->left -= size;
}

/* Whether the outer datagram sums up to its checksum. A function of its own, as few packets have one; not static as above. */
__noinline int is_checksum_right(struct xdp_md *ctx)
{
	const struct iphdr *ip = (void *)(long)ctx->data + sizeof(struct ethhdr);
	const struct udphdr *udp = (const void *)(ip + 1);
	const void *end = (void *)(long)ctx->data_end;
	__u32 only = 0, length, sum;
	struct workbench *here = bpf_map_lookup_elem(&workbench, &only);
	volatile struct summing *summing;
	const __u8 *last;

	if (!here || (const void *)(udp + 1) > end)
		return 0;
	length = bpf_ntohs(udp->len);
	summing = &here->summing;
	summing->at = 0;
	summing->left = length;
	summing->sum = 0;
#pragma nounroll
	for (int chunks = 0; chunks < LONGEST_MTU / CHUNK; chunks++)
		add_chunk(summing, udp, end, CHUNK);
	add_chunk(summing, udp, end, 256);
	add_chunk(summing, udp, end, 128);
	add_chunk(summing, udp, end, 64);
	add_chunk(summing, udp, end, 32);
	add_chunk(summing, udp, end, 16);
	add_chunk(summing, udp, end, 8);
	add_chunk(summing, udp, end, 4);
	sum = fold(summing->sum);
	/* The pseudo header of RFC 768. */
	sum += (ip->saddr & 0xffff) + (ip->saddr >> 16) + (ip->daddr & 0xffff) + (ip->daddr >> 16);
	sum += bpf_htons(IPPROTO_UDP) + bpf_htons(length);
#pragma nounroll
	for (__u32 odd = 0; odd < 3; odd++) {
		last = (const void *)udp + (summing->at & 0x3fff);
		if (!summing->left || last + 1 > (const __u8 *)end)
			break;
		sum += bpf_htons(*last << (odd % 2 ? 0 : 8));
		summing->at++;
		summing->left--;
	}
	return !summing->left && fold(sum) == 0xffff;
}

/* Fills `frame`. Returns what hinders, if not TAKEN. */
static __always_inline enum passed take_datagram(struct xdp_md *ctx, struct frame *frame,
	const struct direct_config *rules, struct workbench *here, struct direct_stats *count)
{
	const struct udphdr *outer = frame->data + sizeof(struct ethhdr) + sizeof(struct iphdr);
	struct datagram *datagram = &frame->datagram;
	struct cursor inside;
	__u16 sum = 0;

	if (!is_mirrored(frame, rules))
		return PASSED_NOT_MIRRORED;
	if (!is_our_network(frame, rules))
		return PASSED_OTHER_VNI;
	count->rule.packets_seen++;
	if (!is_plain_ipv4(frame->inner))
		return PASSED_NOT_UDP;
	inside = (struct cursor){ frame->inner + 1, frame->end };
	switch (find_datagram(&inside, datagram)) {
	case FOUND_OTHER:
		return PASSED_NOT_UDP;
	case FOUND_MALFORMED:
		return PASSED_MALFORMED;
	case FOUND_FRAGMENT:
		return PASSED_FRAGMENT;
	case FOUND_DATAGRAM:
		break;
	}
	if (datagram->size + sizeof(struct ethhdr) > frame->length)
		return PASSED_MALFORMED;
	if (!is_to_target(datagram, &rules->rule))
		return PASSED_OTHER_PORT;
	if (is_special(datagram->ip->daddr) || is_no_source(datagram->ip->saddr, rules))
		return PASSED_ADDRESS;
	if (datagram->ip->ttl < 2)
		return PASSED_EXPIRED;
	frame->options_size = datagram->ip->ihl * 4 - sizeof(struct iphdr);
	if (frame->options_size) {
		if (!read_options(ctx, frame->options_size))
			return PASSED_OPTIONS;
		sum = bpf_htons(fold(here->options.sum));
		frame->options_change = fold(change(sum, bpf_htons(fold(here->options.later_sum))));
	}
	if (fold(sum_of_header(datagram->ip) + sum) != 0xffff)
		return PASSED_MALFORMED;
	if (outer->check && !is_checksum_right(ctx))
		return PASSED_OUTER_CHECKSUM;
	return TAKEN;
}

/* ---- the way out ---- */

/* As the kernel would forward a datagram that came in by br0: fills `way`. Returns what hinders, if not TAKEN. */
static __always_inline enum passed look_up_way(
	struct xdp_md *ctx, const struct iphdr *ip, const struct direct_config *rules, struct way *way)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.l4_protocol = IPPROTO_UDP,
		.tos = ip->tos,
		.ipv4_src = ip->saddr,
		.ipv4_dst = rules->ipsec_vm_ip,
		.ifindex = rules->bridge_ifindex,
		.tot_len = 1, /* less than any MTU; the answer, since Linux 5.12, stands in the same place */
	};

	switch (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		break;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return PASSED_NO_NEIGHBOUR;
	default:
		return PASSED_NO_ROUTE;
	}
	if (fib.ifindex != rules->bridge_ifindex || is_group_mac(fib.dmac))
		return PASSED_NO_ROUTE;
	copy_mac(way->to, fib.dmac);
	copy_mac(way->from, fib.smac);
	way->mtu = fib.tot_len > 1 ? fib.tot_len : rules->egress_mtu;
	return way->mtu < LEAST_MTU ? PASSED_NO_ROUTE : TAKEN;
}

/*
 * An answer holds until the next tick of the kernel's clock, ten milliseconds at most: asking costs more than all the rest.
 * It is another one for another TOS, but not for another source: the rules that hosts have about sources are about their own.
 */
static __always_inline enum passed find_way(
	struct xdp_md *ctx, const struct frame *frame, const struct direct_config *rules, struct way *way)
{
	const struct iphdr *ip = frame->datagram.ip;
	const struct bpf_devmap_val *egress;
	__u64 now = bpf_jiffies64();
	enum passed hindrance;
	__u32 only = 0;

	/*
	 * The kernel empties the entry of an interface that is gone. Asked by the redirect that a whole datagram needs anyway:
	 * it is only noted, and another may follow it.
	 */
	if (bpf_redirect_map(&whole, 0, XDP_PASS) != XDP_REDIRECT)
		return PASSED_NO_EGRESS;
	if (way->tick == now && way->tos == ip->tos && way->destination == rules->ipsec_vm_ip &&
		way->bridge_ifindex == rules->bridge_ifindex && way->egress_ifindex == rules->egress_ifindex)
		return TAKEN;
	way->tick = 0;
	egress = bpf_map_lookup_elem(&whole, &only);
	if (!egress || egress->ifindex != rules->egress_ifindex)
		return PASSED_NO_EGRESS;
	hindrance = look_up_way(ctx, ip, rules, way);
	if (hindrance != TAKEN)
		return hindrance;
	way->tick = now;
	way->tos = ip->tos;
	way->destination = rules->ipsec_vm_ip;
	way->bridge_ifindex = rules->bridge_ifindex;
	way->egress_ifindex = rules->egress_ifindex;
	return TAKEN;
}

static __always_inline void address(struct frame *frame, const void *to, const void *from)
{
	copy_mac(frame->inner->h_dest, to);
	copy_mac(frame->inner->h_source, from);
}

/* Gives the datagram an identification of its own. The checksum follows with translate(). */
static __always_inline int renumber(struct frame *frame, struct workbench *here)
{
	struct iphdr *ip = frame->datagram.ip;
	__u32 which = id_counter_of(ip->saddr);
	struct id_counter *counter = bpf_map_lookup_elem(&ids, &which);
	__be16 id;

	if (!counter)
		return 0;
	/* The verifiers of Linux 6.12 and before forget the bound of a number that was shown to a helper. */
	id = bpf_htons(next_id(&here->ids[which & (ID_COUNTERS - 1)], counter));
	frame->id_change = change(ip->id, id);
	ip->id = id;
	return 1;
}

/* UDP's checksum covers the addresses; zero is none (RFC 768), and stays it. `more` is what else changes in the IP header. */
static __always_inline void translate(const struct frame *frame, const struct direct_config *rules, __u32 more)
{
	struct iphdr *ip = frame->datagram.ip;
	struct udphdr *udp = frame->datagram.udp;
	__u32 changes = change_of_address(ip->daddr, rules->ipsec_vm_ip);

	if (udp->check) {
		udp->check = changed(udp->check, changes + change(udp->dest, rules->ipsec_vm_port));
		if (!udp->check)
			udp->check = 0xffff;
	}
	udp->dest = rules->ipsec_vm_port;
	ip->check = changed(ip->check, changes + frame->id_change + more);
	ip->daddr = rules->ipsec_vm_ip;
}

/* Answers with what it changes. */
static __always_inline __u32 age(struct iphdr *ip)
{
	__u16 *ttl_and_protocol = (__u16 *)&ip->ttl;
	__u16 old = *ttl_and_protocol;

	*ttl_and_protocol = old - bpf_htons(0x0100);
	return change(old, *ttl_and_protocol);
}

/* What is behind the datagram. */
static __always_inline __u32 size_behind(const struct frame *frame)
{
	long length = frame->end - (void *)frame->inner;

	IN_ONE_REGISTER(length); /* a difference of pointers is one of 64 bits */
	return length - sizeof(struct ethhdr) - frame->datagram.size;
}

/* Takes off what is before the frame, or before the slip in front of it, and what is behind it. */
static __always_inline int strip(struct xdp_md *ctx, const struct frame *frame, __u32 slip)
{
	__u32 behind = size_behind(frame);

	if (bpf_xdp_adjust_head(ctx, OUTER_HEADERS - slip))
		return 0;
	return !behind || !bpf_xdp_adjust_tail(ctx, -(int)behind);
}

static __always_inline long redirect_copies(__u32 fragments)
{
	switch (fragments) {
	case 2:
		return bpf_redirect_map(&copies_2, 0, BPF_F_BROADCAST);
	case 3:
		return bpf_redirect_map(&copies_3, 0, BPF_F_BROADCAST);
	case 4:
		return bpf_redirect_map(&copies_4, 0, BPF_F_BROADCAST);
	case 5:
		return bpf_redirect_map(&copies_5, 0, BPF_F_BROADCAST);
	case 6:
		return bpf_redirect_map(&copies_6, 0, BPF_F_BROADCAST);
	case 7:
		return bpf_redirect_map(&copies_7, 0, BPF_F_BROADCAST);
	case 8:
		return bpf_redirect_map(&copies_8, 0, BPF_F_BROADCAST);
	default:
		return bpf_redirect_map(&copies_9, 0, BPF_F_BROADCAST);
	}
}

static __always_inline int pass_up(struct direct_stats *count, enum passed reason)
{
	count->passed[reason]++;
	return XDP_PASS;
}

/* Half done, a frame is nobody's any more. */
static __always_inline int give_up(struct direct_stats *count)
{
	count->failed++;
	return XDP_DROP;
}

/* To the kernel's forwarding, which looks for the way and ages it anew. */
static __always_inline int hand_over(
	struct xdp_md *ctx, struct frame *frame, const struct direct_config *rules, struct direct_stats *count)
{
	translate(frame, rules, 0);
	address(frame, rules->primary_mac, rules->handover_mac);
	if (!strip(ctx, frame, 0))
		return give_up(count);
	count->handed_over++;
	return XDP_PASS;
}

static __always_inline int send_whole(struct xdp_md *ctx, struct frame *frame, const struct direct_config *rules,
	const struct way *way, struct direct_stats *count)
{
	translate(frame, rules, age(frame->datagram.ip));
	address(frame, way->to, way->from);
	if (!strip(ctx, frame, 0))
		return give_up(count);
	count->sent_whole++;
	return XDP_REDIRECT; /* find_way() has said where to */
}

static __always_inline int send_copies(struct xdp_md *ctx, struct frame *frame, const struct direct_config *rules,
	__u32 fragments, struct workbench *here, struct direct_stats *count)
{
	__u32 size = sizeof(struct slip) + (frame->options_size ? LONGEST_OPTIONS : 0);
	struct slip *slip = (void *)frame->inner - sizeof(*slip);
	const struct way *way = &here->way;

	translate(frame, rules, age(frame->datagram.ip));
	address(frame, way->to, way->from);
	if (frame->options_size) {
		slip = (void *)frame->inner - LONGEST_OPTIONS - sizeof(*slip);
		__builtin_memcpy(slip + 1, here->options.later, LONGEST_OPTIONS);
	}
	slip->mark = frame->options_size ? SLIP_WITH_OPTIONS : SLIP;
	slip->fragments = fragments;
	slip->room = way->mtu - sizeof(struct iphdr) - frame->options_size;
	slip->sequence = ++here->sequence;
	slip->options = frame->options_change;
	if (!strip(ctx, frame, size))
		return give_up(count);
	count->sent_cut++;
	count->fragments_due += fragments;
	return redirect_copies(fragments);
}

/* Of an IP header that belonged to the whole datagram. The kernel keeps no other flag, either. */
static __always_inline void make_fragment(struct iphdr *ip, __u16 length, __u16 fragment, __u32 more)
{
	more += change(ip->tot_len, length) + change(ip->frag_off, fragment);
	ip->check = changed(ip->check, more);
	ip->tot_len = length;
	ip->frag_off = fragment;
}

/*
 * Where fragment `number` begins in a frame of that length. They lie in reverse, the first one at the end, because a copy that
 * ends where the frame ends needs no bpf_xdp_adjust_tail(): in generic mode that leaves the tail of the kernel's packet 14 bytes
 * too far (bpf_prog_run_generic_xdp, net/core/dev.c), and a receiver behind a veth that reassembles appends to the first there.
 */
static __always_inline __u32 place_of(__u32 number, __u32 fragments, __u32 length, __u32 each)
{
	return number + 1 < fragments ? length - (number + 1) * each : sizeof(struct slip);
}

/* Compilers make one comparison of two, from which verifiers before Linux 6.2 learn no least value. */
static __always_inline int are_options(__u32 *size)
{
	IN_ONE_REGISTER(*size);
	if (*size < LEAST_OPTIONS)
		return 0;
	IN_ONE_REGISTER(*size);
	return *size <= LONGEST_OPTIONS;
}

/* Writes headers and data of fragment `number`. */
static __always_inline int lay_out_one(struct xdp_md *ctx, struct layout *layout, __u32 number, __u8 *later_options)
{
	__u32 is_last = number + 1 == layout->fragments, options = layout->header - PLAIN_HEADERS;
	__u32 offset = number * layout->room, size = is_last ? layout->size - offset : layout->room;
	__u32 length = sizeof(struct slip) + layout->fragments * layout->header + layout->size;
	__u32 to = place_of(number, layout->fragments, length, layout->header + layout->room);
	struct headers headers;

	__builtin_memcpy(headers.ethernet, layout->headers.ethernet, sizeof(headers.ethernet));
	headers.ip = layout->headers.ip;
	make_fragment(&headers.ip, bpf_htons(layout->header - sizeof(struct ethhdr) + size),
		bpf_htons(is_last ? offset / 8 : offset / 8 | IP_MF), number ? layout->options_change : 0);
	IN_ONE_REGISTER(offset);
	size--; /* that it is not 0 tells verifiers before Linux 6.2 nothing; that it is at least 1 does */
	IN_ONE_REGISTER(size);
	if (offset > LONGEST_DATA || size >= LONGEST_PIECE)
		return 0;
	if (bpf_xdp_store_bytes(ctx, to, headers.ethernet, PLAIN_HEADERS) ||
		bpf_xdp_store_bytes(ctx, to + layout->header, layout->data + offset, size + 1))
		return 0;
	later_options = number ? later_options : (__u8 *)layout->headers.options;
	return !options ||
	       (are_options(&options) && !bpf_xdp_store_bytes(ctx, to + PLAIN_HEADERS, later_options, options));
}

/* Not static: so the verifier looks at it once, and not for every way that leads here. */
__noinline int lay_out(struct xdp_md *ctx)
{
	__u32 only = 0, size;
	struct workbench *here = bpf_map_lookup_elem(&workbench, &only);
	struct layout *layout;

	/* Verified even where nothing calls it, so on kernels without the helpers, too. */
	if (!lays_out || !here)
		return 0;
	layout = &here->layout;
	size = layout->size;
	IN_ONE_REGISTER(size);
	if (size <= LEAST_ROOM || size > LONGEST_DATA)
		return 0;
	/* Behind the slip, the further headers and the datagram's own. */
	if (bpf_xdp_load_bytes(ctx, sizeof(struct slip) + layout->fragments * layout->header, layout->data, size))
		return 0;
#pragma nounroll
	for (__u32 number = 0; number < MOST_FRAGMENTS; number++) {
		if (number >= layout->fragments)
			break;
		if (!lay_out_one(ctx, layout, number, here->options.later))
			return 0;
	}
	return 1;
}

static __always_inline __u32 size_of_headers(const struct frame *frame)
{
	return PLAIN_HEADERS + frame->options_size;
}

/* Nothing may have to be cut off at the end: see place_of(). */
static __always_inline int can_lay_out(
	const struct frame *frame, const struct direct_config *rules, const struct way *way, __u32 fragments)
{
	__u32 more = sizeof(struct slip) + (fragments - 1) * size_of_headers(frame), size = frame->datagram.size;

	return lays_out && fragments <= MOST_FRAGMENTS && more <= FREE_IN_FRONT + OUTER_HEADERS &&
	       way->mtu <= LONGEST_PIECE && size <= LONGEST_DATA && !size_behind(frame) &&
	       sizeof(struct ethhdr) + size + more <= rules->longest_frame;
}

/* There is room in front of the frame, where the outer headers were and what the kernel leaves free. */
static __always_inline int send_laid_out(struct xdp_md *ctx, struct frame *frame, const struct direct_config *rules,
	__u32 fragments, struct workbench *here, struct direct_stats *count)
{
	struct layout *layout = &here->layout;
	__u32 header = size_of_headers(frame), options = frame->options_size;
	struct slip slip = {
		.mark = SLIP_LAID_OUT,
		.fragments = fragments,
		.room = (here->way.mtu - sizeof(struct iphdr) - options) & ~7,
		.sequence = ++here->sequence,
		.header = header,
	};
	__u32 more = sizeof(slip) + (fragments - 1) * header;

	translate(frame, rules, age(frame->datagram.ip));
	address(frame, here->way.to, here->way.from);
	__builtin_memcpy(layout->headers.ethernet, frame->inner, sizeof(layout->headers.ethernet));
	layout->headers.ip = *frame->datagram.ip;
	layout->options_change = frame->options_change;
	layout->fragments = fragments;
	layout->header = header;
	layout->room = slip.room;
	layout->size = frame->datagram.size - sizeof(struct iphdr) - options;
	if (!strip(ctx, frame, more))
		return give_up(count);
	if (options && (!are_options(&options) ||
			       bpf_xdp_load_bytes(ctx, more + PLAIN_HEADERS, layout->headers.options, options)))
		return give_up(count);
	if (!lay_out(ctx) || bpf_xdp_store_bytes(ctx, 0, &slip, sizeof(slip)))
		return give_up(count);
	count->sent_cut++;
	count->fragments_due += fragments;
	return redirect_copies(fragments);
}

/* All but the last carry a multiple of 8 bytes. */
static __always_inline __u32 fragments_of(const struct frame *frame, __u32 mtu)
{
	__u32 each = (mtu - sizeof(struct iphdr) - frame->options_size) & ~7;

	return 1 + (frame->datagram.size - mtu + each - 1) / each;
}

/* The slip and the options before a copy take less than the outer headers did. What the kernel cuts may be of any length. */
static __always_inline int is_sendable(const struct frame *frame, const struct direct_config *rules, __u32 fragments)
{
	__u32 length = sizeof(struct ethhdr) + frame->datagram.size;

	if (fragments == 1)
		return length <= rules->longest_frame;
	if (rules->fragmenting != FRAGMENT_COPIES)
		return rules->fragmenting == FRAGMENT_IN_BUFFER;
	return fragments <= MOST_FRAGMENTS && length + OUTER_HEADERS <= rules->longest_frame;
}

SEC("xdp")
int udp_df_direct(struct xdp_md *ctx)
{
	struct frame frame = { .data = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct datagram *datagram = &frame.datagram;
	__u32 only = 0, live = STATS_LIVE, fragments = 1;
	const struct direct_config_slots *all = bpf_map_lookup_elem(&config, &only);
	struct direct_stats *count = bpf_map_lookup_elem(&stats, &live);
	struct workbench *here = bpf_map_lookup_elem(&workbench, &only);
	const struct direct_config *rules;
	enum decision decision;
	enum passed hindrance;

	if (!all || !count || !here)
		return XDP_PASS;
	rules = RULES_IN_FORCE(all);
	hindrance = take_datagram(ctx, &frame, rules, here, count);
	if (hindrance == PASSED_NOT_MIRRORED && is_forged(&frame, rules)) {
		count->forged++;
		return XDP_DROP;
	}
	if (hindrance != TAKEN)
		return pass_up(count, hindrance);
	decision = decide(datagram, &rules->rule, &count->rule);
	if (decision == LEAVE_TO_NETFILTER || (decision == KEEP_DF && !is_ours(datagram, &rules->rule)))
		return pass_up(count, PASSED_SHARE);
	hindrance = find_way(ctx, &frame, rules, &here->way);
	if (hindrance != TAKEN)
		return pass_up(count, hindrance);

	if (datagram->size > here->way.mtu) {
		if (decision == KEEP_DF && datagram->ip->frag_off & bpf_htons(IP_DF))
			return pass_up(count, PASSED_KEEPS_DF);
		fragments = fragments_of(&frame, here->way.mtu);
	}
	if (!is_sendable(&frame, rules, fragments))
		return pass_up(count, PASSED_TOO_LONG);

	/* From here on there is no way back. */
	if (decision == CLEAR_DF) {
		clear_df(datagram->ip);
		count_modified(datagram, &count->rule);
	}
	if (!(datagram->ip->frag_off & bpf_htons(IP_DF)) && !renumber(&frame, here))
		return give_up(count);
	if (fragments == 1)
		return send_whole(ctx, &frame, rules, &here->way, count);
	if (rules->fragmenting == FRAGMENT_COPIES)
		return send_copies(ctx, &frame, rules, fragments, here, count);
	if (can_lay_out(&frame, rules, &here->way, fragments))
		return send_laid_out(ctx, &frame, rules, fragments, here, count);
	return hand_over(ctx, &frame, rules, count);
}

/* ---- the copies ---- */

/* Which copy this is of its datagram, from 0. */
static __always_inline __u32 number_of(const struct slip *slip, struct workbench *here, struct direct_stats *count)
{
	struct group *group = &here->groups[slip->sequence % GROUPS];

	if (group->sequence != slip->sequence) {
		count->copies_lost += group->fragments - group->cut;
		*group = (struct group){ .sequence = slip->sequence, .fragments = slip->fragments };
	}
	return group->cut < group->fragments ? group->cut++ : MOST_FRAGMENTS;
}

/* It lies there already, beside the others. */
static __always_inline int uncover(
	struct xdp_md *ctx, const struct slip *slip, struct workbench *here, struct direct_stats *count)
{
	__u32 number = number_of(slip, here, count), each = slip->header + slip->room;
	long length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	IN_ONE_REGISTER(length);
	if (number >= slip->fragments)
		return give_up(count);
	if (number && bpf_xdp_adjust_tail(ctx, -(int)(number * each)))
		return give_up(count);
	if (bpf_xdp_adjust_head(ctx, place_of(number, slip->fragments, length, each)))
		return give_up(count);
	count->fragments_sent++;
	return XDP_PASS;
}

SEC("xdp/devmap")
int cut_fragment(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 only = 0, live = STATS_LIVE, number, header, offset, left, carried, flags = 0, changes = 0, words = 0;
	__u32 before = sizeof(struct slip);
	struct headers headers, *to;
	struct direct_stats *count;
	struct workbench *here;
	struct slip slip;

	/* Whole datagrams come by here, too, and have no time to lose. */
	if (data + sizeof(slip) > end || !(*(__u8 *)data & SLIP))
		return XDP_PASS;
	here = bpf_map_lookup_elem(&workbench, &only);
	count = bpf_map_lookup_elem(&stats, &live);
	if (!here || !count)
		return XDP_PASS;
	slip = *(struct slip *)data;
	if (slip.mark == SLIP_LAID_OUT)
		return uncover(ctx, &slip, here, count);
	if (slip.mark == SLIP_WITH_OPTIONS) {
		if (data + sizeof(slip) + LONGEST_OPTIONS > end)
			return give_up(count);
		__builtin_memcpy(headers.options, data + sizeof(slip), LONGEST_OPTIONS);
		before += LONGEST_OPTIONS;
	}
	data += before;
	to = data - PADDING;
	if ((void *)&to->options > end)
		return give_up(count);
	__builtin_memcpy(headers.ethernet, to->ethernet, sizeof(headers.ethernet));
	headers.ip = to->ip;

	number = number_of(&slip, here, count);
	if (number >= slip.fragments)
		return give_up(count);
	header = headers.ip.ihl * 4;
	offset = number * (slip.room & ~7);
	left = bpf_ntohs(headers.ip.tot_len) - header - offset;
	carried = left;
	if (left > slip.room) {
		carried = slip.room & ~7;
		flags = IP_MF;
	}
	if (number && header > sizeof(struct iphdr)) {
		words = header / 4 - sizeof(struct iphdr) / 4;
		changes = slip.options;
	}
	make_fragment(&headers.ip, bpf_htons(header + carried), bpf_htons(offset / 8 | flags), changes);

	/* The headers come to lie on the data before, which other fragments carry. */
	if (bpf_xdp_adjust_head(ctx, before + offset))
		return give_up(count);
	to = (void *)(long)ctx->data - PADDING;
	end = (void *)(long)ctx->data_end;
	if ((void *)&to->options > end)
		return give_up(count);
	__builtin_memcpy(to->ethernet, headers.ethernet, sizeof(headers.ethernet));
	to->ip = headers.ip;
#pragma nounroll
	for (__u32 i = 0; i < LONGEST_OPTIONS / 4; i++) {
		if (i >= words)
			break;
		if ((void *)&to->options[i + 1] > end)
			return give_up(count);
		to->options[i] = headers.options[i];
	}
	if (left > carried && bpf_xdp_adjust_tail(ctx, -(int)(left - carried)))
		return give_up(count);
	count->fragments_sent++;
	return XDP_PASS;
}

/* Drivers send what another interface redirects to them only while they have a program of their own. */
SEC("xdp")
int pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

/* ---- after a redirect ---- */

#define ENETDOWN 100 /* include/uapi/asm-generic/errno.h */

/* What is read of the kernel's structure; where it lies there, the loader finds out. */
struct net_device {
	__u32 ifindex;
} __attribute__((preserve_access_index));

static __always_inline const struct direct_config *rules_in_force(void)
{
	__u32 only = 0;
	const struct direct_config_slots *all = bpf_map_lookup_elem(&config, &only);

	return all ? RULES_IN_FORCE(all) : NULL;
}

/* Arguments, as of include/trace/events/xdp.h: from_dev, to_dev, sent, drops, err. Drops without an error found the queue full. */
SEC("?tp_btf/xdp_devmap_xmit")
int count_unsent(__u64 *arguments)
{
	const struct net_device *from = (const void *)arguments[0], *to = (const void *)arguments[1];
	const struct direct_config *rules = rules_in_force();
	__u32 live = STATS_LIVE;
	struct direct_stats *count = bpf_map_lookup_elem(&stats, &live);
	int drops = arguments[3], error = arguments[4];

	if (!rules || !count || drops <= 0)
		return 0;
	if (from->ifindex != rules->primary_ifindex || to->ifindex != rules->egress_ifindex)
		return 0;
	if (error < 0 && error != -ENETDOWN)
		count->redirects_refused += drops;
	else
		count->redirects_unsent += drops;
	return 0;
}

/* Arguments: dev, xdp, tgt, err and more, which differs from version to version. */
SEC("?tp_btf/xdp_redirect_err")
int count_refused(__u64 *arguments)
{
	const struct net_device *from = (const void *)arguments[0];
	const struct direct_config *rules = rules_in_force();
	__u32 live = STATS_LIVE;
	struct direct_stats *count = bpf_map_lookup_elem(&stats, &live);
	int error = arguments[3];

	if (!rules || !count || from->ifindex != rules->primary_ifindex)
		return 0;
	if (error == -ENETDOWN)
		count->redirects_unsent++;
	else
		count->redirects_refused++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
