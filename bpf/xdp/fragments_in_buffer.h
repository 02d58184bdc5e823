/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fragments in generic mode, where all copies of a frame share one buffer: the first program builds all fragments in it, one
 * beside the other with its headers, the second one (cut_fragment) only selects where each copy begins and ends.
 */
#ifndef XDP_FRAGMENTS_IN_BUFFER_H
#define XDP_FRAGMENTS_IN_BUFFER_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "fragments.h"
#include "frame.h"
#include "rewrite.h"
#include "scratch.h"
#include "tx.h"

#define MIN_OPTIONS 4
#define MIN_PAYLOAD 8 /* in all fragments but the last */
/* In front of every frame (XDP_PACKET_HEADROOM), less what the kernel keeps of it for itself (struct xdp_frame). */
#define FREE_HEADROOM 192

/* Generic mode, and the kernel has what building takes; set by the loader. */
const volatile __u32 lays_out = 0;

/*
 * Returns where fragment `number` begins in a frame of that length. They lie in reverse, the first one at the end, because a
 * copy that ends where the frame ends needs no bpf_xdp_adjust_tail(): in generic mode that leaves the tail of the kernel's packet
 * 14 bytes too far (bpf_prog_run_generic_xdp, net/core/dev.c), and a receiver behind a veth that reassembles appends to the
 * first there.
 */
static __always_inline __u32 place_of(__u32 number, __u32 fragments, __u32 length, __u32 each)
{
	return number + 1 < fragments ? length - (number + 1) * each : sizeof(struct frag_meta);
}

/* Compares twice what compilers make one comparison of, from which verifiers before Linux 6.2 learn no least value. */
static __always_inline int are_options(__u32 *size)
{
	IN_ONE_REGISTER(*size);
	if (*size < MIN_OPTIONS)
		return 0;
	IN_ONE_REGISTER(*size);
	return *size <= MAX_OPTIONS;
}

/* Writes headers and data of fragment `number`. */
static __always_inline int build_fragment(
	struct xdp_md *ctx, struct fragment_plan *plan, __u32 number, __u8 *later_options)
{
	__u32 is_last = number + 1 == plan->fragments, options = plan->header - PLAIN_HEADERS;
	__u32 offset = number * plan->payload, size = is_last ? plan->size - offset : plan->payload;
	__u32 length = sizeof(struct frag_meta) + plan->fragments * plan->header + plan->size;
	__u32 to = place_of(number, plan->fragments, length, plan->header + plan->payload);
	struct headers headers;

	__builtin_memcpy(headers.ethernet, plan->headers.ethernet, sizeof(headers.ethernet));
	headers.ip = plan->headers.ip;
	make_fragment(&headers.ip, bpf_htons(plan->header - sizeof(struct ethhdr) + size),
		bpf_htons(is_last ? offset / 8 : offset / 8 | IP_MF), number ? plan->options_diff : 0);
	IN_ONE_REGISTER(offset);
	size--; /* that it is not 0 tells verifiers before Linux 6.2 nothing; that it is at least 1 does */
	IN_ONE_REGISTER(size);
	if (offset > MAX_BUILT_DATA || size >= MAX_BUILT_PAYLOAD)
		return 0;
	if (bpf_xdp_store_bytes(ctx, to, headers.ethernet, PLAIN_HEADERS) ||
		bpf_xdp_store_bytes(ctx, to + plan->header, plan->data + offset, size + 1))
		return 0;
	later_options = number ? later_options : (__u8 *)plan->headers.options;
	return !options ||
	       (are_options(&options) && !bpf_xdp_store_bytes(ctx, to + PLAIN_HEADERS, later_options, options));
}

/* Builds all fragments of the plan in the scratch. Not static, for the same reason as read_options(). */
__noinline int build_fragments(struct xdp_md *ctx)
{
	__u32 only = 0, size;
	struct scratch *scratch = bpf_map_lookup_elem(&cpu_scratch, &only);
	struct fragment_plan *plan;

	/* Verified even where nothing calls it, so on kernels without the helpers, too. */
	if (!lays_out || !scratch)
		return 0;
	plan = &scratch->plan;
	size = plan->size;
	IN_ONE_REGISTER(size);
	if (size <= MIN_PAYLOAD || size > MAX_BUILT_DATA)
		return 0;
	/* Behind the metadata, the further headers and the datagram's own. */
	if (bpf_xdp_load_bytes(ctx, sizeof(struct frag_meta) + plan->fragments * plan->header, plan->data, size))
		return 0;
#pragma nounroll
	for (__u32 number = 0; number < MOST_FRAGMENTS; number++) {
		if (number >= plan->fragments)
			break;
		if (!build_fragment(ctx, plan, number, scratch->options.later))
			return 0;
	}
	return 1;
}

static __always_inline __u32 size_of_headers(const struct frame *frame)
{
	return PLAIN_HEADERS + frame->options_size;
}

/* Returns whether all fragments fit. Nothing may have to be cut off at the end: see place_of(). */
static __always_inline int can_build_fragments(
	const struct frame *frame, const struct direct_config *rules, const struct next_hop *hop, __u32 fragments)
{
	__u32 more = sizeof(struct frag_meta) + (fragments - 1) * size_of_headers(frame), size = frame->datagram.size;

	return lays_out && fragments <= MOST_FRAGMENTS && more <= FREE_HEADROOM + OUTER_HEADERS &&
	       hop->mtu <= MAX_BUILT_PAYLOAD && size <= MAX_BUILT_DATA && !trailer_size(frame) &&
	       sizeof(struct ethhdr) + size + more <= rules->longest_frame;
}

/* Takes the room in front of the frame, where the outer headers were and what the kernel leaves free. */
static __always_inline int send_built(struct xdp_md *ctx, struct frame *frame, const struct direct_config *rules,
	__u32 fragments, struct scratch *scratch, struct direct_stats *count)
{
	struct fragment_plan *plan = &scratch->plan;
	__u32 header = size_of_headers(frame), options = frame->options_size;
	struct frag_meta meta = {
		.mark = FRAG_META_BUILT,
		.fragments = fragments,
		.payload = (scratch->next_hop.mtu - sizeof(struct iphdr) - options) & ~7,
		.sequence = ++scratch->sequence,
		.header = header,
	};
	__u32 more = sizeof(meta) + (fragments - 1) * header;

	dnat(frame, rules, decrement_ttl(frame->datagram.ip));
	set_macs(frame, scratch->next_hop.dest_mac, scratch->next_hop.source_mac);
	__builtin_memcpy(plan->headers.ethernet, frame->inner, sizeof(plan->headers.ethernet));
	plan->headers.ip = *frame->datagram.ip;
	plan->options_diff = frame->options_diff;
	plan->fragments = fragments;
	plan->header = header;
	plan->payload = meta.payload;
	plan->size = frame->datagram.size - sizeof(struct iphdr) - options;
	if (!decapsulate(ctx, frame, more))
		return drop_failed(count);
	if (options && (!are_options(&options) ||
			       bpf_xdp_load_bytes(ctx, more + PLAIN_HEADERS, plan->headers.options, options)))
		return drop_failed(count);
	if (!build_fragments(ctx) || bpf_xdp_store_bytes(ctx, 0, &meta, sizeof(meta)))
		return drop_failed(count);
	count->sent_cut++;
	count->fragments_due += fragments;
	return redirect_copies(fragments);
}

/* Makes a copy begin and end where its fragment does, which lies there already beside the others. */
static __always_inline int select_fragment(
	struct xdp_md *ctx, const struct frag_meta *meta, struct scratch *scratch, struct direct_stats *count)
{
	__u32 number = copy_number(meta, scratch, count), each = meta->header + meta->payload;
	long length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	IN_ONE_REGISTER(length);
	if (number >= meta->fragments)
		return drop_failed(count);
	if (number && bpf_xdp_adjust_tail(ctx, -(int)(number * each)))
		return drop_failed(count);
	if (bpf_xdp_adjust_head(ctx, place_of(number, meta->fragments, length, each)))
		return drop_failed(count);
	count->fragments_sent++;
	return XDP_PASS;
}

#endif
