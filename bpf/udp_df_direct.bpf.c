// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine `direct`, XDP on the primary ENI: takes mirrored datagrams off it and sends them on by the secondary one,
 * decapsulated, translated, without DF and under an identification of their own, before the kernel has built a packet of its
 * own: whole, or in fragments where they are longer than the next hop's MTU. What it does not take goes up exactly as it came:
 * the bridge's path gives the same result, only more slowly.
 *
 * An XDP program cannot send twice. But a redirect to all entries of a device map gives each entry a copy, entries may name
 * one interface many times, and a second program runs on each copy just before it is sent. So a datagram of n
 * fragments goes to a map of n entries, with metadata in front of it, and that program makes the n-th copy the n-th fragment.
 * Copies of one frame follow each other on one CPU.
 *
 * In generic mode copies share one buffer, and headers written for one fragment would spoil the data of the one before. There
 * the first program builds all fragments in that buffer beforehand, one beside the other with its headers, and the second
 * writes nothing: it only lets each copy begin and end elsewhere. Where that is not possible, the kernel fragments.
 *
 * This file has the order of decisions; xdp/ has a header for each.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "udp_df_direct.h"

/* What comes in. */
#include "xdp/frame.h"
#include "xdp/ip_options.h"
#include "xdp/maps.h"
#include "xdp/match.h"
#include "xdp/parsing.h"
#include "xdp/scratch.h"
#include "xdp/vxlan.h"

/* What goes out. */
#include "xdp/fragments.h"
#include "xdp/fragments_in_buffer.h"
#include "xdp/fragments_in_copies.h"
#include "xdp/ids.h"
#include "xdp/next_hop.h"
#include "xdp/rewrite.h"
#include "xdp/tx.h"

GATEWAY_MAPS(struct direct_config_slots, struct direct_stats);

/* ---- on the primary ENI ---- */

/* Finds the datagram in the inner frame. Returns PASS_NONE, or why it is not one to take. */
static __always_inline enum pass_reason parse_inner(struct frame *frame, const struct direct_config *rules)
{
	struct cursor inside = { frame->inner + 1, frame->end };
	struct datagram *datagram = &frame->datagram;

	if (!is_plain_ipv4(frame->inner))
		return PASS_NOT_UDP;
	switch (parse_datagram(&inside, datagram)) {
	case FOUND_OTHER:
		return PASS_NOT_UDP;
	case FOUND_MALFORMED:
		return PASS_MALFORMED;
	case FOUND_FRAGMENT:
		return PASS_FRAGMENT;
	case FOUND_DATAGRAM:
		break;
	}
	if (datagram->size + sizeof(struct ethhdr) > frame->length)
		return PASS_MALFORMED;
	if (!is_to_target(datagram, &rules->rule))
		return PASS_OTHER_PORT;
	if (is_special(datagram->ip->daddr) || is_no_source(datagram->ip->saddr, rules))
		return PASS_ADDRESS;
	return datagram->ip->ttl < 2 ? PASS_EXPIRED : PASS_NONE;
}

/* Verifies the inner IP header's checksum, options included, and the outer UDP checksum where there is one. */
static __always_inline enum pass_reason verify_checksums(
	struct xdp_md *ctx, struct frame *frame, const struct udphdr *outer, struct scratch *scratch)
{
	const struct iphdr *ip = frame->datagram.ip;
	__u16 sum = 0;

	frame->options_size = ip->ihl * 4 - sizeof(*ip);
	if (frame->options_size) {
		if (!read_options(ctx, frame->options_size))
			return PASS_OPTIONS;
		sum = bpf_htons(fold(scratch->options.sum));
		frame->options_diff = fold(checksum_diff(sum, bpf_htons(fold(scratch->options.later_sum))));
	}
	if (fold(ipv4_header_sum(ip) + sum) != 0xffff)
		return PASS_MALFORMED;
	if (outer->check && !is_outer_checksum_right(ctx))
		return PASS_OUTER_CHECKSUM;
	return PASS_NONE;
}

/* Fills `frame`. Returns PASS_NONE, or why it is not one to take. */
static __always_inline enum pass_reason parse_mirrored(struct xdp_md *ctx, struct frame *frame,
	const struct direct_config *rules, struct scratch *scratch, struct direct_stats *count)
{
	const struct udphdr *outer = frame->data + sizeof(struct ethhdr) + sizeof(struct iphdr);
	enum pass_reason reason;

	if (!is_mirrored(frame, rules))
		return PASS_NOT_MIRRORED;
	if (!is_our_vni(frame, rules))
		return PASS_OTHER_VNI;
	count->rule.packets_seen++;
	reason = parse_inner(frame, rules);
	if (reason != PASS_NONE)
		return reason;
	return verify_checksums(ctx, frame, outer, scratch);
}

/*
 * Returns whether the secondary ENI takes what would leave. Metadata and options in front of a copy take less than the outer
 * headers did; what the kernel fragments may be of any length.
 */
static __always_inline int is_sendable(const struct frame *frame, const struct direct_config *rules, __u32 fragments)
{
	__u32 length = sizeof(struct ethhdr) + frame->datagram.size;

	if (fragments == 1)
		return length <= rules->longest_frame;
	if (rules->fragmenting != FRAGMENT_COPIES)
		return rules->fragmenting == FRAGMENT_IN_BUFFER;
	return fragments <= MOST_FRAGMENTS && length + OUTER_HEADERS <= rules->longest_frame;
}

static __always_inline int send_single(struct xdp_md *ctx, struct frame *frame, const struct direct_config *rules,
	const struct next_hop *hop, struct direct_stats *count)
{
	dnat(frame, rules, decrement_ttl(frame->datagram.ip));
	set_macs(frame, hop->dest_mac, hop->source_mac);
	if (!decapsulate(ctx, frame, 0))
		return drop_failed(count);
	count->sent_whole++;
	return XDP_REDIRECT; /* lookup_next_hop() has said where to */
}

/* Punts to the kernel's forwarding, which looks up the next hop and decrements the TTL itself. */
static __always_inline int punt_to_stack(
	struct xdp_md *ctx, struct frame *frame, const struct direct_config *rules, struct direct_stats *count)
{
	dnat(frame, rules, 0);
	set_macs(frame, rules->primary_mac, rules->handover_mac);
	if (!decapsulate(ctx, frame, 0))
		return drop_failed(count);
	count->handed_over++;
	return XDP_PASS;
}

SEC("xdp")
int udp_df_direct(struct xdp_md *ctx)
{
	struct frame frame = { .data = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct datagram *datagram = &frame.datagram;
	__u32 only = 0, live = STATS_LIVE, fragments = 1;
	const struct direct_config_slots *all = bpf_map_lookup_elem(&config, &only);
	struct direct_stats *count = bpf_map_lookup_elem(&stats, &live);
	struct scratch *scratch = bpf_map_lookup_elem(&cpu_scratch, &only);
	const struct direct_config *rules;
	enum decision decision;
	enum pass_reason reason;

	if (!all || !count || !scratch)
		return XDP_PASS;
	rules = ACTIVE_CONFIG(all);
	reason = parse_mirrored(ctx, &frame, rules, scratch, count);
	if (reason == PASS_NOT_MIRRORED && is_spoofed(&frame, rules)) {
		count->forged++;
		return XDP_DROP;
	}
	if (reason != PASS_NONE)
		return pass_up(count, reason);
	decision = decide(datagram, &rules->rule, &count->rule);
	if (decision == LEAVE_TO_NETFILTER || (decision == KEEP_DF && !is_in_traffic_split(datagram, &rules->rule)))
		return pass_up(count, PASS_TRAFFIC_SPLIT);
	reason = lookup_next_hop(ctx, &frame, rules, &scratch->next_hop);
	if (reason != PASS_NONE)
		return pass_up(count, reason);

	if (datagram->size > scratch->next_hop.mtu) {
		if (decision == KEEP_DF && datagram->ip->frag_off & bpf_htons(IP_DF))
			return pass_up(count, PASS_KEEPS_DF);
		fragments = count_fragments(&frame, scratch->next_hop.mtu);
	}
	if (!is_sendable(&frame, rules, fragments))
		return pass_up(count, PASS_TOO_LONG);

	/* From here on there is no way back. */
	if (decision == CLEAR_DF) {
		clear_df(datagram->ip);
		count_modified(datagram, &count->rule);
	}
	if (!(datagram->ip->frag_off & bpf_htons(IP_DF)) && !assign_id(&frame, scratch))
		return drop_failed(count);
	if (fragments == 1)
		return send_single(ctx, &frame, rules, &scratch->next_hop, count);
	if (rules->fragmenting == FRAGMENT_COPIES)
		return send_copies(ctx, &frame, rules, fragments, scratch, count);
	if (can_build_fragments(&frame, rules, &scratch->next_hop, fragments))
		return send_built(ctx, &frame, rules, fragments, scratch, count);
	return punt_to_stack(ctx, &frame, rules, count);
}

/* ---- on what leaves, and on the secondary ENI ---- */

/* Runs on each frame that a device map sends. */
SEC("xdp/devmap")
int cut_fragment(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 only = 0, live = STATS_LIVE, number, header, offset, left, carried, flags = 0, diff = 0, words = 0;
	__u32 before = sizeof(struct frag_meta);
	struct headers headers, *from;
	struct direct_stats *count;
	struct scratch *scratch;
	struct frag_meta meta;

	/* Whole datagrams come by here, too, and have no time to lose. */
	if (data + sizeof(meta) > end || !(*(__u8 *)data & FRAG_META))
		return XDP_PASS;
	scratch = bpf_map_lookup_elem(&cpu_scratch, &only);
	count = bpf_map_lookup_elem(&stats, &live);
	if (!scratch || !count)
		return XDP_PASS;
	meta = *(struct frag_meta *)data;
	if (meta.mark == FRAG_META_BUILT)
		return select_fragment(ctx, &meta, scratch, count);
	if (meta.mark == FRAG_META_WITH_OPTIONS) {
		if (data + sizeof(meta) + MAX_OPTIONS > end)
			return drop_failed(count);
		__builtin_memcpy(headers.options, data + sizeof(meta), MAX_OPTIONS);
		before += MAX_OPTIONS;
	}
	data += before;
	from = data - PADDING;
	if ((void *)&from->options > end)
		return drop_failed(count);
	__builtin_memcpy(headers.ethernet, from->ethernet, sizeof(headers.ethernet));
	headers.ip = from->ip;

	number = copy_number(&meta, scratch, count);
	if (number >= meta.fragments)
		return drop_failed(count);
	header = headers.ip.ihl * 4;
	offset = number * (meta.payload & ~7);
	left = bpf_ntohs(headers.ip.tot_len) - header - offset;
	carried = left;
	if (left > meta.payload) {
		carried = meta.payload & ~7;
		flags = IP_MF;
	}
	if (number && header > sizeof(struct iphdr)) {
		words = header / 4 - sizeof(struct iphdr) / 4;
		diff = meta.options_diff;
	}
	make_fragment(&headers.ip, bpf_htons(header + carried), bpf_htons(offset / 8 | flags), diff);

	/* The headers come to lie on the data before, which other fragments carry. */
	if (bpf_xdp_adjust_head(ctx, before + offset) || !write_headers(ctx, &headers, words))
		return drop_failed(count);
	if (left > carried && bpf_xdp_adjust_tail(ctx, -(int)(left - carried)))
		return drop_failed(count);
	count->fragments_sent++;
	return XDP_PASS;
}

/* Lets drivers send what another interface redirects to them, which they do only while they have a program of their own. */
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

static __always_inline const struct direct_config *active_config(void)
{
	__u32 only = 0;
	const struct direct_config_slots *all = bpf_map_lookup_elem(&config, &only);

	return all ? ACTIVE_CONFIG(all) : NULL;
}

/* Arguments, as of include/trace/events/xdp.h: from_dev, to_dev, sent, drops, err. Drops without an error found the queue full. */
SEC("?tp_btf/xdp_devmap_xmit")
int count_unsent(__u64 *arguments)
{
	const struct net_device *from = (const void *)arguments[0], *to = (const void *)arguments[1];
	const struct direct_config *rules = active_config();
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
	const struct direct_config *rules = active_config();
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
